# Types of the extension module that cffi builds from csrc/native_simd.h.

from typing import Any

ffi: Any
lib: Any

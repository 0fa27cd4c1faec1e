"""An emulated x86-64 CPU (Bochs) that runs functions of a shared object on this process's own memory.

It decodes the real machine code: an instruction that the chosen model lacks traps, and so does an access to a page that
was not handed over. A function may take up to six integers or pointers and must not call outside its shared object. It
proves results and bounds of memory access, never speed.
"""

from __future__ import annotations

import ctypes
import importlib
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.lib.array_utils import byte_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray

_Emulated: TypeAlias = Any  # the emulator's classes have no types

# Numbers of Bochs' "cpu.model".
MODELS = {"skylake_x": 26, "icelake_u": 28, "sapphire_rapids": 30, "arrow_lake": 31}
ALL_STATE, NO_ZMM_STATE, NO_YMM_STATE = 0xE7, 0x07, 0x03  # XCR0: what the operating system saves

_PAGE_BYTES = 4096
_ARGUMENT_REGISTERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_PAGE_TABLES_AT, _GUEST_MEMORY_AT = 0x100000, 0x1000000
_GENERAL_PROTECTION = 13
_HLT = 0xF4
# The wheel was linked against a newer C library; these are the two names it wants.
_NEWER_LIBC = r"""
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
unsigned long long __isoc23_strtoull(const char *s, char **end, int base) { return strtoull(s, end, base); }
int __isoc23_sscanf(const char *s, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int n = vsscanf(s, format, arguments);
    va_end(arguments);
    return n;
}
"""


class Trap(Exception):  # noqa: N818 - it is the CPU's word
    """The function faulted.

    Attributes
    ----------
    vector : int
        6: an instruction that this CPU lacks (#UD); 14: an access outside the given memory (#PF).
    """

    def __init__(self, vector: int, rip: int, address: int) -> None:
        super().__init__(f"vector {vector} at {rip:#x}, address {address:#x}")
        self.vector = vector


def load_emulator(folder: Path) -> ModuleType:
    """Import ``bochscpu``, on an older C library too."""
    source, library = folder / "newer_libc.c", folder / "newer_libc.so"
    source.write_text(_NEWER_LIBC)
    subprocess.run(["gcc", "-std=gnu11", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    for submodule in ("cpu", "memory"):
        importlib.import_module(f"bochscpu.{submodule}")
    return importlib.import_module("bochscpu")


def _pages_of_file(path: str) -> Iterator[tuple[int, int, bool]]:
    with Path("/proc/self/maps").open(encoding="utf-8") as maps:
        for line in maps:
            if line.rstrip().endswith(path) and "r" in line.split()[1]:
                low, high = (int(part, 16) for part in line.split()[0].split("-"))
                yield low, high - low, "w" in line.split()[1]


class EmulatedCpu:
    """One CPU of a given model; it sees the shared object, the arrays of a call and a stack."""

    def __init__(self, bochscpu: ModuleType, library: Path, model: str, xcr0: int = ALL_STATE) -> None:
        self._bochscpu, self._library, self._xcr0 = bochscpu, str(library.resolve()), xcr0
        self._model = MODELS[model]
        self._stack = np.zeros(64 * _PAGE_BYTES, np.uint8)
        self._return_page = np.full(2 * _PAGE_BYTES, _HLT, np.uint8)

    def __call__(self, address: int, *arguments: NDArray[Any] | int) -> int:
        """Run the function at an address until it returns; arrays are passed by reference."""
        memory = self._bochscpu.memory
        table, guest = memory.PageMapLevel4Table(), _GUEST_MEMORY_AT
        for page, writable in self._visible_pages(arguments).items():
            table.insert(page, guest, int(writable))
            memory.page_insert(guest, page)
            guest += _PAGE_BYTES
        for host, physical in table.commit(_PAGE_TABLES_AT):
            memory.page_insert(physical, host)
        rax = self._run_until_return(self._entry_state(address, arguments))
        return rax - (1 << 64) if rax >> 63 else rax

    def _visible_pages(self, arguments: tuple[NDArray[Any] | int, ...]) -> dict[int, bool]:
        spans = list(_pages_of_file(self._library))
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        bounds = [byte_bounds(a) for a in (self._stack, self._return_page, *arrays)]
        spans += [(low, high - low, True) for low, high in bounds]
        pages: dict[int, bool] = {}
        for start, n_bytes, writable in spans:
            for page in range(start & -_PAGE_BYTES, start + n_bytes, _PAGE_BYTES):
                pages[page] = writable or pages.get(page, False)
        return pages

    def _entry_state(self, address: int, arguments: tuple[NDArray[Any] | int, ...]) -> _Emulated:
        state = self._bochscpu.State()
        self._bochscpu.cpu.set_long_mode(state)
        state.cr3 = _PAGE_TABLES_AT
        state.cr4 |= 1 << 9 | 1 << 10 | 1 << 18  # OSFXSR, OSXMMEXCPT, OSXSAVE
        state.cr0 = (state.cr0 | 2) & ~(4 | 8)  # FPU present, no task switch pending
        state.xcr0, state.mxcsr, state.mxcsr_mask = self._xcr0, 0x1F80, 0xFFFF
        state.cs = self._segment(0x33, 0x22FB)
        for name in ("ds", "ss", "es", "fs", "gs"):
            setattr(state, name, self._segment(0x2B, 0xCF3))
        for name, argument in zip(_ARGUMENT_REGISTERS[: len(arguments)], arguments, strict=True):
            value = argument.ctypes.data if isinstance(argument, np.ndarray) else argument
            setattr(state, name, value & (2**64 - 1))
        offset = (self._stack.nbytes - _PAGE_BYTES) & ~63
        offset -= (self._stack.ctypes.data + offset) % 64 + 8  # as after a call: 16-byte aligned but for the address
        self._stack[offset : offset + 8] = np.frombuffer(struct.pack("<Q", self._return_page.ctypes.data), np.uint8)
        state.rsp, state.rip = self._stack.ctypes.data + offset, address
        return state

    def _segment(self, selector: int, attributes: int) -> _Emulated:
        segment = self._bochscpu.Segment()
        segment.present, segment.selector, segment.attr = True, selector, attributes
        segment.base, segment.limit = 0, 0xFFFFFFFF
        return segment

    def _new_session(self) -> _Emulated:
        """Return a fresh CPU of this model: the model is a global setting, and one session may live at a time."""
        emulator = ctypes.CDLL(self._bochscpu._bochscpu.__file__)
        emulator.sim_get_param_enum.restype = ctypes.c_void_p
        set_initial = emulator._ZN14bx_param_num_c15set_initial_valEl
        set_initial.argtypes = [ctypes.c_void_p, ctypes.c_long]
        set_initial(emulator.sim_get_param_enum(b"cpu.model"), self._model)
        return self._bochscpu.Session()

    def _run_until_return(self, state: _Emulated) -> int:
        """Run to the HLT that the function returns to, which is privileged and so ends the run; return RAX."""
        faults: list[tuple[int, int, int]] = []

        def stop(session: _Emulated, _cpu: int, vector: int, _error: int) -> None:
            faults.append((vector, session.cpu.rip, session.cpu.cr2))
            session.stop()

        session, hook = self._new_session(), self._bochscpu.Hook()
        hook.exception = stop
        session.cpu.state = state
        session.run([hook])
        vector, rip, address = faults[-1]
        if vector != _GENERAL_PROTECTION or rip - self._return_page.ctypes.data not in (0, 1):
            del session, hook  # the traceback would keep them alive
            raise Trap(vector, rip, address)
        return int(session.cpu.state.rax)

"""Packaging hooks that pyproject.toml cannot express: the cffi extension and its abi3 wheel tag."""

from setuptools import setup

setup(
    cffi_modules=["native_simd/_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)

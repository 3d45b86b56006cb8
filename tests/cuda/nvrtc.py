"""NVRTC, CUDA's compiler as a library, without a GPU: from the wheels nvidia-cuda-nvrtc-cu12 or -cu13."""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

from tests.cuda.kept import beside, place_of


@cache
def find_library() -> ctypes.CDLL | None:
    """The library of an installed wheel, or the system's; None where there is neither."""
    candidates = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
    for package in ("nvidia.cuda_nvrtc", "nvidia.cu13"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in spec.submodule_search_locations or [] if spec else []:
            found = sorted(Path(folder).glob("lib/libnvrtc.so*"))
            candidates = [str(path) for path in found if "alt" not in path.name] + candidates
    for name in candidates:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def version() -> tuple[int, int]:
    """The library's, as (12, 9); (0, 0) where there is none."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    if (nvrtc := find_library()) is not None:
        _check(nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def compile_to_cubin(source: str, options: tuple[str, ...]) -> bytes:
    """The machine code of a source. Raises AssertionError with the compiler's words where it is wrong."""
    place = place_of(f"NVRTC {version()}", *options, source, ending=".cubin")
    if not place.exists():
        unfinished = beside(place, ".cubin")
        unfinished.write_bytes(_compile(source, options))
        unfinished.rename(place)
    return place.read_bytes()


def _compile(source: str, options: tuple[str, ...]) -> bytes:
    nvrtc, program = find_library(), ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        flags = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        failed = nvrtc.nvrtcCompileProgram(program, len(options), flags)
        assert not failed, _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode()
        return _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(get_size: ctypes._CFuncPtr, get: ctypes._CFuncPtr, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(get_size(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(get(program, buffer))
    return buffer.raw


def _check(status: int) -> None:
    assert status == 0, f"NVRTC: status {status}"

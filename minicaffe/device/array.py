"""The device: which array library computes, where arrays are stored, and its random numbers.

This is the one module that imports CuPy. Everything else asks a ``Device`` for its array module (``xp``) and
writes ``xp.maximum(x, 0, out=y)``: NumPy on a CPU, CuPy on a GPU.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from minicaffe.errors import CommunicatorError, DeviceError, one_line

NOT_INSTALLED = "CuPy is not installed (pip install 'minicaffe[cuda12]' or 'minicaffe[cuda13]')"

try:
    import cupy
    import cupyx
except Exception as problem:  # a broken CuPy may raise anything
    cupy = cupyx = None
    is_missing = isinstance(problem, ModuleNotFoundError) and problem.name == "cupy"
    why_no_cupy = NOT_INSTALLED if is_missing else f"CuPy is installed, but broken ({one_line(problem)})"

Array: TypeAlias = NDArray[Any]  # or a cupy.ndarray, which has the same methods


def gpu_problem(index: int = 0) -> str:
    """Why a GPU, by default the first, cannot be used, in a few words, or "" if it can."""
    if cupy is None:
        return why_no_cupy
    try:
        runtime = cupy.cuda.runtime
        if not runtime.driverGetVersion() or not runtime.getDeviceCount():
            return "CuPy is installed, but finds no CUDA driver or no GPU (does nvidia-smi list one?)"
        if index >= runtime.getDeviceCount():
            return f"this machine has {runtime.getDeviceCount()} GPU(s), counted from 0"
    except Exception as error:  # a broken driver raises types of its own
        return f"CuPy is installed, but CUDA does not answer ({one_line(error)})"
    try:
        with cupy.cuda.Device(index):  # no other: each takes memory for every process that computes on it
            cupy.ones((2, 2)).dot(cupy.ones((2, 2)))  # needs cuBLAS, and NVRTC with its headers
    except Exception as error:
        return (
            f"CuPy finds a GPU, but cannot compute on it ({one_line(error)}); what it lacks may come with "
            "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', or be a newer driver"
        )
    return ""


def gpu_count() -> int:
    """How many GPUs this process finds."""
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception:  # no CuPy, no driver, or a broken one: ``gpu_problem`` says which
        return 0


@dataclass(frozen=True)
class Device:
    """A place to compute: ``kind`` is "cpu" or "gpu", ``index`` the number of the GPU."""

    kind: str = "cpu"
    index: int = 0

    @property
    def xp(self) -> ModuleType:
        """The array module of the device: numpy or cupy."""
        return np if self.kind == "cpu" else cupy

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"gpu:{self.index}"

    @property
    def address(self) -> str:
        """The GPU's place in its machine (its PCI bus ID), whatever number this process has for it; "" of a CPU."""
        return "" if self.kind == "cpu" else str(cupy.cuda.Device(self.index).pci_bus_id)

    def rng(self, seed: int) -> Any:
        """A random generator on the device; equal seeds give equal numbers on equal devices."""
        if self.kind == "cpu":
            return np.random.Generator(np.random.SFC64(seed))
        with self.entered():
            return cupy.random.Generator(cupy.random.Philox4x3210(seed))

    def put(self, array: Any, dtype: Any = None) -> Array:
        """The array on this device (the same one if it is there already)."""
        if self.kind == "cpu":
            return np.asarray(to_host(array), dtype=dtype)
        with self.entered():
            placed: Array = cupy.asarray(array, dtype=dtype)
            return placed

    def entered(self) -> contextlib.AbstractContextManager[object]:
        """A context in which this thread computes here; CUDA has a current GPU per thread, at first number 0."""
        return contextlib.nullcontext() if self.kind == "cpu" else cupy.cuda.Device(self.index)

    def transfer(self) -> HostTransfer | Transfer:
        """A new transfer of arrays from the host to this device."""
        return HostTransfer() if self.kind == "cpu" else Transfer(self.index)

    def synchronize(self) -> None:
        """Wait until everything launched on the device is done."""
        if self.kind == "gpu":
            cupy.cuda.Device(self.index).synchronize()


CPU = Device()


class HostTransfer:
    """A ``Transfer`` for a CPU: nothing moves."""

    def __init__(self) -> None:
        self.array = np.empty(0)
        self.shape: tuple[int, ...] = self.array.shape

    def send(self, array: np.ndarray) -> None:
        """Keep a reference to the array."""
        self.array = array
        self.shape = array.shape

    def take(self, target: Array) -> None:
        """Copy what was sent into ``target``."""
        target[...] = self.array


class SideStream:
    """A stream of a GPU beside the current one. Either comes after what the other does only where it is told to."""

    def __init__(self, index: int) -> None:
        self._device = cupy.cuda.Device(index)
        with self._device:
            self._stream = cupy.cuda.Stream(non_blocking=True)

    @property
    def handle(self) -> int:
        """CUDA's own name of the stream, for a library that launches work there."""
        return int(self._stream.ptr)

    def follow(self) -> None:
        """What is launched here from now on comes after all that the current stream was asked for up to now."""
        with self._device:
            self._stream.wait_event(_mark(cupy.cuda.get_current_stream()))

    def mark(self) -> Any:
        """The moment, as an event, at which all is done that was launched here up to now."""
        with self._device:
            return _mark(self._stream)

    def let_follow(self, event: Any) -> None:
        """What the current stream is asked for from now on comes after that moment. The host does not wait."""
        with self._device:
            cupy.cuda.get_current_stream().wait_event(event)


def _event() -> Any:
    return cupy.cuda.Event(disable_timing=True)


def _mark(stream: Any) -> Any:
    return stream.record(_event())


class Transfer(SideStream):
    """Copies arrays from the host to a GPU while it computes; ``take`` does not make the host wait.

        send (in a thread)      array → pinned memory → (a stream of its own) → device buffer
        take (in the net)       the net's stream waits for that copy, then copies the buffer into a blob

    ``send`` and ``take`` come in turns; the next ``send`` waits until the GPU has read the pinned memory.
    """

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.shape: tuple[int, ...] = ()
        self._pinned: Any = None
        self._buffer: Any = None
        with self._device:
            self._sent, self._taken = _event(), _event()

    def send(self, array: np.ndarray) -> None:
        """Start the array's copy; the array is not needed afterwards."""
        with self._device:
            self._sent.synchronize()  # the last copy, also one that nobody has taken, has read the pinned memory
            self._make_room(array)
            self._pinned[...] = array
            self._stream.wait_event(self._taken)
            self._buffer.set(self._pinned, stream=self._stream)
            self._sent.record(self._stream)

    def _make_room(self, array: np.ndarray) -> None:
        if self._pinned is not None and (self.shape, self._pinned.dtype) == (array.shape, array.dtype):
            return
        self.shape = array.shape
        self._pinned = cupyx.empty_pinned(array.shape, array.dtype)
        with self._stream:  # the old buffer may still be in use: the pool reuses it on this stream only
            self._buffer = cupy.empty(array.shape, array.dtype)

    def take(self, target: Array) -> None:
        """Copy what was sent into ``target``, which may have another number type."""
        self.let_follow(self._sent)
        target[...] = self._buffer
        self._taken.record(cupy.cuda.get_current_stream())


def parse_device(name: str) -> Device:
    """The device that "auto", "cpu", "gpu" or "gpu:1" names. Raises DeviceError if it cannot be used."""
    kind, colon, number = name.strip().lower().partition(":")
    if kind not in ("auto", "cpu", "gpu") or (colon and (kind != "gpu" or not number.isdecimal())):
        raise DeviceError(f"device '{name}': must be auto, cpu, gpu or gpu:N")
    index = int(number or 0)
    problem = gpu_problem(index) if kind != "cpu" else ""
    if kind == "cpu" or (kind == "auto" and problem):
        return CPU
    if problem:
        raise DeviceError(f"device '{name}': {problem}; choose cpu")
    cupy.cuda.Device(index).use()
    return Device("gpu", index)


_current: Device | None = None


def set_device(name: str | Device) -> Device:
    """Choose the device for all nets made from now on. Raises DeviceError."""
    global _current
    device = _current = parse_device(str(name))
    return device


def current_device(choose: Callable[[str], str] = str) -> Device:
    """The chosen device; if none was chosen, what ``choose`` makes of MINICAFFE_DEVICE, or else of "auto"."""
    if _current is not None:
        return _current
    try:
        return set_device(choose(os.environ.get("MINICAFFE_DEVICE") or "auto"))
    except DeviceError as error:
        raise DeviceError(f"environment variable MINICAFFE_DEVICE: {error}") from None


def describe_devices() -> str:
    """The available devices, and what is missing for a GPU, as lines of text."""
    lines = [f"cpu: {os.cpu_count()} cores, NumPy {np.__version__}"]
    problem = gpu_problem()
    if problem:
        return "\n".join([*lines, f"gpu: none usable: {problem}", "auto: cpu"])
    for index in range(cupy.cuda.runtime.getDeviceCount()):
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        name, memory = properties["name"].decode(), properties["totalGlobalMem"] / 2**30
        lines.append(f"gpu:{index}: {name}, {memory:.1f} GiB, CuPy {cupy.__version__}")
    return "\n".join([*lines, "auto: gpu:0"])


def module_of(array: Array) -> ModuleType:
    """numpy or cupy, whichever the array belongs to."""
    return np if cupy is None or isinstance(array, np.ndarray) else cupy.get_array_module(array)


def on_cpu(array: Array) -> bool:
    """Whether the array is in the host's memory."""
    return isinstance(array, np.ndarray)


def to_host(array: Any) -> np.ndarray:
    """The array as a NumPy array (the same one if it is one already)."""
    if cupy is not None and isinstance(array, cupy.ndarray):
        host: Array = cupy.asnumpy(array)
        return host
    return np.asarray(array)


def to_device(array: Any, dtype: Any = None) -> Array:
    """The array on the current device."""
    return current_device().put(array, dtype)


def synchronize() -> None:
    """Wait until everything launched on the current device is done."""
    current_device().synchronize()


def allow_tf32() -> None:
    """Let a GPU round the factors of float32 products to TF32's 10 bits: faster, but less exact.

    Call it before the first product of the process, which is when CuPy reads its variable CUPY_TF32.
    """
    os.environ["CUPY_TF32"] = "1"


def pool_bytes() -> int:
    """The bytes in use in CuPy's memory pool on the current GPU; 0 on a CPU."""
    return cupy.get_default_memory_pool().used_bytes() if current_device() != CPU else 0


def is_device_error(error: Exception) -> bool:
    """Whether CUDA raised it: a lost device, a kernel that does not compile, a missing or failing library."""
    missing = isinstance(error, ImportError) and "lib" in str(error)
    return missing or type(error).__module__.partition(".")[0] in ("cupy", "cupy_backends", "cuda")


def nccl_library() -> Any:
    """CuPy's module of NCCL, which has to be imported by itself. Raises CommunicatorError if NCCL is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy's, of eight lines, about what the error says
        library = importlib.import_module("cupy.cuda.nccl")
    if not library.available:
        raise CommunicatorError(
            "several ranks on GPUs need NCCL, and CuPy finds none: pip install nvidia-nccl-cu12 (nvidia-nccl-cu13 "
            "where CuPy is for CUDA 13), or choose --device cpu"
        )
    return library


def raw_kernel(source: str, name: str) -> Any:
    """A CUDA kernel, to be called with a grid, a block and arguments; compiled at its first launch."""
    return cupy.RawKernel(source, name)


def checked_linalg(array: Array) -> contextlib.AbstractContextManager[object]:
    """A context in which a factorization that fails raises numpy.linalg.LinAlgError.

    NumPy's always do; CuPy's have to read a flag back for that, which waits for the device.
    """
    return contextlib.nullcontext() if on_cpu(array) else cupyx.errstate(linalg="raise")


def rng_state(rng: Any) -> dict[str, Any] | None:
    """The state of a CPU generator as JSON-able values; None for a GPU's, whose state cannot be read."""
    if not hasattr(rng, "bit_generator") or not isinstance(rng, np.random.Generator):
        return None
    state = dict(rng.bit_generator.state)
    return {**state, "state": {"state": [int(word) for word in state["state"]["state"]]}}


def set_rng_state(rng: Any, state: dict[str, Any]) -> None:
    """Restore a state that ``rng_state`` returned."""
    words = np.array(state["state"]["state"], np.uint64)
    if words.shape != rng.bit_generator.state["state"]["state"].shape:  # NumPy would repeat a single word
        raise ValueError(f"{words.size} words for the state of a random generator")
    rng.bit_generator.state = {**state, "state": {"state": words}}

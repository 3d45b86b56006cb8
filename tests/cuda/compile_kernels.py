"""Compile every CUDA kernel, without a GPU, for GPUs of three generations; for the oldest in every number type.

python -m tests.cuda.compile_kernels
"""

from __future__ import annotations

import sys

from tests.cuda import nvrtc
from tests.cuda.kernels import all_kernels, sources

OLDEST = "sm_75" if nvrtc.version() >= (13, 0) else "sm_70"  # CUDA 13 has given up Volta
ARCHITECTURES = [OLDEST, "sm_80", "sm_90"]


def compile_all() -> list[str]:
    """What is wrong: a line for each kernel that does not compile. Shows how far it is."""
    cases = [(name, kernel, arch) for arch in ARCHITECTURES for name, kernel in all_kernels().items()]
    faults = []
    for done, (name, kernel, architecture) in enumerate(cases, 1):
        types = list(sources(kernel))
        # types that do not fit each other do so on no GPU, and a new one has what an old one had
        for source in types if architecture == OLDEST else types[:1]:
            try:
                cubin = nvrtc.compile_to_cubin(source, ("-std=c++17", f"--gpu-architecture={architecture}"))
            except AssertionError as error:
                faults.append(f"{name}, {architecture}: {error}")
            else:
                if cubin[:4] != b"\x7fELF" or name.encode() not in cubin:
                    faults.append(f"{name}, {architecture}: the result is not its machine code")
        print(f"{name}, {architecture} [{100 * done // len(cases):3}%]", flush=True)
    return faults


if __name__ == "__main__":
    found = compile_all()
    print(*found, sep="\n")
    sys.exit(1 if found else 0)

"""Starts ranks for ``distributed.py`` and talks with them; the nets and solvers that they train."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PROTOTXT = ROOT / "prototxt"
RANK = Path(__file__).with_name("distributed_rank.py")
PATIENCE = 300  # seconds until a rank answers
Spec = dict[str, Any]


class Ranks:
    """Processes of ``distributed_rank.py``, each with a solver; all do what they are told at the same time.

    ``by``: a command that starts them, with what it needs of flags, in place of ``mpiexec -n``.
    """

    def __init__(self, count: int, by: Sequence[str] = (), **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = (Path(self._folder.name) / "log").open("w+")
        address = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address)
            server.listen(count)
            server.settimeout(PATIENCE / 10)
            start = [*by] or ([mpiexec(), "-n", str(count)] if count > 1 else [])
            self._process = subprocess.Popen(
                [*start, sys.executable, str(RANK), address],
                cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            )  # fmt: skip
            self._streams: dict[int, Any] = {}
            for _ in range(count):
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    raise SystemExit(f"ranks did not start:\n{self._said()}") from None
                connection.settimeout(PATIENCE)
                stream = connection.makefile("rwb")
                connection.close()
                self._streams[self._load(stream)] = stream

    def call(self, method: str, *args: Any, **options: Any) -> list[Any]:
        """Call a method of all ranks; what they return, in the order of the ranks."""
        for stream in self._streams.values():
            pickle.dump((method, args, options), stream)
            stream.flush()
        return [self._load(self._streams[rank]) for rank in sorted(self._streams)]

    def _load(self, stream: Any) -> Any:
        try:
            return pickle.load(stream)
        except EOFError:
            raise SystemExit(f"a rank has ended:\n{self._said()}") from None

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:]

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *exception: object) -> None:
        for stream in self._streams.values():
            stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()


def mpiexec() -> str:
    """The ``mpiexec`` beside this Python, or else the first in PATH."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise SystemExit("several ranks need mpiexec: pip install 'minicaffe[mpi]'")
    return found


# -- what they train -------------------------------------------------------------------------------------


def train_net(name: str, batch: int, augments: bool = True) -> Spec:
    """The layers that a net of ``prototxt/`` has in training, for a batch of one rank."""
    spec = yaml.safe_load((PROTOTXT / name / "train.yaml").read_text())
    spec["layer"] = [x for x in spec["layer"] if x.get("include", {}).get("phase", "TRAIN") == "TRAIN"]
    data = spec["layer"][0]
    next(value for key, value in data.items() if key.endswith("data_param"))["batch_size"] = batch
    if not augments:
        for field in ("mirror", "pad", "crop_size"):
            data["transform_param"].pop(field, None)
    return spec


def with_batch_norm(spec: Spec) -> Spec:
    """The net with BatchNorm over all ranks, and Scale, after each convolution."""
    layers: list[Spec] = []
    for layer in spec["layer"]:
        layers.append(layer)
        if layer["type"] == "Convolution":
            layer["convolution_param"] |= {"bias_term": False, "weight_filler": {"type": "msra"}}
            layer["param"] = layer["param"][:1]
            name, number = layer["name"], layer["name"].removeprefix("conv")
            common = {"bottom": name, "top": name}
            layers.append(
                {"name": f"bn{number}", "type": "BatchNorm", **common, "batch_norm_param": {"sync": True}}
            )
            layers.append(
                {"name": f"scale{number}", "type": "Scale", **common, "scale_param": {"bias_term": True}}
            )
    return {"name": f"{spec['name']} with BatchNorm", "layer": layers}


def solver_text(name: str, **fields: Any) -> str:
    """The solver of a net of ``prototxt/``, without tests, snapshots and what it shows, and with other fields."""
    spec = yaml.safe_load((PROTOTXT / name / "solver.yaml").read_text())
    left_out = ("test_iter", "test_interval", "snapshot", "snapshot_prefix", "display")
    kept = {key: value for key, value in spec.items() if key not in left_out}
    return json.dumps(kept | {"random_seed": 1} | {k: v for k, v in fields.items() if v is not None})


def has_data(spec: Spec) -> bool:
    """Whether the images that a net trains on are there."""
    param = next(value for key, value in spec["layer"][0].items() if key.endswith("data_param"))
    return "source" not in param or param["source"].startswith("sample/") or (ROOT / param["source"]).exists()


# -- two ranks with a link between them ------------------------------------------------------------------

NAMESPACES, ADDRESSES, DEVICE = ("minicaffe0", "minicaffe1"), ("10.77.0.1", "10.77.0.2"), "minicaffe"
SSH = """#!/bin/bash
# In place of ssh: runs a command in the network namespace of a host.
while [[ $1 == -* ]]; do shift; done
case $1 in {}) space={};; *) space={};; esac
shift
exec ip netns exec $space bash -c "$*"
"""
OVER_TCP = {  # and not by shared memory
    "MPIR_CVAR_NOLOCAL": "1",
    "MPIR_CVAR_CH4_NETMOD": "ofi",
    "FI_PROVIDER": "tcp",
    "FI_TCP_IFACE": DEVICE,
}


def can_make_namespaces() -> bool:
    """Whether this user may make network namespaces, and there is what makes them."""
    if not (shutil.which("ip") and shutil.which("tc") and hasattr(os, "geteuid") and os.geteuid() == 0):
        return False
    _remove_namespaces()
    made = subprocess.run(["ip", "netns", "add", NAMESPACES[0]], capture_output=True)
    _remove_namespaces()
    return made.returncode == 0


@contextlib.contextmanager
def two_namespaces(rate: float) -> Iterator[list[str]]:
    """Two network namespaces with a link of so many bits a second; how MPICH starts a rank in each."""
    first, second = NAMESPACES
    with tempfile.TemporaryDirectory() as folder:
        ssh = Path(folder) / "ssh"
        ssh.write_text(SSH.format(ADDRESSES[0], *NAMESPACES))
        ssh.chmod(0o755)
        _remove_namespaces()  # of a run that was killed
        try:
            for name in NAMESPACES:
                _ip("netns", "add", name)
            _ip(
                "link", "add", DEVICE, "netns", first, "type", "veth", "peer", "name", DEVICE, "netns", second
            )
            for name, address in zip(NAMESPACES, ADDRESSES, strict=True):
                _ip("-n", name, "link", "set", "lo", "up")
                _ip(
                    "-n", name, "link", "set", DEVICE, "addrgenmode", "none"
                )  # no IPv6, which is not ready at once
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", DEVICE)
                _ip("-n", name, "link", "set", DEVICE, "up")
                shape = ["root", "tbf", "rate", f"{rate:.0f}bit", "burst", "64kb", "latency", "50ms"]
                _ip("netns", "exec", name, "tc", "qdisc", "add", "dev", DEVICE, *shape)
            time.sleep(1)  # the link comes up a moment later
            yield [
                *("ip", "netns", "exec", first, mpiexec(), "-launcher", "ssh", "-launcher-exec", str(ssh)),
                *("-iface", DEVICE, "-hosts", ",".join(ADDRESSES), "-ppn", "1", "-n", "2"),
            ]
        finally:
            _remove_namespaces()


def _remove_namespaces() -> None:
    for name in NAMESPACES:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True)

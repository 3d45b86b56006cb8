"""Every solver follows Caffe 1.0's trajectory: the same weights after 1, 10 and 20 (25) steps."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import minicaffe as mc
from minicaffe.device.array import to_device, to_host
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver

pytestmark = pytest.mark.cpu_only("test_gpu.py has these tests on the double")

with np.load(Path(__file__).parents[1] / "golden" / "solvers.npz", allow_pickle=False) as file:
    RECORDED = {key: file[key] for key in file.files}
RUNS = sorted(key.removesuffix("/solver") for key in RECORDED if key.endswith("/solver"))

# A first step that divides the gradient by its own size shows the gradient's last digits.
SENSITIVE = {"adagrad", "rmsprop"}
# A bias under a BatchNorm, and the mean there: the gradient is 0 but for rounding; Adam makes steps of it.
NOISE = {("recorded_adam_bn", "c1_1"), ("recorded_adam_bn", "bn_0"), ("recorded_sgd_bn", "c1_1")}


def values(prefix):
    return {key.removeprefix(prefix): value for key, value in RECORDED.items() if key.startswith(prefix)}


def param_blob(net, key):
    layer, _, index = key.rpartition("_")
    return net.params[layer][int(index)]


@pytest.mark.parametrize("run", RUNS)
def test_solver_follows_caffe(run):
    problem = str(RECORDED[f"{run}/problem"])
    spec = {**yaml.safe_load(str(RECORDED[f"{run}/solver"])), "net": "given"}
    solver = mc.Solver(parse_solver(yaml.safe_dump(spec)), net=parse_net(str(RECORDED[f"{problem}/net"])))
    for key, value in values(f"{problem}/w0_").items():
        param_blob(solver.net, key).data[...] = to_device(value)
    inputs = values(f"{problem}/in_")
    losses = values(f"{run}/loss_")
    checked = 0
    for step in range(max(len(series) for series in losses.values())):
        for blob, batches in inputs.items():
            solver.net.blobs[blob].data[...] = to_device(batches[step])
        solver.step(1)
        for blob, series in losses.items():
            np.testing.assert_allclose(
                to_host(solver.net.blobs[blob].data), series[step], rtol=1e-4, err_msg=f"{step}"
            )
        for key, value in values(f"{run}/w{step + 1}_").items():
            if (run, key) in NOISE:
                continue
            tolerance = 1e-6 if step == 0 and run not in SENSITIVE else 1e-5
            actual = to_host(param_blob(solver.net, key).data)
            assert np.abs(actual - value).max() <= tolerance * np.abs(value).max(), (step + 1, key)
            checked += 1
    assert checked

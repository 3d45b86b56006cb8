"""Reading what real Caffe computed, and running the same net here (see golden/README.md for the keys)."""

import re
from functools import cache
from pathlib import Path

import numpy as np

import minicaffe as mc
from minicaffe.device.array import to_device, to_host
from minicaffe.spec.net import parse_net

FOLDER = Path(__file__).parent / "golden"


@cache
def recorded_names(name):
    """The names of the cases of one file, in order. To read all their arrays takes a hundred times as long."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return list(dict.fromkeys(key.partition("/")[0] for key in file.files))


@cache
def types_recorded_of_forks():
    """The layer types that ``golden/forks`` has cases of."""
    types = set()
    for path in (FOLDER / "forks").glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            for case in recorded_names(f"forks/{path.stem}"):
                types.add(re.search(r"name: L\n +type: (\w+)", str(file[f"{case}/net"]))[1])
    return types


@cache
def recorded(name):
    """{case: {key: array}} of one file, by its path below ``golden`` without the ending."""
    cases = {}
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        for key in file.files:
            case, _, what = key.partition("/")
            cases.setdefault(case, {})[what] = file[key]
    return cases


def parts(case, prefix):
    """The entries of a case whose names begin with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in case.items() if key.startswith(prefix)}


def param_blob(net, key):
    """The parameter that a key like ``conv_0`` names."""
    layer, _, index = key.rpartition("_")
    return net.params[layer][int(index)]


def assert_near(actual, expected, tolerance, what):
    """Within ``tolerance`` of each value, or of the largest (of 0.01, where all are tiny: rounding)."""
    actual = to_host(actual)
    assert actual.shape == expected.shape, what
    scale = max(np.abs(expected).max(initial=0), 0.01)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def assert_agrees(case, check_gradients=True):
    """Run a case forward and backward: forward within 1e-5 of Caffe, gradients within 1e-4."""
    net = mc.Net(parse_net(str(case["net"])), phase=str(case["phase"]).lower(), seed=1)
    for key, value in parts(case, "p_").items():
        param_blob(net, key).data[...] = to_device(value)
    for blob, value in parts(case, "in_").items():
        net.blobs[blob].data[...] = to_device(value)
    net.run_forward()
    for blob, value in parts(case, "out_").items():
        assert_near(net.blobs[blob].data, value, 1e-5, f"top {blob}")
    for key, value in parts(case, "w_").items():
        assert_near(param_blob(net, key).data, value, 1e-5, f"parameter {key} after forward")
    for blob, value in parts(case, "gout_").items():
        net.blobs[blob].diff[...] = to_device(value)
    net.clear_param_diffs()
    net.run_backward()
    if not check_gradients:
        return
    for blob, value in parts(case, "gin_").items():
        assert_near(net.blobs[blob].diff, value, 1e-4, f"gradient of bottom {blob}")
    for key, value in parts(case, "gp_").items():
        assert_near(param_blob(net, key).diff, value, 1e-4, f"gradient of parameter {key}")

"""Every layer agrees with Caffe 1.0 over many settings: forward within 1e-5, gradients within 1e-4 (relative).

The recorded numbers and the script that made them are in ``golden/``.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net

FOLDER = Path(__file__).parent / "golden" / "layers"

# In place, these layers of Caffe write over what their backward still reads: the recorded gradient is none.
# (test_gradients_neurons.py holds ours against central differences, in place too.)
WRONG_IN_CAFFE = {("BNLL", "in_place"), ("Log", "in_place"), ("Power", "in_place_affine")}

REFUSED = {
    ("Eltwise", "sum_in_place"): "Caffe clears its first bottom before it adds: the recorded sum lacks it"
}


@cache
def recorded(layer_type):
    """{case: {key: array}} of one layer type."""
    cases = {}
    with np.load(FOLDER / f"{layer_type}.npz", allow_pickle=False) as file:
        for key in file.files:
            case, _, name = key.partition("/")
            cases.setdefault(case, {})[name] = file[key]
    return cases


ALL_CASES = [(path.stem, case) for path in sorted(FOLDER.glob("*.npz")) for case in recorded(path.stem)]


def parts(case, prefix):
    return {key.removeprefix(prefix): value for key, value in case.items() if key.startswith(prefix)}


def param_blob(net, key):
    layer, _, index = key.rpartition("_")
    return net.params[layer][int(index)]


def assert_near(actual, expected, tolerance, what):
    assert actual.shape == expected.shape, what
    scale = max(np.abs(expected).max(initial=0), 0.01)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


@pytest.mark.parametrize(("layer_type", "name"), ALL_CASES, ids=lambda part: part)
def test_layer_agrees_with_caffe(layer_type, name):
    if (layer_type, name) in REFUSED:
        pytest.skip(REFUSED[layer_type, name])
    case = recorded(layer_type)[name]
    net = mc.Net(parse_net(str(case["net"])), phase=str(case["phase"]).lower(), seed=1)
    for key, value in parts(case, "p_").items():
        param_blob(net, key).data[...] = value
    for blob, value in parts(case, "in_").items():
        net.blobs[blob].data[...] = value
    net.run_forward()
    for blob, value in parts(case, "out_").items():
        assert_near(net.blobs[blob].data, value, 1e-5, f"top {blob}")
    for key, value in parts(case, "w_").items():
        assert_near(param_blob(net, key).data, value, 1e-5, f"parameter {key} after forward")
    for blob, value in parts(case, "gout_").items():
        net.blobs[blob].diff[...] = value
    net.clear_param_diffs()
    net.run_backward()
    if (layer_type, name) in WRONG_IN_CAFFE:
        return
    for blob, value in parts(case, "gin_").items():
        assert_near(net.blobs[blob].diff, value, 1e-4, f"gradient of bottom {blob}")
    for key, value in parts(case, "gp_").items():
        assert_near(param_blob(net, key).diff, value, 1e-4, f"gradient of parameter {key}")

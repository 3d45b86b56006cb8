"""Every layer agrees with Caffe 1.0 over many settings: forward within 1e-5, gradients within 1e-4.

The recorded numbers and the script that made them are in ``golden/``.
"""

import pytest

from tests.golden_files import FOLDER, assert_agrees, recorded, recorded_names

pytestmark = pytest.mark.cpu_only("test_gpu.py has these tests on the double")

LAYERS = sorted(path.stem for path in (FOLDER / "layers").glob("*.npz"))
ALL_CASES = [(layer_type, case) for layer_type in LAYERS for case in recorded_names(f"layers/{layer_type}")]

# In place, these layers of Caffe write over what their backward still reads: the recorded gradient is none.
# (test_gradients_neurons.py holds ours against central differences, in place too.)
WRONG_IN_CAFFE = {("BNLL", "in_place"), ("Log", "in_place"), ("Power", "in_place_affine")}
REFUSED = {
    ("Eltwise", "sum_in_place"): "Caffe clears its first bottom before it adds: the recorded sum lacks it"
}


@pytest.mark.parametrize(("layer_type", "name"), ALL_CASES, ids=lambda part: part)
def test_layer_agrees_with_caffe(layer_type, name):
    if (layer_type, name) in REFUSED:
        pytest.skip(REFUSED[layer_type, name])
    case = recorded(f"layers/{layer_type}")[name]
    assert_agrees(case, check_gradients=(layer_type, name) not in WRONG_IN_CAFFE)

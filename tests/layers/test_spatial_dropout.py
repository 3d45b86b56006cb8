"""ENet's dropout of whole maps: ours takes the place of its Python layer."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of

LAYER = (
    'type: Python, python_param: {module: spatial_dropout, layer: SpatialDropoutLayer, param_str: "PARAM"}'
)
TRAIN, TEST = (LAYER.replace("PARAM", f"{{'phase': '{phase}', 'p': '0.25'}}") for phase in ("TRAIN", "TEST"))


@pytest.mark.parametrize("shape", [(40, 25, 2, 3), (40, 25)])
def test_whole_maps_are_dropped_and_others_scaled(shape):
    net = net_of(TRAIN, shape)
    y, other = (np.array(net.forward(x0=np.ones(shape))["L"]) for _ in range(2))
    of_map = y.reshape(40, 25, -1)
    assert (of_map == of_map[:, :, :1]).all()
    assert set(np.unique(y)) == {0, np.float32(4 / 3)}
    assert 0.7 < (of_map[:, :, 0] > 0).mean() < 0.8
    assert not np.array_equal(y, other)


@pytest.mark.parametrize("phase", ["train", "test"])
def test_its_own_phase_says_whether_it_drops(phase, rng):
    x = rng.standard_normal((40, 25)).astype(np.float32)  # so many that some would fall
    y = net_of(TEST, x.shape, phase=phase).forward(x0=x)["L"]
    np.testing.assert_allclose(y, x / 0.75, rtol=1e-6)


@pytest.mark.parametrize("layer", [TRAIN, TEST])
@pytest.mark.parametrize("shape", [(3, 4, 2, 3), (3, 4)])
def test_backward_is_the_derivative_of_forward(layer, shape):
    check_gradients(layer, [shape])


@pytest.mark.parametrize(
    ("param", "problem"),
    [
        ("{'phase': 'TRAIN', 'p': '1'}", "param_str.*p: 1 is out of range"),
        ("{'phase': 'TRAIN'}", "param_str.*p: required"),
        ("", "param_str.*phase: required"),
    ],
)
def test_settings_that_cannot_be_are_an_error(param, problem):
    with pytest.raises(mc.SpecError, match=f"layer 'L'.*{problem}"):
        net_of(LAYER.replace("PARAM", param), (3, 4))


def test_settings_that_the_original_does_not_read_are_not_read_here():
    more = LAYER.replace("PARAM", "{'phase': 'TEST', 'p': '0.25', 'note': 'of another layer'}")
    np.testing.assert_allclose(net_of(more, (3, 4)).forward(x0=np.ones((3, 4)))["L"], 4 / 3, rtol=1e-6)


def test_a_net_with_several_is_warned_of_once(caplog):
    text = "\n".join(f"- {{name: d{i}, {TEST}, bottom: x, top: d{i}}}" for i in range(3))
    net = "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}\n" + text
    mc.Net(parse_net(net))
    assert len([1 for record in caplog.records if "spatial_dropout" in record.getMessage()]) == 1

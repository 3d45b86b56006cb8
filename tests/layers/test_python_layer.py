"""Python layers: a user's own class, found beside the spec or on the path."""

import sys

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.testing import layer_net

PYTHON_MODULE = """
import minicaffe

class Scaled(minicaffe.Layer):
    def setup(self, bottom, top):
        self.factor = float(self.param_str)

    def reshape(self, bottom, top):
        for x, y in zip(bottom, top):
            y.reshape(*x.shape)

    def forward(self, bottom, top):
        for x, y in zip(bottom, top):
            y.data[...] = self.factor * x.data

    def backward(self, top, propagate_down, bottom):
        for x, y, wanted in zip(bottom, top, propagate_down):
            if wanted:
                x.diff[...] = self.factor * y.diff

number = 3
"""


@pytest.fixture
def python_spec(tmp_path, monkeypatch):
    """Writes a spec with one Python layer beside a module; forgets the modules that were imported for it."""
    known = set(sys.modules)

    def write(layer, module="scaling.py", code=PYTHON_MODULE):
        path = tmp_path / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        (tmp_path / "net.yaml").write_text(layer_net(f"type: Python, {layer}", [(2, 3), (4,)]))
        return tmp_path / "net.yaml"

    yield write
    for name in set(sys.modules) - known:
        del sys.modules[name]


SCALED = 'top: [a, b], python_param: {module: scaling, layer: Scaled, param_str: "2.5"}'


def test_a_python_layer_beside_the_spec_runs_forward_and_backward(python_spec, rng):
    before = list(sys.path)
    net = mc.Net(python_spec(SCALED))
    assert sys.path == before
    x0, x1 = rng.standard_normal((2, 3)), rng.standard_normal(4)
    out = net.forward(x0=x0, x1=x1)
    np.testing.assert_allclose(out["a"], 2.5 * x0, rtol=1e-6)
    reached = net.backward(a=np.ones((2, 3)), b=np.ones(4))
    np.testing.assert_array_equal(reached["x0"], np.full((2, 3), 2.5))
    np.testing.assert_array_equal(reached["x1"], np.full(4, 2.5))
    assert type(net.layers[-1]).__name__ == "Scaled"
    assert net.layers[-1].type == "Python"


def test_a_python_layer_is_found_on_sys_path_and_in_packages(python_spec, tmp_path, monkeypatch):
    spec = python_spec(SCALED.replace("scaling", "mylayers.scaling"), module="lib/mylayers/scaling.py")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    assert mc.Net(spec).forward(x1=np.ones(4))["b"][0] == 2.5


@pytest.mark.parametrize(
    ("layer", "code", "problem"),
    [
        (SCALED.replace("scaling", "scalling"), "", "module: no module 'scalling' in"),
        (SCALED.replace("Scaled", "Scalde"), PYTHON_MODULE, "layer: .* no class 'Scalde'.*Scaled"),
        (SCALED.replace("Scaled", "number"), PYTHON_MODULE, "subclass of minicaffe.Layer"),
        (SCALED, "import no_such_thing", "importing 'scaling' fails: ModuleNotFoundError.*no_such_thing"),
        (
            SCALED,
            "import caffe",
            "importing 'scaling' fails: .*; in that module, write 'import minicaffe.pycaffe as caffe'",
        ),
        (SCALED, "1 / 0", "importing 'scaling' fails: ZeroDivisionError"),
        (SCALED, "def", "importing 'scaling' fails: SyntaxError"),
        ("python_param: {module: scaling}", "", "layer: required"),
    ],
)
def test_a_python_layer_that_cannot_be_had_is_an_error_at_its_line(layer, code, problem, python_spec):
    with pytest.raises(mc.SpecError, match=f"net.yaml:5: layer 'L'.*{problem}"):
        mc.Net(python_spec(layer, code=code))


def test_two_python_modules_of_one_name_are_an_error_and_not_a_mixup(python_spec, tmp_path):
    mc.Net(python_spec(SCALED))
    other = tmp_path / "other"
    other.mkdir()
    for name in ("net.yaml", "scaling.py"):
        (other / name).write_text((tmp_path / name).read_text())
    with pytest.raises(mc.SpecError, match=r"'scaling' is already loaded from"):
        mc.Net(other / "net.yaml")

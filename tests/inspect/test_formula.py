"""What a report and a notebook say that a layer computes: the whole of it, for every type."""

import inspect
import sys
from itertools import takewhile

import pytest

import minicaffe as mc
from minicaffe.core.layer import layer_classes
from minicaffe.inspect.formula import formula_of, sentence_of

OURS = [name for name, cls in layer_classes.items() if cls.__module__.startswith("minicaffe.layers.")]


def formula(layer_type):
    """The formula of a type, of which no layer is made."""
    return formula_of(object.__new__(layer_classes[layer_type]))


@pytest.mark.parametrize("layer_type", OURS)
def test_the_formula_of_a_type_has_what_forward_and_backward_compute(layer_type):
    first, *lines = inspect.getdoc(sys.modules[layer_classes[layer_type].__module__]).splitlines()
    assert formula(layer_type).splitlines()[0] == first.partition(": ")[2].replace("``", "")
    for line in takewhile(lambda line: line[:4] in ("", "    "), lines):
        assert line[4:].replace("``", "") in formula(layer_type)


@pytest.mark.parametrize(
    ("layer_type", "part"),
    [("ReLU", "y = max(x, 0) + s · min(x, 0)"), ("ELU", "α · (exp(x) − 1) elsewhere"), ("Clip", "min(x, max))"),
     ("Dropout", "y = x at TEST"), ("HingeLoss", "loss = Σ m² / N"), ("RNN", "dW_hh = "), ("BN", "a · u + b")],
)  # fmt: skip
def test_no_case_of_a_formula_is_left_out(layer_type, part):
    assert part in formula(layer_type)


def test_a_layer_of_low_rank_has_the_formulas_of_its_factors():
    data = {"name": "x", "type": "Input", "input_param": {"shape": {"dim": [1, 2, 4, 4]}}}
    conv = {"type": "Convolution", "convolution_param": {"num_output": 4, "kernel_size": 3}}
    net = mc.Net({"layer": [data, {"name": "conv", **conv, "low_rank_param": {"rank": 1}}]})
    assert "weights, channel y = A · (B · X) + b" in formula_of(net.layers[1])


def test_where_there_is_no_bias_the_formula_has_none():
    data = {"name": "x", "type": "Input", "input_param": {"shape": {"dim": [1, 2, 4, 4]}}}
    conv = {"type": "Convolution", "convolution_param": {"num_output": 4, "kernel_size": 3}}
    ip = {"type": "InnerProduct", "inner_product_param": {"num_output": 4, "bias_term": False}}
    net = mc.Net(
        {"layer": [data, {"name": "conv", **conv}, {"name": "ip", **ip}, {"name": "s", "type": "Scale"}]}
    )
    conv, ip, scale = (formula_of(layer) for layer in net.layers[1:])
    assert "+ b" in conv and "db = dy · 1" in conv
    assert ip == "y = w · x, a fully connected layer.\ndw = dy · xᵀ        dx = wᵀ · dy"
    assert scale.splitlines()[0] == "y = s · x, where s has the shape of some axes of x."
    assert "db" not in scale


def test_a_layer_of_ones_own_is_told_by_its_own_docstring():
    class Cube(mc.Layer):
        """y = x³, where x: any blob.

        dx = 3 · x² · dy
        """

    class Same(Cube):
        pass

    class Silent(mc.Layer):
        pass

    assert sentence_of(Cube) == formula_of(object.__new__(Same)) == "y = x³, where x: any blob."
    assert sentence_of(Silent) == formula_of(object.__new__(Silent)) == ""

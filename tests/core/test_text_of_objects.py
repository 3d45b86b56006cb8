"""What a net, its layers and its blobs say of themselves in a terminal; what ``help`` says of a layer."""

import inspect

import numpy as np

import minicaffe as mc
from minicaffe.core.layer import layer_classes, register_layer

NET = """
name: small
layer:
- {name: x, type: Input, input_param: {shape: {dim: [4, 3]}}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5}}
- {name: relu, type: ReLU, top: ip}
"""


def test_a_net_says_what_goes_in_and_what_comes_out():
    told = "Net 'small' (TEST): 3 layers, 20 parameters; x (4, 3) → ip (4, 5)"
    assert repr(mc.Net.from_text(NET)) == told


def test_a_layer_says_what_it_is_between():
    net = mc.Net.from_text(NET)
    assert repr(net.layers[1]) == "InnerProduct 'ip': x (4, 3) → ip (4, 5); parameters (5, 3), (5,)"
    assert repr(net.layers[2]) == "ReLU 'relu': ip (4, 5) → ip (4, 5)"
    net.blobs["x"].reshape(1, 3)
    net.reshape()
    assert repr(net.layers[0]) == "Input 'x': x (1, 3)"


def test_a_blob_says_what_it_holds_and_takes_no_memory_for_it():
    blob = mc.Blob((2, 3))
    assert repr(blob) == f"Blob (2, 3) float32 on {blob.device}, no data yet"
    assert not blob.has_data
    blob.data[...] = np.arange(6).reshape(2, 3)
    assert repr(blob).endswith(", min 0, mean 2.5, max 5")
    other = mc.Blob((3, 2))
    other.share_data(blob)
    assert other.has_data and repr(other).endswith("max 5")
    assert "empty" in repr(mc.Blob((0, 3)))


def test_names_in_them_are_printable():
    net = mc.Net.from_text(NET.replace("small", '"s\\e[31m"').replace("relu", '"r\\e[2J"'))
    assert "\x1b" not in f"{net!r}{net.layers[2]!r}" and r"\x1b" in repr(net)


def test_help_of_a_layer_begins_with_its_formula():
    for name, cls in layer_classes.items():
        if cls.__module__.startswith("minicaffe.layers."):
            assert inspect.getdoc(cls).startswith(inspect.getdoc(inspect.getmodule(cls))), name
    assert "y = max(x, 0)" in inspect.getdoc(mc.Net.from_text(NET).layers[2])


def test_the_doc_of_a_layer_of_ones_own_stays_as_it_is():
    class Own(mc.Layer):
        """y = 3 x"""

    register_layer("OwnForItsDoc", Own)
    assert Own.__doc__ == "y = 3 x"

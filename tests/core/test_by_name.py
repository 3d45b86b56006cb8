"""Names in a net: a wrong one is answered with the nearest; all else is as of an ordered dictionary."""

import copy
import pickle
from collections import OrderedDict

import pytest

import minicaffe as mc
import minicaffe.pycaffe as caffe

NET = """
name: small
layer:
- {name: data, type: Input, input_param: {shape: {dim: [4, 1, 6, 6]}}}
- {name: conv1, type: Convolution, convolution_param: {num_output: 2, kernel_size: 3}}
- {name: relu1, type: ReLU, top: conv1}
- {name: pool1, type: Pooling, pooling_param: {pool: MAX, kernel_size: 2, stride: 2}}
"""


@pytest.fixture(params=["minicaffe", "pycaffe"])
def net(request):
    core = mc.Net.from_text(NET)
    return core if request.param == "minicaffe" else caffe.Net.of(core)


@pytest.mark.parametrize(
    ("table", "name", "told"),
    [
        ("blobs", "con1", "net 'small' has no blob 'con1'; did you mean 'conv1'?"),
        ("blobs", "relu1", "net 'small' has no blob 'relu1'; layer 'relu1' writes conv1"),
        ("blobs", "xyz", "net 'small' has no blob 'xyz'; it has data, conv1, pool1"),
        ("blobs", 0, "net 'small' has no blob '0'; it has data, conv1, pool1"),
        ("blobs", "a\nb", r"net 'small' has no blob 'a b'; it has data, conv1, pool1"),
        ("layer_dict", "pol1", "net 'small' has no layer 'pol1'; did you mean 'pool1'?"),
        ("params", "conv2", "net 'small' has no parameters of a layer 'conv2'; did you mean 'conv1'?"),
        ("params", "pool1", "net 'small' has no parameters of a layer 'pool1': a Pooling has none"),
    ],
)
def test_a_wrong_name_is_answered_with_what_there_is(net, table, name, told):
    with pytest.raises(KeyError) as error:
        getattr(net, table)[name]
    assert isinstance(error.value, mc.MinicaffeError) and str(error.value) == told


def test_blobs_and_params_are_ordered_dictionaries(net):
    for table, names in ((net.blobs, ["data", "conv1", "pool1"]), (net.params, ["conv1"])):
        assert isinstance(table, OrderedDict) and list(table) == names == list(table.keys())
        assert "relu1" not in table and table.get("relu1") is None and table.get("relu1", 3) == 3
        assert dict(table) == OrderedDict(table) == table
        assert table._ipython_key_completions_() == names
    assert [(name, blob.data.shape) for name, blob in net.blobs.items()][1] == ("conv1", (4, 2, 4, 4))


def test_copies_know_the_names_too(net):
    for same in (copy.copy(net.blobs), net.blobs.copy()):
        assert list(same) == list(net.blobs)
    with pytest.raises(KeyError, match="no blob 'con1'; did you mean 'conv1'"):
        pickle.loads(pickle.dumps(mc.Net.from_text(NET).blobs.alike([("conv1", 1)])))["con1"]


def test_their_text_is_a_table_of_shapes(net):
    assert repr(net.blobs).splitlines()[:2] == ["data   (4, 1, 6, 6)", "conv1  (4, 2, 4, 4)"]
    assert repr(net.params) == "conv1  (2, 1, 3, 3)  (2,)"
    assert (
        repr(net.layer_dict).splitlines()[2] == "relu1  ReLU 'relu1': conv1 (4, 2, 4, 4) → conv1 (4, 2, 4, 4)"
    )


def test_wrong_layers_are_named_alike():
    with pytest.raises(KeyError, match="net 'small' has no layer 'pol1'; did you mean 'pool1'"):
        mc.Net.from_text(NET).forward(end="pol1")

"""Nets written in Python, Caffe's messages, and maps of coordinates."""

import numpy as np
import pytest

import minicaffe as mc
import minicaffe.pycaffe as caffe
from minicaffe.pycaffe import layers as L
from minicaffe.pycaffe import params as P
from minicaffe.pycaffe.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    coord_map,
    coord_map_from_to,
    crop,
)
from minicaffe.pycaffe.proto import caffe_pb2
from minicaffe.spec.net import parse_net
from tests.golden_files import recorded
from tests.pycaffe.pycaffe_cases import NETS, net_of

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

text_format = pytest.importorskip("google.protobuf.text_format")


@pytest.mark.parametrize("name", NETS)
def test_a_net_written_in_python_is_the_one_that_pycaffe_makes(name):
    theirs = text_format.Parse(str(recorded("pycaffe")[f"net_{name}"]["text"]), caffe_pb2.NetParameter())
    assert net_of(name, caffe) == theirs


def test_the_prototxt_and_the_yaml_are_the_same_net(tmp_path):
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3, 8, 8]))
    n.conv = L.Convolution(
        n.data, kernel_size=3, num_output=4, weight_filler=dict(type="constant", value=0.1)
    )
    n.up = L.Deconvolution(n.conv, num_output=2, kernel_size=2, stride=2, bias_term=False)
    n.pool = L.Pooling(n.up, kernel_size=3, stride=2, pool=P.Pooling.AVE)
    (tmp_path / "net").write_text(str(n.to_proto()))
    nets = [caffe.Net(tmp_path / "net", caffe.TEST), mc.Net(parse_net(n.to_yaml()))]
    nets[0].params["up"][0].data[...] = 0.2
    nets[1].params["up"][0].data[...] = 0.2
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    a, b = (mc.to_host(net.forward(data=x)["pool"]) for net in nets)
    assert a.shape == (2, 2, 6, 6) and a.any()
    np.testing.assert_array_equal(a, b)


def test_layers_without_tops_and_several_tops():
    n = caffe.NetSpec()
    n.a, n.b = L.DummyData(shape=dict(dim=3), ntop=2)
    n.silence = L.Silence(n.a, n.b, ntop=0)
    assert [layer.name for layer in n.to_proto().layer] == ["a", "silence"]
    assert [*n.to_proto().layer[1].bottom] == ["a", "b"]


def test_a_top_alone_makes_the_net_of_all_that_it_needs():
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3]))
    top = L.ReLU(L.InnerProduct(n.data, num_output=4))
    assert [layer.name for layer in top.to_proto().layer] == ["Input1", "InnerProduct1", "ReLU1"]
    assert top.to_proto() == caffe.to_proto(top)


def test_an_empty_dict_is_no_message():
    """As in pycaffe: what is there is what was given."""
    layer = caffe.to_proto(L.ReLU(L.Input(), relu_param={})).layer[1]
    assert not layer.HasField("relu_param")


def test_a_layer_takes_tops_alone():
    pair = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Silence input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.Silence(pair, ntop=0)


def test_a_misspelt_parameter_is_one_line():
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3]))
    n.ip = L.InnerProduct(n.data, inner_product_param=dict(num_outputs=3))
    with pytest.raises(mc.SpecError, match="has no field 'num_outputs'; did you mean 'num_output'"):
        n.to_proto()
    with pytest.raises(AttributeError, match="the net has no 'dat' yet; did you mean 'data'"):
        _ = n.dat


def test_messages_are_used_as_scripts_use_them():
    s = caffe_pb2.SolverParameter()
    assert (s.iter_size, s.type, s.lr_policy, s.average_loss) == (1, "SGD", "", 1)
    s.test_net.append("test.prototxt")
    s.solver_mode = caffe_pb2.SolverParameter.GPU
    s.base_lr = 0.5
    assert text_format.Parse(str(s), caffe_pb2.SolverParameter()) == s
    assert "solver_mode: GPU" in str(s)
    layer = caffe_pb2.LayerParameter()
    assert layer.convolution_param.bias_term and layer.convolution_param.group == 1
    assert (
        layer.dropout_param.dropout_ratio == 0.5
        and layer.pooling_param.pool == caffe_pb2.PoolingParameter.MAX
    )
    assert layer.convolution_param.weight_filler.type == "constant"
    assert not layer.HasField("convolution_param")
    assert caffe_pb2.PoolingParameter.PoolMethod.DESCRIPTOR.values_by_number[1].name == "AVE"
    assert caffe_pb2.Phase.Value("TEST") == caffe_pb2.TEST == caffe.TEST
    assert {"NetParameter", "Phase", "TEST", "LowRankParameter"} <= set(dir(caffe_pb2))
    with pytest.raises(AttributeError, match="no message 'Foo'"):
        _ = caffe_pb2.Foo


def deconvolved(kernel=3, stride=1, pad=0, pool=2, up=2, up_pad=0):
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 1, 100, 100]))
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=pool, stride=pool)
    size = [2 * s for s in up] if isinstance(up, list) else 2 * up
    n.up = L.Deconvolution(n.pool, num_output=10, kernel_size=size, stride=up, pad=up_pad)
    return n


@pytest.mark.parametrize(
    ("settings", "scale", "shift"),
    [
        ({}, 1, 0),
        ({"pool": 4, "up": 4}, 1, -1),
        ({"pad": 3}, 1, -3),
        ({"up_pad": 5}, 1, 5),
        ({"kernel": [3, 5], "stride": [1, 2], "pad": [0, 10]}, [1, 2], [0, -10]),
    ],
)
def test_coordinates_map_through_convolution_pooling_and_deconvolution(settings, scale, shift):
    n = deconvolved(**settings)
    axis, a, b = coord_map_from_to(n.up, n.data)
    assert axis == 1
    np.testing.assert_allclose(a, np.broadcast_to(scale, np.shape(a)))
    np.testing.assert_allclose(b, np.broadcast_to(shift, np.shape(b)))


def test_pointwise_layers_and_crops_keep_places():
    n = deconvolved(up_pad=0)
    n.relu = L.ReLU(n.up)
    n.crop = L.Crop(n.relu, n.data, axis=2, offset=7)
    _, a, b = coord_map_from_to(n.crop, n.data)
    assert a == 1 and b == 7


def test_crop_makes_the_layer_that_aligns():
    n = deconvolved(pad=3)
    n.cropped = crop(n.up, n.data)
    layer = n.to_proto().layer[-1]
    assert (layer.type, layer.crop_param.axis, [*layer.crop_param.offset]) == ("Crop", 2, [3])


@pytest.mark.parametrize(
    ("type_name", "settings", "expected"),
    [
        ("Convolution", {"kernel_size": 3}, (1, 1, -1)),
        ("Convolution", {"kernel_size": 3, "dilation": 2}, (1, 1, -2)),
        ("Convolution", {"convolution_param": {"kernel_size": 5, "axis": 2}}, (2, 1, -2)),
        ("Im2col", {"convolution_param": {"kernel_size": 3, "stride": 2, "pad": 2}}, (1, 0.5, 0.5)),
        ("Deconvolution", {"kernel_size": 3, "stride": 2, "pad": 2}, (1, 2, -1)),
        ("Pooling", {"kernel_size": 3, "stride": 2}, (1, 0.5, -0.5)),
        ("Pooling", {"pooling_param": {"kernel_size": 3, "stride": 2}}, (1, 0.5, -0.5)),
        ("Crop", {"axis": 1, "offset": 4}, (0, 1, -4)),
        ("Crop", {"crop_param": {"offset": 4}}, (1, 1, -4)),
    ],
)
def test_the_map_of_a_layer_is_pycaffes(type_name, settings, expected):
    """As real pycaffe says, but for a pooling_param, which it does not take."""
    assert coord_map(getattr(L, type_name)(**settings).fn) == expected


def test_a_crops_second_bottom_is_only_a_size():
    n = deconvolved()
    n.cropped = L.Crop(L.Input(shape=dict(dim=[2, 1, 100, 100])), n.data)
    with pytest.raises(RuntimeError, match="no map between these tops"):
        coord_map_from_to(n.cropped, n.data)


@pytest.mark.parametrize("old", ["kernel_h", "kernel_w", "pad_h", "pad_w", "stride_h", "stride_w"])
def test_windows_in_caffes_older_fields_are_refused(old):
    with pytest.raises(AssertionError, match="sizes with _h and _w are not understood"):
        coord_map(L.Pooling(kernel_size=3, **{old: 1}).fn)


def test_what_cannot_be_mapped_or_cropped_is_refused():
    n = deconvolved()
    n.deep = L.Convolution(L.Convolution(n.data, kernel_size=3, axis=2), kernel_size=3)
    with pytest.raises(AxisMismatchException, match="axes 1 and 2"):
        coord_map_from_to(n.deep, n.data)
    n = deconvolved()
    n.ip = L.InnerProduct(n.up, num_output=10)
    with pytest.raises(RuntimeError, match="no map between these tops"):
        coord_map_from_to(n.ip, n.data)
    with pytest.raises(UndefinedMapException):
        coord_map(n.ip.fn)
    n = deconvolved(pool=3)
    with pytest.raises(AssertionError, match="scale mismatch"):
        crop(n.up, n.data)
    n = deconvolved(up_pad=10)
    with pytest.raises(AssertionError, match="cannot crop negative offset"):
        crop(n.up, n.data)


def test_what_only_our_specs_have_can_be_written_too():
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[2, 3, 8, 8]))
    n.conv = L.Convolution(
        n.data, kernel_size=3, num_output=4, low_rank_param=dict(rank=2, scheme=P.LowRank.SPATIAL)
    )
    n.norm = L.Normalize(n.conv, across_spatial=False, scale_filler=dict(type="constant", value=20))
    n.turned = L.Permute(n.norm, order=[0, 2, 3, 1])
    net = mc.Net(parse_net(n.to_yaml()))
    assert "rank: '2', scheme: SPATIAL" in n.to_yaml()
    assert net.blobs["turned"].shape == (2, 6, 6, 4)
    assert net.layers[1].spec.low_rank_param.rank == 2
    with pytest.raises(mc.SpecError, match="scheme: 'diagonal'; one of CHANNEL, SPATIAL"):
        L.Convolution(n.data, low_rank_param=dict(scheme="diagonal")).to_proto()


def test_a_message_within_a_types_message_goes_by_its_name():
    layer = L.DetectionOutput(num_classes=2, nms_param=dict(nms_threshold=0.25)).to_proto().layer[0]
    assert layer.detection_output_param.nms_param.nms_threshold == 0.25


def test_numbers_of_numpy_and_names_of_enums_are_understood():
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=list(np.array([2, 3, 8, 8]))))
    n.pool = L.Pooling(n.data, pool="AVE", kernel_size=np.int64(2))
    assert n.to_proto().layer[1].pooling_param.pool == P.Pooling.AVE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda d: L.Convolution(d, num_outputs=3),
            "a layer of type Convolution has no field 'num_outputs'; did you",
        ),
        (lambda d: L.Convolution(d, num_output="x"), "ConvolutionParameter: num_output: 'x' is no uint32"),
        (lambda d: L.Convolution(d, num_output=-1), "num_output: -1 is no uint32"),
        (lambda d: L.Convolution(d, num_output=None), "num_output: None is no uint32"),
        (lambda d: L.Convolution(d, kernel_size=[3, "x"]), "kernel_size: .* is no uint32"),
        (lambda d: L.Pooling(d, pool=77), "PoolingParameter: pool: 77 is no enum"),
        (
            lambda d: L.InnerProduct(d, weight_filler="xavier"),
            "weight_filler: 'xavier'; give a dict of the fields of",
        ),
        (lambda d: L.InnerProduct(d, param=1), "param: 1; give a dict of the fields of ParamSpec"),
    ],
)
def test_a_value_that_is_not_of_its_field_is_one_line(make, message):
    with pytest.raises(mc.SpecError, match=message):
        make(L.Input(shape=dict(dim=[1, 3, 4, 4]))).to_proto()


def test_assign_proto_and_the_names_of_messages_are_there_as_in_pycaffe():
    layer = caffe_pb2.LayerParameter()
    caffe.net_spec.assign_proto(layer, "param", [dict(lr_mult=2), caffe_pb2.ParamSpec(lr_mult=3)])
    caffe.net_spec.assign_proto(layer, "name", "ip")
    assert [param.lr_mult for param in layer.param] == [2, 3] and layer.name == "ip"
    names = caffe.net_spec.param_name_dict()
    assert (names["Convolution"], names["Pooling"], names["HDF5Data"]) == (
        "convolution",
        "pooling",
        "hdf5_data",
    )


def test_a_net_has_what_scripts_of_ssd_ask_of_it():
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1, 3, 4, 4]))
    net.pool = L.Pooling(net.data, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    assert net.keys()[-1] == "pool" and net.vals() == [net.data, net.pool]
    net.update("pool", {"kernel_size": 3, "pad": 2 / 2})
    pooling = net.to_proto().layer[1].pooling_param
    assert (pooling.kernel_size, pooling.pad) == (3, 1)
    net.update("pool", {"pad": 0.5})
    with pytest.raises(mc.SpecError, match=r"pad: 0\.5 is no uint32"):
        net.to_proto()


def test_the_code_types_of_boxes_are_a_constant_of_prior_boxes_as_in_ssd():
    assert P.PriorBox.CENTER_SIZE == caffe_pb2.PriorBoxParameter.CENTER_SIZE == 2
    output = caffe_pb2.DetectionOutputParameter(code_type=P.PriorBox.CENTER_SIZE)
    assert str(output) == "code_type: CENTER_SIZE\n"

"""caffe.Layer: layers written in Python as pycaffe has them."""

import sys

import numpy as np
import pytest

import minicaffe as mc
import minicaffe.pycaffe as caffe
from minicaffe.device.array import to_host

pytest.importorskip("google.protobuf")


class Affine(caffe.Layer):
    """y = a · x + b, with b, one for each channel, a parameter."""

    def setup(self, bottom, top):
        self.factor = float(self.param_str)
        assert self.param_str_ == self.param_str
        self.blobs.add_blob(1, bottom[0].channels, 1)
        self.blobs[0].data[0, 0] = 3

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data + self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0, :, 0] += top[0].diff.sum((0, 2))
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * top[0].diff


class Phase(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        top[0].data[()] = self.phase


class Images(caffe.Layer):
    """A data layer as FCN's voc_layers.py: it draws its image in ``reshape``, and shapes its top by it."""

    def setup(self, bottom, top):
        self.drawn = 0

    def reshape(self, bottom, top):
        self.drawn += 1
        top[0].reshape(1, 2, self.drawn, 3)

    def forward(self, bottom, top):
        top[0].data[...] = self.drawn


class Careless(caffe.Layer):
    """Names that nets use within are the script's own, as in FCN's voc_layers.py; and there is no backward."""

    def __init__(self, *args):
        self.made = len(args)

    def setup(self, bottom, top):
        for name in ("seed", "rng", "xp", "dtype", "name", "spec", "setting", "state", "note", "_host"):
            setattr(self, name, self.made)

    def reshape(self, bottom, top):
        top[0].reshape(2)

    def forward(self, bottom, top):
        top[0].data[...] = self.seed + self.state


class Shapeless(caffe.Layer):
    pass


class Failing(caffe.Layer):
    def setup(self, bottom, top):
        raise RuntimeError("mine")


class Loss(caffe.Layer):
    """Half the squared distance, as in Caffe's example pyloss.py."""

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise ValueError("two bottoms")

    def reshape(self, bottom, top):
        self.difference = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.difference[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.difference**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * self.difference / bottom[i].num


@pytest.fixture
def open_net(tmp_path):
    """A net of one Python layer, of this module."""

    def open_text(cls, more="", bottom='bottom: "data"', phase=caffe.TEST):
        text = f"""force_backward: true
          input: "data" input_shape {{ dim: 2 dim: 3 dim: 4 }}
          layer {{ name: "mine" type: "Python" {bottom} top: "y"
            python_param {{ module: "{__name__}" layer: "{cls}" {more} }} }}"""
        (tmp_path / "net").write_text(text)
        return caffe.Net(str(tmp_path / "net"), phase)

    assert __name__ in sys.modules
    return open_text


def test_a_layer_with_a_parameter_runs_both_ways(open_net):
    net = open_net("Affine", 'param_str: "2.5"')
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    expected = 2.5 * x
    expected[:, 0] += 3
    np.testing.assert_allclose(net.forward(data=x)["y"], expected, rtol=1e-6)
    dy = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(net.backward(y=dy)["data"], 2.5 * dy, rtol=1e-6)
    layer = net.layer_dict["mine"]
    assert layer.factor == 2.5 and layer.type == "Python"
    np.testing.assert_allclose(layer.blobs[0].diff[0, :, 0], dy.sum((0, 2)), rtol=1e-5)
    np.testing.assert_array_equal(net.params["mine"][0].data, [[[3], [0], [0]]])


def test_a_layers_parameters_are_saved_and_loaded(open_net, tmp_path):
    net = open_net("Affine", 'param_str: "1"')
    net.params["mine"][0].data[...] = 5
    net.save(str(tmp_path / "weights"))
    other = open_net("Affine", 'param_str: "1"')
    other.copy_from(str(tmp_path / "weights"))
    assert (other.layer_dict["mine"].blobs[0].data == 5).all()
    assert (other.forward(data=np.zeros((2, 3, 4)))["y"] == 5).all()


def test_a_layer_follows_its_bottom_to_another_shape(open_net):
    net = open_net("Affine", 'param_str: "2"')
    net.blobs["data"].reshape(5, 3, 2)
    net.blobs["data"].data[...] = 1
    assert net.forward()["y"].shape == (5, 3, 2)
    assert (net.blobs["y"].data[:, 1] == 2).all()


IMAGES = f"""
  layer {{ name: "data" type: "Python" top: "data" python_param {{ module: "{__name__}" layer: "Images" }} }}
  layer {{ name: "double" type: "Power" bottom: "data" top: "double" power_param {{ scale: 2 }} }}"""


@pytest.mark.parametrize("open_net", [caffe.Net, mc.Net])
def test_a_layer_draws_its_batch_in_reshape_before_every_forward(tmp_path, open_net):
    (tmp_path / "net.prototxt").write_text(IMAGES)
    net = open_net(str(tmp_path / "net.prototxt"), *([caffe.TEST] if open_net is caffe.Net else []))
    assert net.blobs["double"].shape[2] == 1  # drawn once, to know the shapes
    for drawn in (2, 3, 4):
        out = to_host(net.forward()["double"])
        np.testing.assert_array_equal(out, np.full((1, 2, drawn, 3), 2 * drawn))
    net.reshape()
    assert net.blobs["double"].shape[2] == 5


def test_training_sees_a_new_batch_of_a_python_layer_in_each_iteration(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        IMAGES + 'layer { name: "loss" type: "Reduction" bottom: "double" top: "loss" loss_weight: 1'
        " reduction_param { operation: MEAN } }"
    )
    (tmp_path / "solver").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" average_loss: 4 max_iter: 4'
    )
    solver = caffe.SGDSolver(str(tmp_path / "solver"))
    solver.step(4)
    assert [float(loss) for loss in solver.core.losses] == pytest.approx([4, 6, 8, 10])


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_layer_knows_its_phase(open_net, phase):
    assert open_net("Phase", bottom="", phase=phase).forward()["y"] == phase


def test_all_names_but_caffes_are_the_layers_own(open_net):
    net = open_net("Careless", bottom="")
    assert (net.forward()["y"] == 2).all()
    assert isinstance(net.layers[-1], Careless) and net.layer_dict["mine"].seed == 1
    net.backward()


def test_a_layer_that_lacks_a_method_is_an_error_that_names_it(open_net):
    with pytest.raises(mc.SpecError, match="layer 'mine': python_param: class 'Shapeless' has no 'reshape'"):
        open_net("Shapeless")


def test_what_a_layer_raises_arrives(open_net):
    with pytest.raises(RuntimeError, match="mine"):
        open_net("Failing")


def test_a_loss_written_in_python_trains(tmp_path):
    (tmp_path / "net.prototxt").write_text(f"""
      layer {{ name: "data" type: "DummyData" top: "data" top: "target"
        dummy_data_param {{ shape {{ dim: 4 dim: 3 }} shape {{ dim: 4 dim: 2 }}
          data_filler {{ type: "gaussian" }} data_filler {{ value: 0.5 }} }} }}
      layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
      layer {{ name: "loss" type: "Python" bottom: "ip" bottom: "target" top: "loss" loss_weight: 1
        python_param {{ module: "{__name__}" layer: "Loss" }} }}""")
    (tmp_path / "solver").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 60'
    )
    caffe.set_random_seed(1)
    solver = caffe.SGDSolver(str(tmp_path / "solver"))
    solver.step(1)
    first = float(solver.net.blobs["loss"].data[0])
    solver.step(59)
    assert float(solver.net.blobs["loss"].data[0]) < 0.1 * first

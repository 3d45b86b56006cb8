"""The nets of prototxt/: each builds and runs, and the well-known ones have their published sizes."""

import runpy
import tracemalloc
from functools import cache

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device.array import to_host
from minicaffe.files.spec_formats import load_net, open_solver
from minicaffe.spec.edit import set_layer_fields
from minicaffe.spec.fields import BlobShape
from minicaffe.spec.net import make_layer_spec, parse_net
from minicaffe.train.preview import count_multiply_adds, count_parameters
from tests import ROOT

PROTOTXT = ROOT / "prototxt"
README = PROTOTXT / "README.md"
SIZES = {"vgg19": 64}  # of images, where the published size takes seconds

# Parameters as published. Where the weights that are to be had, and so the spec, have more: the difference.
PARAMETERS = {
    "alexnet": (60_965_224, 0),  # Krizhevsky et al. 2012: 60 million; exactly, as in Caffe's deploy.prototxt
    "caffenet": (60_965_224, 0),  # the same
    "vgg16": (138_357_544, 0),  # torchvision, vgg16
    "vgg19": (143_667_240, 0),  # torchvision, vgg19
    "nin": (7_595_176, 0),  # a snapshot of 29 MB, says its page
    "googlenet": (
        6_998_552,
        0,
    ),  # Howard et al. 2017, table 8: 6.8 million; exactly, as in Caffe's deploy.prototxt
    "squeezenet_v1.1": (1_235_496, 0),  # torchvision, squeezenet1_1
    "resnet18": (11_689_512, 64 * 64 + 2 * 64),  # torchvision, resnet18; a projection in the first block too
    "resnet50": (25_557_032, 64),  # torchvision, resnet50; biases in conv1
    "resnet101": (44_549_160, 0),  # torchvision, resnet101
    "resnet152": (60_192_808, 0),  # torchvision, resnet152
    "mobilenet_v1": (4_231_976, 0),  # Howard et al. 2017, table 8: 4.2 million
    "mobilenet_v2": (3_504_872, 32 * 32 + 2 * 32),  # torchvision, mobilenet_v2; the first block expands too
    "densenet121": (7_978_856, 0),  # torchvision, densenet121
    "fcn8s": (134_362_751, 0),  # Shelhamer et al. 2017, table 2: 134 million
    "mtcnn/pnet": (6_632, 0),  # the arrays of det1.caffemodel
    "mtcnn/rnet": (100_178, 0),  # the arrays of det2.caffemodel that are of use (conv5-3 is not)
    "mtcnn/onet": (389_040, 0),  # the arrays of det3.caffemodel
}
# Millions of multiply-adds as published, and how exactly.
MULTIPLY_ADDS = {
    "alexnet": (720, 0.01),  # Howard et al. 2017 (MobileNets), table 9
    "googlenet": (1550, 0.03),  # the same, table 8
    "vgg16": (15_300, 0.02),  # the same, table 8
    "mobilenet_v1": (569, 0.005),  # the same, table 8
    "vgg19": (19_600, 0.005),  # He et al. 2016 (ResNets), figure 3
    "resnet18": (1_800, 0.02),  # the same, table 1
    "resnet50": (3_800, 0.02),  # the same, table 1
    "resnet101": (7_600, 0.01),  # the same, table 1
    "resnet152": (11_300, 0.01),  # the same, table 1
    "squeezenet_v1.1": (360, 0.08),  # its README: 0.72 GFLOPS
    "densenet121": (2_834, 0.005),  # torchvision, densenet121: 2.83 GFLOPS
}
GENERATED = runpy.run_path(str(PROTOTXT / "make_repetitive_nets.py"))["NETS"]
# They run in test_golden_zoo.py, with fewer pixels; resnet101 has the blocks of resnet152, fewer of them.
LARGE = ("alexnet", "caffenet", "vgg16", "fcn8s", "densenet121", "resnet50", "resnet101")
# They run in test_golden_zoo.py, with fewer pixels; resnet101 has the blocks of resnet152, fewer of them.
LARGE = ("alexnet", "caffenet", "vgg16", "fcn8s", "densenet121", "resnet50", "resnet101")
OF_SCENES = ("ssd_digits", "segnet_digits")  # they are no classifiers, and have tests of their own
DEPLOYED = sorted({path.parent.name for path in PROTOTXT.glob("*/deploy.yaml")} - {*OF_SCENES})


def spec_path(name):
    return PROTOTXT / f"{name}.yaml" if "/" in name else PROTOTXT / name / "deploy.yaml"


counted = pytest.mark.cpu_only("sizes are counted, nothing is computed")


@cache
def counts(name):
    """Parameters that are trained, and multiply-adds of an image."""
    net = mc.Net(spec_path(name))
    parameters, held = count_parameters(net)
    return parameters - held, count_multiply_adds(net)


def open_small(name, size=None):
    """The net with one image a batch, of ``size`` × ``size`` pixels where given."""
    text = spec_path(name).read_text()
    spec = parse_net(text)
    image = list(spec.layer[0].input_param.shape[0].dim[1:])
    shape = [1, image[0], *([size, size] if size else image[1:])]
    return mc.Net(parse_net(set_layer_fields(text, {spec.layer[0].name: {"input_param.shape.dim": shape}})))


@counted
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_net_has_its_published_number_of_parameters(name):
    published, more = PARAMETERS[name]
    assert counts(name)[0] == published + more


@pytest.mark.cpu_only("it measures the memory of the host")
def test_a_net_whose_parameters_start_at_zero_takes_no_memory_for_them():
    tracemalloc.start()
    try:
        net = mc.Net(spec_path("vgg16"))
        assert tracemalloc.get_traced_memory()[1] < 20e6  # of the 553 MB that they are
        assert not np.any(to_host(net.params["fc8"][0].data))
        assert tracemalloc.get_traced_memory()[1] > 4 * net.params["fc8"][0].count
    finally:
        tracemalloc.stop()


@counted
@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_a_net_has_its_published_multiply_adds(name):
    published, exactness = MULTIPLY_ADDS[name]
    assert counts(name)[1] / 1e6 == pytest.approx(published, rel=exactness)


@counted
def test_mobilenet_v2_with_the_strides_of_the_paper_has_its_multiply_adds():
    strides = {
        "conv4_3/dwise": {"convolution_param.stride": 2},
        "conv4_7/dwise": {"convolution_param.stride": 1},
    }
    net = mc.Net(parse_net(set_layer_fields(spec_path("mobilenet_v2").read_text(), strides)))
    first_expansion = 32 * 32 * 112 * 112  # which the paper's has not
    assert (count_multiply_adds(net) - first_expansion) / 1e6 == pytest.approx(300, rel=0.005)


@counted
def test_the_readme_has_the_counts_of_the_zoo():
    text = README.read_text()
    for name in PARAMETERS:
        parameters, work = counts(name)
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
        assert row.endswith(f" | {parameters:,} | {work:,} |")


@pytest.mark.cpu_only("test_golden_zoo.py runs large nets on the double")
@pytest.mark.parametrize("name", [name for name in DEPLOYED if name not in LARGE])
def test_a_deploy_net_runs_and_gives_probabilities(name):
    outputs = {key: to_host(value) for key, value in open_small(name, SIZES.get(name)).forward().items()}
    assert outputs["prob"].shape[1] == (10 if name.startswith(("lenet", "cifar10")) else 1000)
    assert outputs["prob"].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in PROTOTXT.glob("*/train*.yaml") if path.parent.name not in OF_SCENES),
    ids=lambda p: f"{p.parent.name}-{p.stem}",
)
def test_a_training_net_runs_forward_and_backward(path):
    spec = load_net(path)
    images = [x for x in spec.layer if x.type in ("Data", "ImageData")]
    assert {rule.phase for layer in images for rule in layer.include} == {"TRAIN", "TEST"}
    inputs = make_layer_spec("Input", name="images", top=["data", "label"])
    size = (1, 28, 28) if path.parent.name == "lenet" else (3, 32, 32)
    inputs.input_param.shape = [BlobShape(dim=[4, *size]), BlobShape(dim=[4])]
    spec.layer = [inputs, *(x for x in spec.layer if x not in images)]
    net = mc.Net(spec, phase="train", seed=1)
    data = np.random.default_rng(1).standard_normal((4, *size)).astype(np.float32)
    loss = net.forward(data=data, label=np.array([0, 1, 2, 3]))["loss"]
    net.backward()
    assert 0 < float(loss) < 10
    assert any(float(abs(blob.diff).max()) > 0 for blobs in net.params.values() for blob in blobs)


@pytest.mark.parametrize(
    "path", sorted(PROTOTXT.glob("*/solver*.yaml")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_a_solver_names_a_net_that_is_there(path):
    assert (path.parent / open_solver(path).net).is_file()


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_spec_is_what_its_generator_writes(name):
    assert spec_path(name).read_text(encoding="utf-8") == GENERATED[name]().text


@pytest.mark.parametrize(("name", "weights"), [("pnet", "det1"), ("rnet", "det2")])
def test_mtcnn_takes_the_public_weights_by_name_and_computes_the_same(name, weights, shared_data):
    folder = shared_data / "mtcnn"
    ours = mc.Net(PROTOTXT / "mtcnn" / f"{name}.yaml")
    report = ours.copy_from(folder / f"{weights}.caffemodel")
    theirs = mc.Net(folder / f"{weights}.prototxt", weights=folder / f"{weights}.caffemodel")
    assert not report.missing
    assert ours.params.keys() == theirs.params.keys()
    images = np.random.default_rng(1).uniform(-1, 1, (2, 3, *ours.blobs["data"].shape[2:])).astype(np.float32)
    results = []
    for net in (ours, theirs):
        net.blobs["data"].reshape(*images.shape)
        net.reshape()
        results.append(net.forward(data=images))
    assert results[0].keys() == results[1].keys()
    for output, expected in results[1].items():
        np.testing.assert_array_equal(to_host(results[0][output]), to_host(expected))

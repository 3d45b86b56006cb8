"""The test pass: what it says of a net is what a look at each image alone says."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.report import test_pass as passes
from minicaffe.inspect.report.answered import PER_CELL
from minicaffe.inspect.report.even_data import even_data
from minicaffe.inspect.report.patches import PER_CHANNEL
from minicaffe.inspect.report.pixels import as_pixels, shrunk
from minicaffe.spec.net import parse_net
from tests import ROOT

LENET = ROOT / "prototxt" / "lenet" / "train.yaml"
COUNT = 150  # no multiple of the batch size


@pytest.fixture(scope="module")
def lenet():
    with mc.Net(LENET, ROOT / "models" / "lenet.npz") as net:
        yield net


@pytest.fixture(scope="module")
def result(lenet):
    return passes.test_pass(lenet, COUNT)


@pytest.fixture(scope="module")
def seen(lenet):
    """The numbers of the images of the pass, and the blobs of these; conv2's before anything overwrites it."""
    order = np.arange(COUNT) * 1000 // COUNT
    source = next(layer for layer in lenet.layers if layer.type == "Data").batches.source
    images, labels = source.read(order)
    deploy = mc.Net(ROOT / "prototxt" / "lenet" / "deploy.yaml", ROOT / "models" / "lenet.npz")
    deploy.blobs["data"].reshape(*images.shape)
    deploy.reshape()
    deploy.forward(data=images / np.float32(256))
    return order, images, labels.astype(int), deploy


def test_the_counts_are_those_of_the_images_that_lie_evenly_in_the_data(result, seen):
    _, _, labels, deploy = seen
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, deploy.blobs["prob"].data.argmax(axis=1)), 1)
    assert result.count == result.confusion.count == COUNT
    np.testing.assert_array_equal(result.confusion.counts, counts)


def test_examples_are_the_most_confident_of_their_cell_with_the_pictures_of_these(result, seen):
    order, images, labels, deploy = seen
    prob = deploy.blobs["prob"].data
    for (true, said), places in result.cells.items():
        own = np.flatnonzero((labels == true) & (prob.argmax(axis=1) == said))
        best = np.sort(prob[own, said])[::-1][:PER_CELL]
        np.testing.assert_allclose([result.examples[k].share for k in places], best, atol=1e-5)
        for k in places:
            (i,) = np.flatnonzero(order == result.examples[k].number)
            assert i in own and result.examples[k].share == pytest.approx(float(prob[i, said]), abs=1e-5)
            np.testing.assert_array_equal(result.pictures[k], np.repeat(images[i, 0][:, :, None], 3, axis=2))
    wrong = np.flatnonzero(labels != prob.argmax(axis=1))
    assert sorted(result.examples[k].number for k in result.mistakes) == order[wrong].tolist()


def test_patches_are_what_the_largest_outputs_of_a_channel_see(result, seen):
    _, images, _, deploy = seen
    maps = deploy.blobs["conv2"].data
    for c in (0, 17, 49):
        highest = maps[:, c].max(axis=(1, 2))
        best = np.argsort(-highest, kind="stable")[:PER_CHANNEL]
        np.testing.assert_allclose(result.patch_values["conv2"][c], highest[best], rtol=1e-5)
        for k, i in enumerate(best):
            y, x = divmod(int(maps[i, c].argmax()), maps.shape[3])
            patch = images[i, 0, 2 * y : 2 * y + 14, 2 * x : 2 * x + 14]
            np.testing.assert_array_equal(result.patches["conv2"][c, k, :, :, 0], patch)


def test_a_dead_unit_and_one_that_is_always_on_are_found(lenet, result, seen):
    on = seen[3].blobs["ip1"].data > 0  # in place: as it is behind the ReLU
    assert result.dead["relu1"] == (~on.any(axis=0)).mean()
    assert result.always_on["relu1"] == on.all(axis=0).mean()
    bias = lenet.params["ip1"][1].data
    before = bias[:2].copy()
    bias[:2] = -1e6, 1e6
    planted = passes.test_pass(lenet, 100)
    assert planted.dead_units["relu1"] == [0] and planted.always_on["relu1"] == 1 / 500
    assert not passes.test_pass(lenet, 99).dead  # too few images to say so
    bias[:2] = before


def test_little_room_gives_smaller_patches_and_fewer_pictures_but_all_mistakes(lenet, result):
    small = passes.test_pass(lenet, COUNT, room=40_000, patch_room=30_000)
    assert sum(patches.nbytes for patches in small.patches.values()) <= 30_000
    assert small.pictures.nbytes <= 40_000 < result.pictures.nbytes
    assert len(small.mistakes) == len(result.mistakes)


def test_a_cell_of_many_sure_mistakes_shows_twelve_and_all_have_their_pictures():
    text = """
layer:
- {name: data, type: Data, top: [data, label], data_param: {source: sample/mnist-test, batch_size: 30}}
- {name: ip, type: InnerProduct, bottom: data, inner_product_param: {num_output: 10, bias_filler: {type: constant}}}
- {name: accuracy, type: Accuracy, bottom: [ip, label]}
"""
    with mc.Net(parse_net(text)) as net:
        net.params["ip"][1].data[...] = net.setting.device.put(np.eye(10, dtype=np.float32)[3])
        says_three = passes.test_pass(net, 600)
    assert set(says_three.confusion.counts.sum(axis=0)) == {0, 600}
    assert all(len(places) == PER_CELL for places in says_three.cells.values())
    assert len(says_three.mistakes) == 24 and len(says_three.pictures) == len(says_three.examples)
    source = next(layer for layer in net.layers if layer.type == "Data").batches.source
    for k in says_three.mistakes:
        image, _ = source.read(np.array([says_three.examples[k].number]))
        np.testing.assert_array_equal(says_three.pictures[k, :, :, 0], image[0, 0])


def test_the_data_go_on_where_they_were(lenet):
    first = lenet.forward(["data"])["data"]
    passes.run_test_pass(lenet, 70, [])
    second = lenet.forward(["data"])["data"]
    with even_data(lenet, 10**6) as numbers:
        assert numbers.tolist() == list(range(1000))
        np.testing.assert_array_equal(lenet.forward(["data"])["data"], first)
        np.testing.assert_array_equal(lenet.forward(["data"])["data"], second)


def test_a_net_without_labels_says_why_there_is_no_confusion():
    net = mc.Net(
        parse_net("""
layer:
- {name: data, type: Data, data_param: {source: sample/mnist-test, batch_size: 10}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 3}}
- {name: relu, type: ReLU}
""")
    )
    result = passes.test_pass(net, 100)
    assert result.confusion is None and "no layer in phase TEST compares" in result.no_confusion
    assert 0 <= result.dead["relu"] <= 1
    with pytest.raises(mc.SpecError, match="no data layer in phase TEST"):
        passes.test_pass(mc.Net(ROOT / "prototxt" / "lenet" / "deploy.yaml"), 10)


def test_pixels_come_back_from_what_a_net_was_fed(rng):
    pictures = rng.integers(256, size=(2, 5, 4, 3), dtype=np.uint8)
    blue_first = pictures[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)
    mean = np.array([10, 20, 30], np.float32)
    preparation = mc.Net(ROOT / "prototxt" / "lenet" / "train.yaml").preparation
    made = type(preparation)(None, (2, 1, 0), 255.0, mean, 0.5, True)
    np.testing.assert_array_equal(as_pixels((blue_first - mean[:, None, None]) / 2, made), pictures)
    stretched = as_pixels(blue_first / 3, None)
    assert stretched.min() == 0 and stretched.max() == 255
    assert shrunk(pictures, 3).shape == (2, 2, 2, 3) and shrunk(pictures, 5) is pictures
    np.testing.assert_array_equal(
        shrunk(pictures, 3)[0, 0, 0], np.rint(pictures[0, :2, :2].mean(axis=(0, 1)))
    )

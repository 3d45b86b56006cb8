"""What a notebook shows: HTML that is small, closed in itself, and has the numbers that the net has."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
import minicaffe.pycaffe as caffe
from minicaffe.inspect import reprs
from minicaffe.inspect.logs import Series
from minicaffe.inspect.summary import layer_rows
from minicaffe.inspect.tiles import LARGEST, SIDES, color_tiles_of, table_of, tiles_of

PROTOTXT = Path(__file__).resolve().parents[2] / "prototxt"
UNCLOSED = {"img", "br", "meta"}
HOSTILE = '"</div><script>alert(1)</script>&é\\e[2J"'


class Text(HTMLParser):
    """The words of a page; fails where a tag is not closed by its own, or could load something or run."""

    def __init__(self, html):
        super().__init__()
        self.words, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "object")
        for name, value in attrs:
            assert not name.startswith("on") and not (
                name in ("src", "href") and not value.startswith("data:")
            )
        if tag not in UNCLOSED:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words += data.split()

    def __str__(self):
        return " ".join(self.words)


def text_of(shown):
    html = shown._repr_html_()
    assert len(html.encode()) <= 200_000 and "url(" not in html and "@import" not in html
    return str(Text(html))


@pytest.fixture(scope="module")
def lenet():
    net = mc.Net(PROTOTXT / "lenet" / "deploy.yaml", PROTOTXT.parent / "models" / "lenet.npz")
    net.forward(np.random.default_rng(1).random((3, 1, 28, 28), np.float32))
    return net


def test_a_net_shows_its_drawing_and_the_table_of_its_summary(lenet):
    html, text = lenet._repr_html_(), text_of(lenet)
    assert "<svg" in html
    for row in layer_rows(lenet):
        assert row.name in text and (not row.params or f"{row.params:,} {row.params_share:.1%}" in text)
    assert "431,080 parameters" in text


@pytest.mark.parametrize("name", ["googlenet", "fcn8s"])
def test_a_large_net_is_small_enough_and_takes_no_memory(name):
    net = mc.Net(PROTOTXT / name / "deploy.yaml")
    assert "Convolution" in text_of(net)
    assert not any(blob.has_data for blob in net.blobs.values())


def test_a_net_that_cannot_be_folded_is_cut(rng):
    layers = [{"name": "x", "type": "Input", "input_param": {"shape": {"dim": [2, 2, 40, 40]}}}]
    for i in range(300):
        kind = ("TanH", "Pooling", "LRN", "Power", "Sigmoid", "ELU")[rng.integers(6)]
        size = {"pooling_param": {"kernel_size": 1}} if kind == "Pooling" else {}
        layers.append({"name": f"a layer with a long name {'x' * 200} {i}", "type": kind, **size})
    told = text_of(mc.Net({"layer": layers}))
    assert "layers more" in told and "net.draw() shows it" in told


def test_pictures_of_a_layer_with_many_tops_are_cut():
    noise = {"type": "gaussian"}
    tops = [f"y{i}" for i in range(6)]
    data = {"shape": {"dim": [1, 64, 28, 28]}, "data_filler": noise}
    net = mc.Net({"layer": [{"name": "x", "type": "DummyData", "top": tops, "dummy_data_param": data}]})
    net.forward()
    told = text_of(net.layers[0])
    assert 1 <= net.layers[0]._repr_html_().count("data:image/png") < 6 and "blobs['y5']" in told


def test_a_layer_shows_formula_settings_shapes_and_kernels(lenet):
    text, html = text_of(lenet.layers[1]), lenet.layers[1]._repr_html_()
    for part in (
        "dx = col2im(wᵀ · dy)",
        "kernel_size 5",
        "data (3×1×28×28)",
        "conv1 (3×20×24×24)",
        "20 filters",
    ):
        assert part in text
    assert "params['conv1'][0] (20×1×5×5)" in text and html.count("data:image/png") == 2
    assert "y = max(x, 0)" in text_of(lenet.layers[6])


def test_weights_of_units_that_see_maps_are_shown_as_maps(lenet):
    assert "8 of 500 filters down, 16 of 50 slices across" in text_of(lenet.layers[5])
    assert "10 rows, 500 columns" in text_of(lenet.layers[7])


def test_a_blob_shows_statistics_and_maps(lenet):
    values = lenet.blobs["conv1"].data
    text = text_of(lenet.blobs["conv1"])
    assert f"min {values.min():.4g} · mean {values.mean():.4g} · max {values.max():.4g}" in text
    assert "20 maps of image 0" in text and "3 images" in text_of(lenet.blobs["data"])
    assert f"red {values[0].min():.4g} … 0 … {values[0].max():.4g} blue" in text


@pytest.mark.parametrize(
    "shape",
    [(), (1,), (0, 3), (7,), (1000,), (2, 3), (50, 30), (2, 3, 4), (2, 5, 1, 1), (3, 3, 9, 7), (2, 70, 2, 3),
     (1, 1, 300, 5), (1, 2, 3, 4, 5)],
)  # fmt: skip
@pytest.mark.parametrize("what", ["nothing", "zeros", "noise", "nan"])
def test_blobs_of_any_shape_can_be_shown(shape, what, rng):
    blob = mc.Blob(shape)
    if what == "nothing":
        told = text_of(blob)
        assert not blob.has_data and ("no data yet" in told or "empty" in told)
        return
    values = np.zeros(shape, np.float32) if what == "zeros" else rng.standard_normal(shape, np.float32)
    blob.data[...] = values
    if what == "nan" and blob.count:
        blob.data[(..., *[0] * len(shape))] = np.nan
        blob.data[(..., *[-1] * len(shape))] = np.inf
        assert "not finite" in text_of(blob)
    text_of(blob)


@pytest.mark.parametrize("ends", [(1e8, 1e8 + 8), (0, 1e-45), (-3e38, 3e38)], ids=["close", "tiny", "far"])
def test_numbers_at_the_limits_of_float32_have_a_histogram(ends):
    blob = mc.Blob((40,))
    blob.data[...] = ends[0]
    blob.data[5:] = ends[1]
    assert f"histogram from {np.float32(ends[0]):.4g} to {np.float32(ends[1]):.4g}" in blob._repr_html_()


@pytest.mark.parametrize(("most", "every"), [(26, 1), (25, 1), (24, 2), (12, 3), (9, 3)])
def test_of_many_numbers_every_kth_is_looked_at(monkeypatch, most, every):
    monkeypatch.setattr(reprs, "MOST_NUMBERS", most)
    values = np.arange(25, dtype=np.float32)
    values[1] = 100  # which is left out
    text = reprs._statistics(values)
    assert (f"of one number in {every}:" in text) == ("of one number in" in text) == (every > 1)
    kept = values[::every]
    assert f"max {kept.max():.4g} " in text and f"mean {kept.mean():.4g} " in text


def test_a_curve_has_two_points_at_least():
    point, nan = Series((5,), (1.0,), (0.5,)), Series((5, 6), (1.0, 2.0), (0.5, float("nan")))
    assert reprs._curve({"train": point, "test": nan}) == ""
    line = Series((0, 8), (1.0, 2.0), (2.0, 1.0))
    found = reprs._curve({"test": point, "train": line})
    assert re.findall('points="([^"]*)"', found) == ["30.0,5.0 430.0,55.0"]
    assert "train loss 1" in found and "test loss" not in found


def test_names_are_data():
    net = mc.Net.from_text(
        f"name: {HOSTILE}\nlayer:\n- {{name: x, type: Input, input_param: {{shape: {{dim: [2, 3]}}}}}}\n"
        f"- {{name: {HOSTILE}, type: InnerProduct, inner_product_param: {{num_output: 2}}}}"
    )
    net.forward()
    for shown in (net, *net.layers, *net.blobs.values()):
        assert "\x1b" not in shown._repr_html_()
    assert "<script>alert(1)</script>&é" in text_of(net)
    assert "<script>alert(1)</script>&é" in text_of(net.layers[1])


def test_a_solver_shows_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = (
        f"net: {PROTOTXT / 'lenet' / 'train.yaml'}\ntest_iter: 1\ntest_interval: 2\ndisplay: 1\nmax_iter: 4\n"
    )
    Path("s.yaml").write_text(
        net + "base_lr: 0.01\nlr_policy: step\ngamma: 0.1\nstepsize: 2\nsnapshot_prefix: run/x\n"
    )
    with mc.Solver("s.yaml") as solver:
        told = text_of(solver).partition("Net 'LeNet'")[0]
        assert "iteration 0 of 4" in told and "loss" not in told
        solver.step(3)
        told = text_of(solver)
        assert "iteration 3 of 4" in told and "learning rate 0.001" in told
        assert (
            f"last loss {solver.smoothed_loss():.6g}" in told and "test loss" in told and "train loss" in told
        )
        assert repr(solver) == (
            f"Solver of 'LeNet': SGD, iteration 3 of 4, rate 0.001, loss {solver.smoothed_loss():.6g}"
        )


def test_objects_of_pycaffe_show_the_same(lenet, tmp_path, monkeypatch):
    net = caffe.Net.of(lenet)
    assert repr(net) == repr(lenet) and net._repr_html_() == lenet._repr_html_()
    assert "20 maps" in text_of(net.blobs["conv1"]) and "20 filters" in text_of(net.layers[1])
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(f"net: {PROTOTXT / 'lenet' / 'train.yaml'}\nbase_lr: 0.01\nlr_policy: fixed\n")
    solver = caffe.get_solver("s.yaml")
    assert repr(solver).startswith("Solver of 'LeNet'") and "learning rate" in text_of(solver)


def pixels(tiles):
    return np.array(Image.open(io.BytesIO(tiles.png)).convert("RGBA")).astype(int)


def test_colors_of_numbers_tell_their_sign_and_zero_is_transparent():
    shown = pixels(tiles_of(np.array([[[-2.0, 0.0], [1.0, np.nan]]])))
    half = len(shown) // 4
    minus, zero = shown[half, half], shown[half, -half]
    plus, nothing = shown[-half, half], shown[-half, -half]
    assert minus[0] > minus[2] and minus[3] == 255
    assert plus[2] > plus[0] and 0 < plus[3] < 255, "half as large, so paler"
    assert zero[3] == nothing[3] == 0


def test_tiles_lie_in_rows_with_transparent_gaps():
    found = tiles_of(np.ones((20, 5, 5)))
    shown = pixels(found)
    side = SIDES[0] // 5 * 5
    assert found.size == (10 * side + 9 * 3, 2 * side + 3) and (found.lo, found.hi) == (0, 1)
    assert shown[0, side + 1, 3] == 0 and shown[0, side + 3, 3] == 255
    images = pixels(color_tiles_of(np.eye(3)[:2, :, None, None] * np.ones((1, 1, 4, 4))))
    assert images[5, 5].tolist()[:3] == [0, 0, 255], "the first channel is blue"
    assert images[5, SIDES[0] + 1, 3] == 0


def test_a_picture_of_noise_stays_small(rng):
    noise = rng.standard_normal((64, 100, 100), np.float32)
    for found in (tiles_of(noise), color_tiles_of(noise[:48].reshape(16, 3, 100, 100)), table_of(noise[0])):
        assert len(found.png) <= 2 * LARGEST
        assert base64.b64decode(re.sub("^.*,", "", found.uri)) == found.png

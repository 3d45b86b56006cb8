"""The engine in the report's page computes what minicaffe computes: every blob, for every kind of layer."""

import base64

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.report import live
from minicaffe.inspect.report.live import runnable
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.page import _file
from minicaffe.inspect.report.pictures import Picture, Pictures
from minicaffe.inspect.report.program import NotLive
from minicaffe.inspect.report.record import copy_of, record
from minicaffe.train.preview import count_multiply_adds
from tests import ROOT

EVERY_STEP = ROOT / "tests/report/every_step.yaml"
RUN = """([text, program, params, input]) => {
  const floats = code => new Float32Array(Uint8Array.from(atob(code), c => c.charCodeAt(0)).buffer);
  const engine = new Function(text + "; return {load, forward};")();
  engine.load(program, Object.fromEntries(Object.entries(params).map(([key, code]) => [key, floats(code)])));
  const blobs = engine.forward(floats(input));
  const code = a => { let s = ""; for (const byte of new Uint8Array(a.buffer, a.byteOffset, a.byteLength))
    s += String.fromCharCode(byte); return btoa(s); };
  return Object.fromEntries(Object.entries(blobs).map(([key, a]) => [key, code(a)]));
}"""


@pytest.fixture(scope="module")
def blank(browser):
    """An empty tab."""
    page = browser.new_page()
    yield page
    page.close()


def text_of(array):
    return base64.b64encode(np.ascontiguousarray(array, np.float32).tobytes()).decode("ascii")


def recorded(net, seed=1, scale=1.0):
    """What a net computes for one picture of noise."""
    twin = copy_of(net)
    name = twin.inputs[0]
    x = np.random.default_rng(seed).normal(0, scale, (1, *twin.blobs[name].shape[1:])).astype(np.float32)
    return record(twin, Pictures([Picture("noise", None, {name: x})], name, None, ()))


def run(page, recording, program, dtype):
    params = {
        key: array.astype(dtype) if array.size > 1024 else array for key, array in program.params.items()
    }
    x = recording.stages[recording.input_stage].values[0]
    steps = {"input": program.input, "steps": program.steps}
    texts = {key: text_of(array) for key, array in params.items()}
    found = page.evaluate(RUN, [_file("engine.js"), steps, texts, text_of(x)])
    return {key: np.frombuffer(base64.b64decode(text), np.float32) for key, text in found.items()}


def worst(recording, blobs):
    """The largest difference from what was recorded, as a share of its blob's largest number, and where it is."""
    found = {}
    for key, values in blobs.items():
        if key in recording.stages:
            mine = recording.stages[key].values[0].ravel()
            found[key] = float(np.abs(mine - values).max() / max(np.abs(mine).max(), 1e-30))
    assert recording.answer in found
    return max(found.items(), key=lambda item: item[1])


def every_step(random_pool="STOCHASTIC"):
    """The net of all kinds of layers, with numbers where its fillers leave none."""
    net = mc.Net.from_text(EVERY_STEP.read_text().replace("STOCHASTIC", random_pool), seed=5)
    rng = np.random.default_rng(2)
    mean, variance, count = net.params["bn"]
    mean.data[...] = rng.normal(size=mean.shape)
    variance.data[...] = rng.uniform(1, 6, variance.shape)
    count.data[...] = 2.5
    return net


NETS = ["lenet", "cifar10_quick", "cifar10_full", "cifar10_vgg", "rnet", "every step"]


def net_named(name):
    if name == "every step":
        return every_step()
    if name == "rnet":
        return mc.Net(ROOT / "prototxt/mtcnn/rnet.yaml", seed=3)
    return mc.Net(ROOT / f"prototxt/{name}/deploy.yaml", ROOT / f"models/{name}.npz")


@pytest.mark.browser
@pytest.mark.parametrize("name", NETS)
def test_every_blob_is_that_of_minicaffe(name, blank):
    recording = recorded(net_named(name), scale=40 if name.startswith("cifar10") else 1)
    program = runnable(recording, Options())
    precisions = [(np.float32, 1e-5), (np.float16, 2e-3)]
    for dtype, tolerance in precisions[name == "cifar10_vgg" :]:  # whose weights only travel as float16
        key, off = worst(recording, run(blank, recording, program, dtype))
        assert off <= tolerance, key


def test_the_net_of_every_step_has_them_all():
    """So that no step of the engine goes untested."""
    ops = {step["op"] for step in runnable(recorded(every_step()), Options()).steps}
    defined = {
        line.split(" ")[0][6:] for line in _file("engine.js").splitlines() if line.startswith("steps.")
    }
    assert ops == defined


def test_a_layer_in_place_on_the_image_runs_in_the_page():
    spec = """
    layer:
    - {name: data, type: Input, input_param: {shape: {dim: [1, 3, 4, 4]}}}
    - {name: centred, type: Power, top: data, power_param: {shift: -0.5}}
    - {name: ip, type: InnerProduct, inner_product_param: {num_output: 2}}
    - {name: prob, type: Softmax}
    """
    recording = recorded(mc.Net.from_text(spec))
    program = runnable(recording, Options())
    assert program.input == recording.input_stage == "data@data"
    assert program.steps[0]["bottoms"] == ["data@data"] and program.steps[0]["op"] == "power"


def test_nets_of_much_work_are_recorded(monkeypatch):
    recording = recorded(every_step())
    work = count_multiply_adds(recording.net)
    monkeypatch.setattr(live, "MOST_WORK", work)
    runnable(recording, Options())
    monkeypatch.setattr(live, "MOST_WORK", work - 1)
    with pytest.raises(NotLive, match=f"{work:,} multiply-adds are more than the {work - 1:,}"):
        runnable(recording, Options())


def why_not(spec, **options):
    net = mc.Net.from_text(spec) if isinstance(spec, str) else mc.Net(spec, **options)
    with pytest.raises(NotLive) as caught:
        runnable(recorded(net), Options())
    return str(caught.value)


@pytest.mark.parametrize(
    "layer, why",
    [
        ("{name: odd, type: AbsVal}", "the page cannot run layer 'odd' of type AbsVal"),
        ("{name: odd, type: BatchNorm, batch_norm_param: {use_global_stats: false}}", "other images"),
        (
            "{name: odd, type: InnerProduct, inner_product_param: {num_output: 40000}}",
            "parameters",
        ),
        ("{name: odd, type: Pooling, top: [odd, where], pooling_param: {kernel_size: 2}}", "second top"),
    ],
)
def test_what_stands_in_the_way_is_named(layer, why):
    spec = f"""
    layer:
    - {{name: data, type: Input, input_param: {{shape: {{dim: [1, 3, 4, 4]}}}}}}
    - {layer}
    - {{name: ip, type: InnerProduct, bottom: odd, inner_product_param: {{num_output: 2}}}}
    - {{name: prob, type: Softmax}}
    """
    assert why in why_not(spec)

"""Live mode: the page's net gives minicaffe's numbers, takes pictures of one's own, and is not trusted if wrong."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.report.make import Report
from minicaffe.inspect.report.weights import precision
from tests.report.conftest import OPTIONS, net_of, recording_of, report_of

pytestmark = pytest.mark.browser
IN_PAGE = """async key => { await Live.ready; const {data, exact} = await Values.stage(key, 1);
  return {on: Live.on, exact, data: data && Array.from(data)}; }"""


@pytest.mark.parametrize("name", ["lenet", "quick"])
def test_the_page_shows_minicaffes_numbers_of_every_blob(name, open_page):
    page, recording = open_page(name), recording_of(name)
    assert precision(recording, OPTIONS) == "f32"
    live = {
        key for step in page.js("() => R.live.steps") for key in step["tops"] if not key.startswith("Z of")
    }
    for key in live:
        found, mine = page.js(IN_PAGE, key), recording.stages[key].values[1].ravel()
        assert found["on"] and found["exact"]
        off = np.abs(np.array(found["data"]) - mine).max() / np.abs(mine).max()
        assert off <= 1e-5, key


def changed(report, layer, index, change):
    """A report with one array of the page's weights changed: ``change(array)`` writes into it."""
    text = re.search(r'<script type="application/json" id="report">(.*?)</script>', report.html)[1]
    found = next(entry for entry in json.loads(text)["layers"] if entry["name"] == layer)
    ref = found["params"][index]["values"]
    pattern = rf'(id="pack-{ref["pack"]}">)(.*?)(</script>)'
    packed = bytearray(zlib.decompress(base64.b64decode(re.search(pattern, report.html)[2])))
    array = np.frombuffer(packed, np.float32, int(np.prod(ref["shape"])), ref["offset"])
    change(array)
    code = base64.b64encode(zlib.compress(packed)).decode("ascii")
    return Report(report.name, re.sub(pattern, lambda m: m[1] + code + m[3], report.html))


def test_one_wrong_weight_turns_live_mode_off(make_page):
    label = recording_of("lenet").images[0].label

    def less_of_the_right_class(bias):
        bias[label] -= 5

    page = make_page(changed(report_of("lenet"), "ip2", 1, less_of_the_right_class))
    page.js("() => Live.ready")
    assert page.js("() => [Live.on, Live.failed]") == [False, True]
    assert "differ" in page.tab.get_by_role("alert").text_content()
    stage = page.js("key => Values.stage(key, 0).then(found => found.exact)", "conv1")
    assert stage is False  # what is shown then are the recorded numbers


def test_a_picture_of_ones_own_is_prepared_as_minicaffe_does(open_page):
    page = open_page("quick")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    pixels[..., 3] = 255
    found = page.js(
        "bytes => Live.ready.then(() => Live.picture(Uint8ClampedArray.from(bytes))).then(x => Array.from(x))",
        pixels.ravel().tolist(),
    )
    mine = mc.Classifier(net_of("quick")).prepare([pixels[..., :3] / np.float32(255)])
    assert np.abs(np.array(found) - mine.ravel()).max() <= 1e-4 * np.abs(mine).max()


@pytest.mark.parametrize("order", [None, [0, 1, 2], [1, 2, 0]])
def test_channels_of_a_picture_of_ones_own_go_in_the_order_of_the_net(open_page, order):
    page, pixels = open_page("quick"), np.random.default_rng(1).integers(0, 256, (32, 32, 4), np.uint8)
    found = page.js(
        """async ([bytes, channels]) => {
          const before = R.input.preparation;
          R.input.preparation = {raw_scale: 255, input_scale: 1, mean: null, channels};
          const x = await Live.picture(Uint8ClampedArray.from(bytes));
          R.input.preparation = before;
          return Array.from(x);
        }""",
        [pixels.ravel().tolist(), order],
    )
    np.testing.assert_allclose(found, pixels[..., order or [0, 1, 2]].transpose(2, 0, 1).ravel(), rtol=1e-6)


def test_a_picture_of_ones_own_gets_an_answer_and_can_be_removed(lenet_page):
    found = lenet_page.js(
        """async () => {
          await Live.ready;
          const rgba = await Pack.bytes(R.images[0].thumbnail).then(rgb => Uint8ClampedArray.from(
            {length: rgb.length / 3 * 4}, (_, i) => i % 4 === 3 ? 255 : rgb[Math.floor(i / 4) * 3 + i % 4]));
          const number = await Live.add("mine", rgba), before = State.imageCount();
          const same = await Values.answer(number), other = await Values.answer(0);
          Live.remove(number);
          return {before, after: State.imageCount(), off: Math.max(...same.map((v, i) => Math.abs(v - other[i])))};
        }"""
    )
    assert found["before"] == found["after"] + 1
    assert found["off"] <= 1e-5

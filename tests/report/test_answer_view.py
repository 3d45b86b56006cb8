"""View 5, Answer: bars, occlusion, Grad-CAM, and pictures of the user's own; against NumPy."""

import numpy as np
import pytest

from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.record import softmax
from minicaffe.inspect.report.views import answer
from tests.report.conftest import WAIT

pytestmark = pytest.mark.cpu_only("a page looks the same wherever its numbers come from")
browser = pytest.mark.browser
BARS = """() => [...document.querySelectorAll('.says')].map(
    b => [Number(b.dataset.class), b.querySelector('.num').textContent, b.textContent])"""
STROKES = {  # places on the pad, from 0 to 1
    "1": [[(0.52, 0.15), (0.48, 0.85)]],
    "4": [[(0.3, 0.15), (0.28, 0.5), (0.7, 0.48)], [(0.65, 0.2), (0.62, 0.88)]],
    "7": [[(0.25, 0.2), (0.72, 0.2), (0.45, 0.85)]],
    "small 4, in a corner": [[(0.1, 0.1), (0.1, 0.24), (0.26, 0.23)], [(0.24, 0.12), (0.23, 0.36)]],
}


def shown(text):
    """A number as the page shows it, as a float."""
    return float(text.replace("−", "-"))


def says(page, image, number):
    """Wait until the page shows an image, and that the net takes it for a class."""
    page.tab.locator(f'[data-image="{image}"][aria-pressed=true]').wait_for(timeout=WAIT)
    page.tab.locator(f'.says:first-child[data-class="{number}"]').wait_for(timeout=WAIT)


def covered_by_hand(recording, image, top, left):
    """p of each class with the square at a place, by the recorded net itself."""
    pictures = np.concatenate([image.arrays["data"] for image in recording.images])
    recording.feed(image)
    blob = recording.net.blobs["data"]
    blob.data[:, :, top : top + 4, left : left + 4] = pictures.mean()  # a seventh of 28 pixels
    recording.net.run_forward(1)
    return softmax(recording.net.blobs["ip2"].data.reshape(1, -1))[0]


def test_grad_cam_is_the_sum_of_maps_by_their_mean_gradient(lenet_recording):
    recording, layer = lenet_recording, lenet_recording.layer("conv2")
    stage = recording.stages["conv2"]
    found = answer.cam(recording, layer)
    for image in range(2):
        by_hand = np.zeros(stage.shape[1:])
        for a, d in zip(stage.values[image], stage.diff[image], strict=True):
            by_hand -= d.mean() * a
        np.testing.assert_allclose(found[image], np.maximum(by_hand, 0), rtol=1e-4, atol=1e-7)


def test_a_net_that_would_take_too_long_is_not_covered(lenet_recording, monkeypatch):
    monkeypatch.setattr(answer, "MOST_MULTIPLY_ADDS", 1e9)
    found = answer.data(lenet_recording, Packer(), Options())["occlusion"]
    assert (len(found["images"]), found["tops"][1]) == (4, 4)  # side by side
    monkeypatch.setattr(answer, "MOST_MULTIPLY_ADDS", 1e6)
    found = answer.data(lenet_recording, Packer(), Options())["occlusion"]
    assert "images" not in found
    assert "G multiply-adds" in found["why"]


@browser
def test_bars_are_the_five_best_classes(lenet_page, lenet_recording):
    scores = lenet_recording.scores[1]
    lenet_page.at("view=answer&image=1")
    bars = lenet_page.js(BARS)
    assert [c for c, *_ in bars] == np.argsort(-scores, kind="stable")[:5].tolist()
    for c, text, _ in bars:
        assert shown(text) == pytest.approx(scores[c], rel=6e-3)
    assert "true" in bars[0][2]


@browser
def test_the_occlusion_map_is_what_covering_does(lenet_page, lenet_recording):
    lenet_page.at("view=answer&image=0")
    occlusion = lenet_page.js("R.views.answer.occlusion")
    classes = occlusion["images"][0]["classes"]
    rows = lenet_page.js(
        "() => [...document.querySelectorAll('.card .cells tr')].map(r => [...r.cells].map(c => c.title))"
    )
    alone = lenet_recording.scores[0]
    for row, column in ((0, 0), (5, 4), (6, 6), (12, 12)):
        p = covered_by_hand(lenet_recording, 0, occlusion["tops"][row], occlusion["lefts"][column])
        fall = np.log(alone[classes[0]] / p[classes[0]])
        assert float(rows[row][column]) == pytest.approx(fall, rel=2e-3, abs=1e-3)


@browser
def test_a_class_is_chosen_by_its_bar_with_the_keyboard(lenet_page):
    lenet_page.at("view=answer&image=0")
    second = lenet_page.tab.locator(".says").nth(1)
    chosen = int(second.get_attribute("data-class"))
    second.focus()
    lenet_page.press("Enter")
    assert lenet_page.js("State.class") == f"0:{chosen}"
    assert f"class {chosen} depends on" in lenet_page.tab.locator("main").inner_text()


@browser
def test_the_square_moves_by_arrows_and_the_bars_follow(lenet_page, lenet_recording):
    lenet_page.at("view=answer&image=0")
    lenet_page.tab.locator("[data-focus=by-hand]").focus()
    lenet_page.press(*["ArrowRight"] * 6, *["ArrowDown"] * 6)
    top, left = map(int, lenet_page.js("State.cover").split(","))
    assert lenet_page.js("document.activeElement.dataset.focus") == "by-hand"
    p = covered_by_hand(lenet_recording, 0, top, left)
    text = lenet_page.tab.locator(".read-out").inner_text()
    assert shown(text.rpartition(" to ")[2].rstrip(".")) == pytest.approx(p[2], rel=6e-3)
    if lenet_page.js("Values.isLive()"):
        for c, number, _ in lenet_page.js(BARS):
            assert shown(number) == pytest.approx(p[c], rel=1e-2, abs=1e-6)


@browser
@pytest.mark.parametrize("digit", STROKES)
def test_a_drawn_digit_is_recognised(lenet_page, digit):
    lenet_page.js("() => Live.ready")
    lenet_page.at("view=answer&image=0")
    before = lenet_page.js("State.imageCount()")
    lenet_page.tab.locator("[data-focus=clear]").click()
    for stroke in STROKES[digit]:
        pad = lenet_page.tab.locator("canvas.pad")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        lenet_page.tab.mouse.move(*points[0])
        lenet_page.tab.mouse.down()
        for point in points[1:]:
            lenet_page.tab.mouse.move(*point, steps=6)
        lenet_page.tab.mouse.up()
    says(lenet_page, before, int(digit.split(",")[0][-1]))
    assert shown(lenet_page.js(BARS)[0][1]) > 0.9
    assert lenet_page.js("State.imageCount()") == before + 1
    lenet_page.js("n => { State.set({image: 0}); Live.remove(n); State.redraw(); }", before)


@browser
def test_a_class_is_chosen_for_one_image_alone(lenet_page):
    lenet_page.at("view=answer&image=0&class=0:5")
    assert lenet_page.tab.locator(".says[aria-pressed=true]").get_attribute("data-class") == "5"
    lenet_page.tab.locator("main").focus()
    lenet_page.press("ArrowRight", "ArrowRight")
    top = lenet_page.js("R.images[2].top")
    assert lenet_page.tab.locator(".says[aria-pressed=true]").get_attribute("data-class") == str(top)


@browser
def test_thin_lines_are_those_of_another_image(lenet_page, lenet_recording):
    lenet_page.at("view=answer&image=0&with=2")
    thin = lenet_page.js(
        """() => [...document.querySelectorAll('.says')].map(
            b => [b.dataset.class, b.querySelector('.thin').style.left])"""
    )
    for c, left in thin:
        assert float(left.rstrip("%")) == pytest.approx(
            100 * lenet_recording.scores[2][int(c)], rel=1e-3, abs=1e-3
        )


@browser
def test_a_picture_of_one_s_own_is_covered_in_the_page(lenet_page):
    """Image 0 as a picture of one's own, covered at four places: the falls are those recorded."""
    lenet_page.js("() => Live.ready")
    recorded = lenet_page.js(
        """async () => {
            const o = R.views.answer.occlusion, all = await Pack.array(o.images[0].falls), rgba = [];
            const found = [5, 6].map(row => [5, 6].map(column => all[o.lefts.length * row + column]));
            for (const v of await Values.input(0)) rgba.push(v * 256, v * 256, v * 256, 255);
            window.places = [[...o.tops], [...o.lefts]];
            for (const starts of [o.tops, o.lefts]) starts.splice(0, starts.length, starts[5], starts[6]);
            State.set({view: "answer", image: await Live.add("mine", Uint8ClampedArray.from(rgba))});
            return found;
        }"""
    )
    lenet_page.tab.get_by_role("button", name="cover it everywhere: 4 passes").click()
    lenet_page.tab.locator(".card .cells").wait_for(state="attached", timeout=WAIT)
    rows = lenet_page.js(
        "() => [...document.querySelectorAll('.card .cells tr')].map(r => [...r.cells].map(c => Number(c.title)))"
    )
    lenet_page.js(
        """() => {
            const o = R.views.answer.occlusion, mine = State.imageCount() - 1;
            [o.tops, o.lefts].forEach((starts, k) => starts.splice(0, starts.length, ...window.places[k]));
            State.set({image: 0});
            Live.remove(mine);
            State.redraw();
        }"""
    )
    np.testing.assert_allclose(rows, recorded, rtol=2e-3, atol=1e-3)


@browser
def test_the_pad_is_drawn_on_with_the_keyboard(lenet_page):
    lenet_page.js("() => Live.ready")
    lenet_page.at("view=answer&image=0")
    before = lenet_page.js("State.imageCount()")
    lenet_page.tab.locator("[data-focus=clear]").click()
    lenet_page.tab.locator("canvas.pad").focus()
    for _ in range(8):
        lenet_page.tab.keyboard.press("Shift+ArrowDown")
    says(lenet_page, before, 1)
    lenet_page.js("n => { State.set({image: 0}); Live.remove(n); State.redraw(); }", before)


@browser
def test_a_picture_from_a_file_is_prepared_as_classify_does(open_page, tmp_path):
    from PIL import Image

    page = open_page("quick")
    page.js("() => Live.ready")
    page.at("view=answer&image=0")
    pixels = np.random.default_rng(1).integers(
        0, 256, (32, 32, 3), np.uint8
    )  # of the input's size: not resized
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    page.js("() => { delete document.body.dataset.drawn; }")
    page.tab.locator("input[type=file]").set_input_files(tmp_path / "mine.png")
    page.drawn()
    found = page.js("() => Array.from(Live.images.at(-1).input)")
    preparation = page.js("R.input.preparation")
    mean = np.reshape(preparation["mean"], (3, 1, 1))
    expected = (pixels[:, :, ::-1].transpose(2, 0, 1) / 255 * preparation["raw_scale"] - mean) * preparation[
        "input_scale"
    ]
    np.testing.assert_allclose(np.reshape(found, (3, 32, 32)), expected, atol=1e-3)
    page.js("() => { State.set({image: 0}); Live.remove(State.imageCount() - 1); State.redraw(); }")


@browser
def test_what_is_no_picture_is_said(open_page, tmp_path):
    page = open_page("quick")
    page.js("() => Live.ready")
    page.at("view=answer&image=0")
    (tmp_path / "notes.png").write_text("no picture")
    page.tab.locator("input[type=file]").set_input_files(tmp_path / "notes.png")
    page.tab.locator("[role=status]", has_text="notes.png is no picture").wait_for(timeout=5000)


@browser
def test_a_net_without_class_names_still_says_classes(open_page):
    page = open_page("rnet")
    page.at("view=answer")
    assert page.tab.locator(".says").count() == 2


@browser
def test_grad_cam_is_of_the_last_convolution_until_another_is_chosen(lenet_page):
    lenet_page.at("view=answer")
    title = lenet_page.tab.locator(".card h3", has_text="Grad-CAM of")
    assert title.inner_text() == "Grad-CAM of conv2"
    lenet_page.tab.locator("[data-focus=cam]").select_option("conv1")
    lenet_page.drawn().tab.locator(".card h3", has_text="Grad-CAM of conv1").wait_for(timeout=WAIT)
    lenet_page.tab.locator('#rail [data-layer="conv2"]').click()
    lenet_page.drawn().tab.locator(".card h3", has_text="Grad-CAM of conv2").wait_for(timeout=WAIT)


@browser
def test_the_pad_is_in_the_view_that_is_shown_however_many_are_drawn_at_once(lenet_page):
    lenet_page.js("() => Live.ready")
    lenet_page.at("view=answer&image=0")
    in_page = """async () => {
        const image = Maps.image, slow = new Promise(done => setTimeout(done, 300));
        Maps.image = async (...args) => { await slow; return image(...args); };
        State.redraw();
        await new Promise(done => setTimeout(done, 100));
        Maps.image = image;
        State.redraw(); // it overtakes the one before
        await slow.then(() => new Promise(done => setTimeout(done, 300)));
        return document.querySelectorAll(".view:not(.pending) canvas.pad").length;
    }"""
    assert lenet_page.js(in_page) == 1

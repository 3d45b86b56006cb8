"""View 5, Answer: bars, occlusion, Grad-CAM, and pictures of the user's own; against NumPy."""

import numpy as np
import pytest

from minicaffe.inspect.report import grad_cam
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.record import softmax
from minicaffe.inspect.report.views import answer
from tests.report.conftest import WAIT

pytestmark = pytest.mark.cpu_only("a page looks the same wherever its numbers come from")
browser = pytest.mark.browser
ROOM = 100_000
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


@pytest.mark.parametrize("most", [grad_cam.MOST_MULTIPLY_ADDS, 0])
def test_grad_cam_is_the_sum_of_maps_by_their_mean_gradient(lenet_recording, monkeypatch, most):
    """Of the label, whose loss was recorded; also where there is no time for other classes."""
    monkeypatch.setattr(grad_cam, "MOST_MULTIPLY_ADDS", most)
    recording, stage = lenet_recording, lenet_recording.stages["conv2"]
    before = recording.net.params["conv1"][0].diff.copy()
    classes, maps = grad_cam.grad_cams(recording, ROOM)
    assert {len(each) for each in classes} == ({5} if most else {1})
    assert len(maps["conv2"]) == sum(len(each) for each in classes)
    start = 0
    for image, each in enumerate(classes):
        by_hand = np.zeros(stage.shape[1:])
        for a, d in zip(stage.values[image], stage.diff[image], strict=True):
            by_hand -= d.mean() * a
        found = maps["conv2"][start + each.index(recording.images[image].label)]
        np.testing.assert_allclose(found, np.maximum(by_hand, 0), rtol=1e-3, atol=1e-7)
        start += len(each)
    np.testing.assert_array_equal(recording.net.params["conv1"][0].diff, before)


def test_grad_cam_has_fewer_classes_where_there_is_little_room(lenet_recording):
    size = 24 * 24 + 8 * 8
    for room, count in ((4 * 6 * size, 5), (4 * 2 * size, 1), (4 * 2 * size - 1, 1)):
        classes, maps = grad_cam.grad_cams(lenet_recording, room)
        assert [len(each) for each in classes] == [count] * 4 and len(maps["conv1"]) == 4 * count


def test_grad_cam_of_another_class_is_of_its_own_score(lenet_recording):
    """Against differences: what raises log p of the second class, of a map moved as a whole."""
    recording, net, step = lenet_recording, lenet_recording.net, 1e-2
    classes, maps = grad_cam.grad_cams(recording, ROOM)
    second, values, alphas = classes[0][1], recording.stages["conv2"].values[0], []
    conv2 = net.layer_index("conv2", 0)
    for channel in range(len(values)):
        said = []
        for sign in (1, -1):
            recording.feed(0)
            net.blobs["conv2"].data[0, channel] += sign * step
            net.run_forward(conv2 + 1)
            said.append(np.log(softmax(net.blobs["ip2"].data.astype(np.float64))[0, second]))
        alphas.append((said[0] - said[1]) / (2 * step) / values[0].size)
    expected = np.maximum(np.einsum("c,chw->hw", alphas, values), 0)
    np.testing.assert_allclose(maps["conv2"][1], expected, atol=0.05 * expected.max())


@pytest.mark.parametrize(
    ("size", "shown"), [((24, 24), (24, 24)), ((32, 32), (32, 32)), ((33, 70), (11, 23)), ((1, 40), (1, 20))]
)
def test_maps_are_averaged_only_above_32_pixels(size, shown):
    assert grad_cam._averaged(np.ones((2, *size))).shape == (2, *shown)


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
    said = page.tab.locator("[role=status]", has_text="notes.png is no picture")
    said.wait_for(timeout=5000)
    below = said.bounding_box()["y"] - page.tab.locator("[data-focus=open]").bounding_box()["y"]
    assert 0 < below < 60


@browser
def test_a_net_without_class_names_still_says_classes(open_page):
    page = open_page("rnet")
    page.at("view=answer")
    assert page.tab.locator(".says").count() == 2


@browser
def test_grad_cam_is_of_the_last_convolution_until_another_is_chosen(lenet_page):
    lenet_page.at("view=answer")
    map_of = "canvas[aria-label^='Grad-CAM of {} ']".format
    assert lenet_page.tab.locator(map_of("conv2")).count() == 1
    lenet_page.tab.locator("[data-focus=cam]").select_option("conv1")
    lenet_page.drawn().tab.locator(map_of("conv1")).wait_for(timeout=WAIT)
    lenet_page.tab.locator('#rail [data-layer="conv2"]').click()
    lenet_page.drawn().tab.locator(map_of("conv2")).wait_for(timeout=WAIT)


@browser
def test_grad_cam_is_of_a_layer_before_the_last_where_that_shows_nothing(lenet_page):
    """And says so; the same layer is left out for what was chosen by hand."""
    forget = "() => { const {cam} = R.views.answer, {bytes} = Pack; Pack.bytes = bytes.own || bytes; }"
    lenet_page.js(
        """() => { const {bytes} = Pack, {conv2} = R.views.answer.cam;
        Pack.bytes = async ref => (ref === conv2 ? new Uint8Array(Pack.count(ref)) : bytes(ref));
        Pack.bytes.own = bytes; }"""
    )
    try:
        lenet_page.at("view=answer&image=0")
        text = lenet_page.tab.locator(".card", has_text="Grad-CAM").inner_text()
        assert "maps of conv1 raise log p. Those of conv2, the last, do not." in text
        lenet_page.at("view=answer&image=0&cam=conv2")
        assert "Nowhere do" in lenet_page.tab.locator(".card", has_text="Grad-CAM").inner_text()
    finally:
        lenet_page.js(forget)


@browser
def test_the_picture_is_seen_where_a_number_is_below_a_third_of_the_largest(lenet_page):
    lenet_page.at("view=answer&image=0")
    pixels = lenet_page.js(
        """async () => {
        const rows = async canvas => {
            const copy = new OffscreenCanvas(28, 28).getContext("2d", {willReadFrequently: true});
            copy.drawImage(await canvas, 0, 0);
            return [...copy.getImageData(0, 9, 28, 1).data];
        };
        const tinted = OverPicture.tinted(0, 1, (y, x) => x - 27, 27, "map");
        return [await rows(Maps.image(0, 1)), await rows(tinted)]; }"""
    )
    picture, tinted = np.array(pixels).reshape(2, 28, 4)
    assert (tinted[19:] == picture[19:]).all()
    assert (tinted[:9, 0] > tinted[:9, 2] + 20).all()  # red


@browser
def test_maps_over_the_picture_say_what_their_colours_are(lenet_page, lenet_recording):
    lenet_page.at("view=answer&image=0")
    found = lenet_page.js("Cover.mapOf(0).then(({falls}) => [Math.min(...falls[0]), Math.max(...falls[0])])")
    legends = lenet_page.tab.locator(".card .legend")
    assert [shown(text) for text in legends.nth(0).inner_text().split()] == pytest.approx(found, rel=6e-3)
    assert legends.nth(1).inner_text().split() == ["0", "the", "most"]


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


@browser
def test_both_maps_are_of_the_class_that_is_chosen(lenet_page):
    lenet_page.at("view=answer&image=0")
    second = lenet_page.tab.locator(".says").nth(1)
    chosen = int(second.get_attribute("data-class"))
    second.click()
    main = lenet_page.tab.locator("main")
    main.locator("h3", has_text=f"What class {chosen} depends on").wait_for(timeout=WAIT)
    assert main.locator(f'canvas[aria-label^="occlusion map of class {chosen}:"]').count() == 1
    assert main.locator(f'canvas[aria-label="Grad-CAM of conv2 for class {chosen}"]').count() == 1
    assert main.locator("h3", has_text="class").count() == 1


@browser
def test_a_class_without_grad_cam_leads_to_those_that_have_it(lenet_page):
    lenet_page.at("view=answer&image=0")
    classes = lenet_page.js("R.views.answer.cam_classes[0]")
    lenet_page.js("c => { R.views.answer.cam_classes[0] = [c]; }", classes[0])
    lenet_page.at(f"view=answer&image=0&class=0:{classes[1]}")
    card = lenet_page.tab.locator(".card", has_text=f"Not recorded for class {classes[1]}")
    card.get_by_role("button", name=f"class {classes[0]}").click()
    lenet_page.tab.locator('canvas[aria-label^="Grad-CAM"]').wait_for(timeout=WAIT)
    lenet_page.js("classes => { R.views.answer.cam_classes[0] = classes; }", classes)


@pytest.fixture
def red_seven(tmp_path):
    """A red 7 on white, as a file."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (56, 56), "white")
    ImageDraw.Draw(picture).line([(16, 12), (40, 12), (26, 46)], fill="red", width=5)
    picture.save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


@browser
def test_a_net_of_one_channel_shows_a_picture_as_grey_and_inverts_it(lenet_page, red_seven):
    lenet_page.js("() => Live.ready")
    lenet_page.at("view=answer&image=0")
    before = lenet_page.js("State.imageCount()")
    lenet_page.tab.locator("input[type=file]").set_input_files(red_seven)
    warning = lenet_page.tab.locator("#other-way")
    warning.wait_for(timeout=WAIT)
    assert "dark on light" in warning.inner_text()
    colours = (
        "() => { const d = Live.images.at(-1).thumbnail.data; return d.some((v, i) => v !== d[i - i % 3]); }"
    )
    assert not lenet_page.js(colours)
    lenet_page.tab.locator("[data-focus=invert]").click()
    says(lenet_page, before, 7)
    assert warning.count() == 0 and lenet_page.js("State.imageCount()") == before + 1
    lenet_page.js("n => { State.set({image: 0}); Live.remove(n); State.redraw(); }", before)


@browser
def test_bars_pictures_and_pad_are_on_the_first_screen(lenet_page):
    lenet_page.js("() => Live.ready")
    try:
        for width in (1024, 1366):
            lenet_page.tab.set_viewport_size({"width": width, "height": 700})
            lenet_page.at("view=answer&image=0")
            for part in (".says", "canvas.pad", "[data-focus=open]", ".card canvas", ".card .legend"):
                for found in lenet_page.tab.locator(part).all():
                    box = found.bounding_box()
                    assert box["y"] >= 0 and box["y"] + box["height"] <= 700, (width, part)
    finally:
        lenet_page.tab.set_viewport_size({"width": 1366, "height": 700})


@browser
def test_a_picture_of_one_s_own_says_what_is_not_there_and_leads_to_it(lenet_page):
    lenet_page.js("() => Live.ready")
    mine = lenet_page.js("Live.add('drawing', new Uint8Array(4 * 28 * 28).fill(99))")
    for view, picture in (("answer", 'canvas[aria-label^="Grad-CAM"]'), ("backward", ".verdict")):
        lenet_page.at(f"view={view}&image={mine}")
        main = lenet_page.tab.locator("main")
        assert main.locator(picture).count() == 0
        assert "of a picture of yours there are none" in main.inner_text()
        main.get_by_role("button", name="look at test image 0").click()
        main.locator(picture).wait_for(timeout=WAIT)
    lenet_page.js("n => { Live.remove(n); State.redraw(); }", mine)

"""View 8: its counts and pictures are the test pass's, in the page as in Python."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.confusion import wilson_interval
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.record import Recording, record
from minicaffe.inspect.report.test_pass import test_pass as pass_over
from minicaffe.inspect.report.views import test_set
from minicaffe.spec.net import parse_net
from tests.report.conftest import OPTIONS, recording_of, shown_to

pytestmark = pytest.mark.cpu_only("a page looks the same wherever its numbers come from")
browser = pytest.mark.browser
CLASSES = 50


@pytest.fixture(scope="module")
def result():
    """What the shared report of LeNet was made of."""
    return pass_over(recording_of("lenet").net, OPTIONS.test)


def recording(layers):
    data = "- {name: data, type: Data, top: [data, label], data_param: {source: sample/mnist-test, batch_size: 50}}"
    net = mc.Net(parse_net(f"layer:\n{data}\n{layers}"), seed=1)
    return record(net, shown_to(net))


def test_of_many_classes_the_view_has_pairs_in_place_of_a_matrix():
    found: Recording = recording(
        f"- {{name: ip, type: InnerProduct, bottom: data, inner_product_param: {{num_output: {CLASSES}, "
        "weight_filler: {type: xavier}}}\n- {name: accuracy, type: Accuracy, bottom: [ip, label]}"
    )
    view = test_set.data(found, Packer(), Options(test=200))
    assert view["counts"] is None and view["classes"] == len(view["recall"]) == CLASSES
    assert 5 < len(view["pairs"]) <= 40 and len(view["mistakes"]) == 24
    assert set(view["cells"]) <= {f"{true},{said}" for true, said, _ in view["pairs"]}
    assert sum(count is not None for count in view["recall"]) == 10


def test_without_labels_or_a_test_pass_the_view_says_what_fills_it(lenet_recording):
    assert test_set.data(lenet_recording, Packer(), Options(test=0)) == {"missing": "--test 1000"}
    no_labels = recording(
        "- {name: ip, type: InnerProduct, bottom: data, inner_product_param: {num_output: 3}}"
    )
    assert (
        "no layer in phase TEST compares" in test_set.data(no_labels, Packer(), Options(test=50))["missing"]
    )


@browser
def test_the_matrix_and_the_recall_are_those_of_the_pass(lenet_page, result):
    lenet_page.at("view=test_set")
    counts = [
        [int(cell) for cell in row[1:]] for row in lenet_page.numbers("What was said of each class?")[1:]
    ]
    np.testing.assert_array_equal(counts, result.confusion.counts)
    recall = [float(row[1]) for row in lenet_page.numbers("How many images of each class did it know?")[1:]]
    np.testing.assert_allclose(recall, 100 * result.confusion.recall, rtol=1e-6)
    lo, hi = (f"{100 * share:.1f}" for share in result.confusion.interval)
    said = f"{100 * result.confusion.accuracy:.1f} % of 200 test images; of all such images {lo} to {hi} %"
    assert said in lenet_page.tab.locator("main .read-out").inner_text()
    for p, n in ((1.0, 200), (0.755, 1000), (0.0, 7)):  # as Python's
        assert lenet_page.js("([p, n]) => wilson(p, n)", [p, n]) == pytest.approx(wilson_interval(p, n))
    assert lenet_page.js("between([0.9, 1])") == "90.0 to 100.0 %"


@browser
def test_a_cell_leads_to_its_pictures_the_surest_first(lenet_page, result):
    lenet_page.at("view=test_set&cell=3,3")
    shown = lenet_page.tab.locator('main [data-focus^="cell-"] canvas')
    names = [shown.nth(i).get_attribute("aria-label") for i in range(shown.count())]
    examples = [result.examples[k] for k in result.cells[3, 3]]
    assert len(names) == len(examples) == min(12, result.confusion.counts[3, 3])
    assert [int(name.split()[2]) for name in names] == [example.number for example in examples]
    pixels = lenet_page.js("""() => {
        const canvas = document.querySelector('main [data-focus^="cell-"] canvas');
        return [...canvas.getContext("2d").getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 == 0);
    }""")
    np.testing.assert_array_equal(np.reshape(pixels, (28, 28)), result.pictures[examples[0].picture, :, :, 0])


@browser
def test_no_image_is_to_be_clicked_where_there_is_none(lenet_page, result):
    true, said = np.argwhere(result.confusion.counts == 0)[0]
    asks = {}
    for cell in (f"{true},{said}", "3,3"):
        asks[cell] = (
            "Click one" in lenet_page.at(f"view=test_set&cell={cell}").tab.locator("main").inner_text()
        )
    assert list(asks.values()) == [False, True]


@browser
def test_arrows_and_enter_choose_a_cell(lenet_page, result):
    lenet_page.at("view=test_set&cell=0,0")
    lenet_page.tab.locator('main [data-cell="0,0"]').focus()
    lenet_page.press("ArrowRight", "ArrowDown", "Enter")
    assert "cell=1,1" in lenet_page.js("location.hash")
    assert f"{result.confusion.counts[1, 1]} of" in lenet_page.tab.locator("main h3").nth(1).inner_text()


@browser
def test_the_mistakes_are_shown_with_both_names(lenet_page, result):
    lenet_page.at("view=test_set")
    shown = lenet_page.tab.locator('main [data-focus^="mistake-"]')
    assert shown.count() == len(result.mistakes)
    for i, k in enumerate(result.mistakes):
        example = result.examples[k]
        lines = shown.nth(i).inner_text().strip().splitlines()
        assert lines[0] == f"{example.true} → {example.said}" and lines[1].endswith("%")  # not "585 %"


@browser
def test_a_test_image_that_is_clicked_joins_the_images_and_the_net_answers(lenet_page, result):
    lenet_page.js("() => Live.ready")
    lenet_page.at("view=test_set&cell=3,3")
    before = lenet_page.js("State.imageCount()")
    for _ in range(2):  # the second time it is there already
        lenet_page.at("view=test_set&cell=3,3")
        lenet_page.tab.locator('main [data-focus^="cell-"]').first.click()
        lenet_page.tab.locator(".view[data-view=answer]").wait_for()
        lenet_page.drawn()
    example = result.examples[result.cells[3, 3][0]]
    assert lenet_page.js("State.imageCount()") == before + 1
    own = lenet_page.js("(({name, label, top}) => [name, label, top])(Live.images.at(-1))")
    assert own == [f"test image {example.number}", 3, 3]
    scores = lenet_page.js("Live.forward(Live.images.at(-1).input).then(blobs => [...blobs[R.answer]])")
    shares = np.exp(scores) / np.exp(scores).sum()
    assert shares[3] == pytest.approx(example.share, abs=1e-6)
    lenet_page.js("n => { State.set({image: 0}); Live.remove(n); State.redraw(); }", before)

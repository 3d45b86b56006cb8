"""Drawings in Chromium: every text lies in its box, and beside no other."""

import pytest

import minicaffe as mc
from minicaffe.files.spec_formats import open_net
from minicaffe.inspect.drawing import svg_of
from minicaffe.inspect.drawing.boxes import boxes_of
from minicaffe.inspect.drawing.drawing import Drawing, view_of
from tests.inspect.drawn import conv, spec_of

pytestmark = [pytest.mark.browser, pytest.mark.cpu_only("of pictures: no device computes here")]

MISPLACED = """() => [...document.querySelectorAll("g.box")].flatMap(box => {
  const frame = box.querySelector(".outline").getBBox(), right = frame.x + frame.width;
  const inside = [...box.querySelectorAll("text")].map(node => [node.textContent, node.getBBox()])
    .filter(([, b]) => b.x < right && b.x + b.width > frame.x && b.y < frame.y + frame.height - 2);
  const over = inside.filter(([, b]) => b.x < frame.x || b.x + b.width > right).map(([text]) => text);
  const beside = inside.flatMap(([text, b], i) => inside.slice(i + 1)
    .filter(([, c]) => b.x < c.x + c.width && c.x < b.x + b.width && Math.abs(b.y - c.y) < 6)
    .map(([other]) => text + " / " + other));
  return [...over, ...beside];
})"""


def both_phases(path):
    spec = open_net(path)
    return Drawing(boxes_of([view_of(spec, phase) for phase in ("train", "test")]), "both", "").svg(
        for_page=True
    )


def test_every_text_lies_in_its_box(browser):
    names = ["W" * 40, "inception_3a/3x3_reduce", "i" * 300, "图" * 30, "🎉🎉🎉 emoji 🎉🎉🎉", "</script><b>"]
    odd = mc.Net(
        spec_of(*[conv(f'"{name}"', f'"{names[i - 1]}"' if i else "data") for i, name in enumerate(names)])
    )
    svgs = [
        svg_of(odd),
        svg_of(odd, room=0),
        svg_of(mc.Net("prototxt/googlenet/deploy.yaml", phase="test"), room=0),
        both_phases("prototxt/lenet/train.yaml"),
        both_phases("prototxt/googlenet/deploy.yaml"),
    ]
    context = browser.new_context(offline=True)
    tab = context.new_page()
    try:
        for svg in svgs:
            tab.set_content(f"<!doctype html><meta charset=utf-8>{svg}")
            assert tab.locator("g.box").count() > 5
            assert tab.evaluate(MISPLACED) == []
        tab.evaluate("document.querySelector('g.box text').textContent = 'W'.repeat(60)")
        assert tab.evaluate(MISPLACED) == ["W" * 60]  # a fault would be found
    finally:
        context.close()

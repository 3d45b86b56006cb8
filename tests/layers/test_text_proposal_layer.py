"""CTPN's slices of text: ours takes the place of its Python layer."""

import math

import numpy as np
import pytest

import minicaffe as mc
from tests.layer_cases import net_of

LAYER = (
    "type: Python, python_param: "
    '{module: layers.text_proposal_layer, layer: ProposalLayer, param_str: "PARAM"}, top: [L, scores]'
)
STRIDE = LAYER.replace("PARAM", "'feat_stride': 16")  # as in CTPN's own net: without braces
SHAPES = (1, 20, 3, 4), (1, 20, 3, 4), (1, 3)
TOPS_AND_BOTTOMS = (11, 2, 12), (16, 0, 15), (283, -133, 148)  # height that is asked for, first and last row


def outcomes(layer=STRIDE, shapes=SHAPES, **inputs):
    net = net_of(layer, *shapes)
    net.forward(**inputs)
    return np.array(net.blobs["L"].data), np.array(net.blobs["scores"].data)


def slice_of(height, y, x, move, growth, size):
    """An anchor's box, by the formula."""
    first, last = math.trunc(7.5 - height // 2), math.trunc(7.5 + height // 2)
    high = last - first + 1
    centre = y * 16 + (first + last) / 2 + move * high
    y1, y2 = centre - math.exp(growth) * high / 2, centre + math.exp(growth) * high / 2
    (rows, columns) = size
    corners = (x * 16, y1, x * 16 + 15, y2)
    return [
        min(max(corner, 0), last - 1)
        for corner, last in zip(corners, (columns, rows, columns, rows), strict=True)
    ]


def test_boxes_are_anchors_moved_and_grown(rng):
    scores, offsets = (rng.uniform(-0.5, 0.5, SHAPES[0]) for _ in range(2))
    boxes, text = outcomes(x0=scores, x1=offsets, x2=[[45, 60, 1]])
    heights = (11, 16, 23, 33, 48, 68, 97, 139, 198, 283)
    cells = [(y, x, a) for y in range(3) for x in range(4) for a in range(10)]
    expected = [
        slice_of(heights[a], y, x, offsets[0, 2 * a, y, x], offsets[0, 2 * a + 1, y, x], (45, 60))
        for y, x, a in cells
    ]
    np.testing.assert_allclose(boxes, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(text, [[scores[0, 10 + a, y, x]] for y, x, a in cells], rtol=1e-6)


@pytest.mark.parametrize(("height", "first", "last"), TOPS_AND_BOTTOMS)
def test_anchors_have_whole_numbers_that_are_cut_off(height, first, last):
    """The far cell of a map of 30 × 30, in an image where no border is near."""
    shapes = (1, 20, 30, 30), (1, 20, 30, 30), (1, 2)
    boxes, _ = outcomes(shapes=shapes, x0=np.zeros(shapes[0]), x1=np.zeros(shapes[1]), x2=[[9999, 9999]])
    anchor = {11: 0, 16: 1, 283: 9}[height]
    of_cell = boxes.reshape(30, 30, 10, 4)[29, 29, anchor]
    half = (last - first + 1) / 2  # boxes reach half a height to both sides of (y1 + y2) / 2
    middle = (first + last) / 2
    np.testing.assert_array_equal(of_cell - 29 * 16, [0, middle - half, 15, middle + half])


def test_a_slice_that_grows_beyond_all_bounds_is_as_high_as_the_image():
    offsets = np.full(SHAPES[1], 1000)
    boxes, _ = outcomes(x0=np.zeros(SHAPES[0]), x1=offsets, x2=[[45, 60, 1]])
    np.testing.assert_array_equal(boxes[:, [1, 3]], np.broadcast_to([0, 44], (120, 2)))


@pytest.mark.parametrize(
    ("layer", "shapes", "problem"),
    [
        (STRIDE, ((2, 20, 3, 4), (2, 20, 3, 4), (1, 3)), r"expected both \(1, 20, H, W\)"),
        (STRIDE, ((1, 18, 3, 4), (1, 18, 3, 4), (1, 3)), r"expected both \(1, 20, H, W\)"),
        (STRIDE, ((1, 20, 3, 4), (1, 40, 3, 4), (1, 3)), r"expected both \(1, 20, H, W\)"),
        (STRIDE, (*SHAPES[:2], (1, 1)), "height, width"),
        (STRIDE, (*SHAPES[:2], (2, 3)), "height, width"),
        (STRIDE, SHAPES[:2], "bottom: 2 given; ProposalLayer takes 3"),
        (STRIDE.replace("[L, scores]", "L"), SHAPES, "top: 1 given; ProposalLayer takes 2"),
        (LAYER.replace("PARAM", ""), SHAPES, "param_str.*feat_stride: required"),
        (LAYER.replace("PARAM", "feat_stride: 0"), SHAPES, "param_str.*feat_stride: 0 is out of range"),
    ],
)
def test_what_does_not_fit_is_an_error(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)

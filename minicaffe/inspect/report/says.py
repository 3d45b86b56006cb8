"""What view 2 says of a layer: in a sentence or two what it does, with its own numbers, and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minicaffe.inspect.formula import sentence_of
from minicaffe.inspect.report.record import RecordedLayer, Recording, source
from minicaffe.ops.convolution.geometry import Window

LOSS = "One number that is small where the net is right. Training makes it smaller, by its gradients."
SHARE = "Each is the exponential of a score, divided by the sum of all, so that they add up to 1"
TRY = "Go through the images with ← and →. What stays the same?"
TRIES = {
    "Convolution": "Choose a map that is strong on the object and weak beside it. Is it so on another image?",
    "InnerProduct": "Choose another unit. Which of its products make the sum large?",
    "Pooling": "Choose pixels of the output. How far can the input move before they change?",
    "ReLU": "Look for maps or units that are 0 after it. What were they before?",
    "SoftmaxWithLoss": "For which image is it largest? Is the answer wrong there?",
    "Softmax": "Which class comes second, and by how much? Look at an image of that class.",
    "BatchNorm": "Compare two maps that were of different size before. How large are they after it?",
}


def said(layer: RecordedLayer, recording: Recording) -> dict[str, str]:
    """``say`` and ``try`` of a layer."""
    about = _Layer(layer, recording)
    find = next((SAYS[name] for name in (layer.type, *_above(layer)) if name in SAYS), None)
    say = find(about) if find else LOSS if layer.layer.is_loss else about.fallback()
    if not layer.bottoms:
        say = about.data()
    tries, window = TRIES.get(layer.type, TRY), about.window
    if about.after[1:] == (1, 1):  # there is no pixel to be chosen
        tries = TRY
    elif layer.type == "Convolution" and about.sees_picture() and window and min(window.kernel) > 1:
        tries = "Find a filter for vertical strokes. Check it on another image."
    return {"say": say, "try": tries}


def _above(layer: RecordedLayer) -> list[str]:
    """The names of the classes above the layer's: a type of a user's own may be one of ours."""
    return [cls.__name__ for cls in type(layer.layer).__mro__]


class _Layer:
    """What the sentences need: names, sizes and numbers of a layer's bottoms and tops."""

    def __init__(self, layer: RecordedLayer, recording: Recording) -> None:
        self.layer, self.recording = layer.layer, recording
        self.bottoms = [source(recording.layers, key) for key in layer.bottoms]
        self.tops = layer.tops
        self.type = layer.type
        self.params = layer.params

    def setting(self, name: str) -> Any:
        """A field of the layer's message: as the spec gives it, or its default; None without one."""
        messages = [getattr(self.layer.spec, message, None) for message in self.layer.messages]
        return next((getattr(m, name) for m in messages if m is not None and hasattr(m, name)), None)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a stage for one picture."""
        return self.recording.stages[key].shape

    @property
    def window(self) -> Window | None:
        """The window that moves over the bottom, if there is one."""
        found = getattr(self.layer, "window", None)
        return found if isinstance(found, Window) else None

    @property
    def before(self) -> tuple[int, ...]:
        """The shape of the first bottom."""
        return self.shape(self.bottoms[0]) if self.bottoms else ()

    @property
    def after(self) -> tuple[int, ...]:
        """The shape of the first top."""
        return self.shape(self.tops[0]) if self.tops else ()

    def name(self, i: int = 0) -> str:
        """What a bottom is called: its blob."""
        return self.recording.stages[self.bottoms[i]].blob

    def sees_picture(self) -> bool:
        """Whether the picture itself is the bottom."""
        return self.bottoms[:1] == [self.recording.input_stage]

    def input(self) -> str:
        """What goes in: "the picture", or "all 32 maps of pool1"."""
        if self.sees_picture():
            return "the picture"
        count = self.before[0]
        return f"all {count} maps of {self.name()}" if count > 1 else f"the map of {self.name()}"

    def each(self) -> str:
        """What has numbers of its own: "each map" or "each number"."""
        return "each map" if len(self.before) == 3 else "each number"

    def sizes(self) -> str:
        """ "32 × 32 become 16 × 16", of maps."""
        if len(self.before) != 3 or len(self.after) != 3:
            return f"{_times(self.before)} numbers become {_times(self.after)}"
        return f"{_times(self.before[1:])} become {_times(self.after[1:])}"

    def fallback(self) -> str:
        """The sentence of the type, and sizes."""
        sentence = sentence_of(type(self.layer)).replace("``", "").rstrip(".")
        sentence = sentence if "=" in sentence[:12] else sentence[:1].upper() + sentence[1:]
        told = f"{sentence}. " if sentence else ""
        if not (self.bottoms and self.tops):
            return told.strip()
        if self.before == self.after:
            return f"{told}Here for each of {_times(self.before)} numbers."
        return f"{told}Here {_times(self.before)} numbers become {_times(self.after)}."

    def data(self) -> str:
        """Of a layer that brings what the net is given, or has numbers of its own."""
        if self.tops[:1] != [self.recording.input_stage] or not self.after:
            return self.fallback()
        values = self.recording.stages[self.tops[0]].values
        return (
            f"What goes into the net, as the net sees it: {_times(self.after)} numbers for each picture, here from "
            f"{_short(values.min())} to {_short(values.max())}."
        )


def _times(shape: tuple[int, ...]) -> str:
    return "\u00a0×\u00a0".join(map(str, shape)) or "1"


def _short(value: Any) -> str:
    return f"{float(value):.3g}".replace("-", "−")


def _spread(values: np.ndarray) -> str:
    """One number, or "0.1 … 0.3"."""
    lo, hi = _short(values.min()), _short(values.max())
    return lo if lo == hi else f"{lo} … {hi}"


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def _convolution(about: _Layer) -> str:
    group = int(getattr(about.layer, "group", 1))
    filters = about.after[0]
    over = about.input()
    if group == about.before[0] > 1:
        over = f"one map of {about.name()} alone"
    elif group > 1:
        over = f"{about.before[0] // group} of the maps of {about.name()}"
    return (
        f"Each of the {filters} filters slides over {over} and answers strongly (blue) at what looks like the "
        "filter, and against it (red) at what looks like its opposite."
    )


def _deconvolution(about: _Layer) -> str:
    return (
        f"Each number of {about.name()} becomes a copy of its filter, times that number. Where copies overlap, "
        f"they add up: {about.sizes()}."
    )


def _inner_product(about: _Layer) -> str:
    outputs, inputs = math.prod(about.after), math.prod(about.before)
    return (
        f"Each of the {outputs:,} outputs is a sum of the {inputs:,} numbers of {about.name()}, each times a "
        "weight, of one row of W. A row that resembles the input gives a large output."
    )


def _pooling(about: _Layer) -> str:
    how = {"MAX": "the largest", "AVE": "the mean"}.get(
        about.setting("pool"), "a mean, weighted by themselves,"
    )
    window = about.window
    if about.setting("global_pooling") or window is None:
        return f"Of each of the {about.before[0]} maps of {about.name()} one number is left: {how} of its pixels."
    return (
        f"Each output is {how} of {_times(window.kernel)} pixels of a map, and the next window is "
        f"{_many(max(window.stride), 'pixel')} further: {about.sizes()}. A picture moved by a pixel changes little "
        "here."
    )


def _relu(about: _Layer) -> str:
    slope = about.setting("negative_slope") or 0
    values = about.recording.stages[about.tops[0]].values
    if slope:
        return f"Numbers above 0 stay as they are; those below are multiplied by {slope:g}."
    return (
        f"Numbers above 0 stay as they are; those below become 0: {100 * float((values == 0).mean()):.0f} % of "
        "them over the images of this report. So the net can compute more than sums of its inputs."
    )


def _prelu(about: _Layer) -> str:
    slopes = about.params[0]
    which = f"a learned number, {_spread(slopes)}"
    if slopes.size > 1:
        which += f", another one for {about.each()}"
    return f"Numbers above 0 stay as they are; those below are multiplied by {which}."


def _dropout(about: _Layer) -> str:
    ratio = about.setting("dropout_ratio")
    return (
        f"Does nothing here. In training it sets {100 * ratio:.0f} % of the numbers to 0, others each time, so "
        "that no unit relies on another one alone."
    )


def _batch_norm(about: _Layer) -> str:
    return (
        f"From {about.each()} its mean is subtracted, and the rest is divided by its standard deviation, so that "
        "all are about equally large. Both were measured in training."
    )


def _scale(about: _Layer) -> str:
    if len(about.bottoms) > 1:
        return f"{about.name(0)} times {about.name(1)}, which has a number for each map or each pixel."
    factors = about.params[0]
    each = about.each() if factors.size > 1 else "everything"
    added = ", and another one is added" if about.setting("bias_term") else ""
    return f"{each.capitalize()} is multiplied by a learned number ({_spread(factors)}){added}."


def _bias(about: _Layer) -> str:
    return f"To {about.each()} a learned number is added."


def _lrn(about: _Layer) -> str:
    size = about.setting("local_size")
    across = about.setting("norm_region") == "ACROSS_CHANNELS"
    k = about.setting("k") if across else 1
    beta, share = about.setting("beta"), about.setting("alpha") / (size if across else size**2)
    around = (
        f"in {size} neighbouring maps at the same pixel" if across else f"of {size} × {size} pixels around it"
    )
    return (
        f"Each number is divided by the power {beta:g} of {k:g} + {share:g} · the sum of the squares "
        f"{around}: where many are large, all of them get smaller."
    )


def _eltwise(about: _Layer) -> str:
    names = [about.name(i) for i in range(len(about.bottoms))]
    named = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    factors = about.setting("coeff")
    if set(factors) - {1.0}:
        named = f"{named}, times {', '.join(f'{factor:g}' for factor in factors)}"
    how = {"PROD": "multiplied", "MAX": "compared, and the largest kept,"}.get(
        about.setting("operation"), "added"
    )
    return f"{named}, of {_times(about.after)} numbers each, are {how} number by number."


def _concat(about: _Layer) -> str:
    axis = about.setting("axis") - 1
    counts = [about.shape(key)[axis] for key in about.bottoms if len(about.shape(key)) > axis >= 0]
    parts = f": {' + '.join(map(str, counts))} = {sum(counts)}" if counts else ""
    word = " maps" if len(about.after) == 3 and axis == 0 and counts else ""
    return f"Its {len(about.bottoms)} inputs stand one after the other{parts}{word}. No number changes."


def _slice(about: _Layer) -> str:
    sizes = " and ".join(_times(about.shape(key)) for key in about.tops)
    return f"{_times(about.before)} numbers are cut into {len(about.tops)} parts: {sizes}. No number changes."


def _reshape(about: _Layer) -> str:
    return f"The same numbers in another shape: {_times(about.before)} become {_times(about.after)}."


def _softmax(about: _Layer) -> str:
    count = about.before[0] if about.before else 1
    return (
        f"{count} scores of {about.name()} become probabilities. {SHARE}. A score that is larger by 1 makes "
        "2.7 times the probability."
    )


def _softmax_loss(about: _Layer) -> str:
    return (
        "One number: minus the logarithm of the probability that the net gives to the right class. It is 0 where "
        "that is 1, and large where it is small. Training makes it smaller."
    )


def _euclidean_loss(about: _Layer) -> str:
    distance = f"half the squared distance of {about.name(0)} from {about.name(1)}"
    return f"One number: {distance}. Training makes it smaller."


def _accuracy(about: _Layer) -> str:
    top = about.setting("top_k")
    best = "highest score is the label's" if top == 1 else f"{top} highest scores hold the label's"
    return f"The share of images whose {best}: for one image 1 or 0."


def _sentence(text: str) -> Callable[[_Layer], str]:
    return lambda about: text


SAYS: dict[str, Callable[[_Layer], str]] = {
    "Convolution": _convolution,
    "DepthwiseConvolution": _convolution,
    "Deconvolution": _deconvolution,
    "InnerProduct": _inner_product,
    "Pooling": _pooling,
    "ReLU": _relu,
    "PReLU": _prelu,
    "ReLU6": _sentence("Numbers between 0 and 6 stay as they are; those below become 0, and those above 6."),
    "Sigmoid": _sentence(
        "Each number is squeezed between 0 and 1: large ones come near 1, and 0 becomes 0.5."
    ),
    "TanH": _sentence("Each number is squeezed between −1 and 1: large ones come near 1, and 0 stays 0."),
    "ELU": _sentence("Numbers above 0 stay as they are; those below approach a limit, the lower they are."),
    "AbsVal": _sentence("Each number loses its sign."),
    "Dropout": _dropout,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "Bias": _bias,
    "LRN": _lrn,
    "Eltwise": _eltwise,
    "Concat": _concat,
    "Slice": _slice,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "SoftmaxWithLoss": _softmax_loss,
    "EuclideanLoss": _euclidean_loss,
    "Accuracy": _accuracy,
}

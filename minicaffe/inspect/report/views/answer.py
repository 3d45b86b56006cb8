"""View 5, Answer: where the score of each picture's best classes depends on the picture, and Grad-CAM."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.errors import MinicaffeError
from minicaffe.inspect.report.grad_cam import grad_cams
from minicaffe.inspect.report.occlusion import (
    Places,
    best_classes,
    colour_of,
    falls,
    few_places_on,
    places_on,
)
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.scorer import Scorer
from minicaffe.train.progress import Progress

CAMS = 0.05  # of the file, for the maps of Grad-CAM
MOST_MULTIPLY_ADDS = 200e9  # of all occlusions: some 10 s on two cores


def data(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """The occlusion maps and Grad-CAM maps of the recorded pictures; "missing" for a net without classes."""
    if recording.answer is None:
        return {"missing": "this net gives no scores of classes"}
    return {
        "occlusion": _occlusion(recording, packer),
        **_cams(recording, packer, options.budget(CAMS)),
        "dims": _dims(recording),
    }


def _dims(recording: Recording) -> list[int] | None:
    """The size that a picture is resized to before it is cropped to the input's; None: the input's size."""
    found, shape = recording.pictures.preparation, recording.images[0].arrays[recording.input].shape
    if found is None or found.image_dims is None or len(shape) != 4:
        return None
    fits = all(size >= crop for size, crop in zip(found.image_dims, shape[2:], strict=True))
    return list(found.image_dims) if fits else None


# -- occlusion -------------------------------------------------------------------------------------------------


def _occlusion(recording: Recording, packer: Packer) -> dict[str, Any]:
    """The square's places and colour, and for each picture its classes' falls; or "why" there are none."""
    arrays = [image.arrays[recording.input] for image in recording.images]
    if any(array.shape != arrays[0].shape or array.ndim != 4 or array.shape[0] != 1 for array in arrays):
        return {"why": "the net's input is no picture"}
    pictures = np.concatenate(arrays)
    colour = colour_of(pictures, _mean_is_subtracted(recording, pictures))
    found: dict[str, Any] = {"colour": _rounded(colour), "shown": _as_css(colour, recording)}
    assert recording.answer is not None
    try:
        recording.feed(0)
        blob = recording.stages[recording.answer].blob
        scorer = Scorer(recording.net, recording.input, blob, recording.softmax)
        places, count = _affordable(pictures, scorer.multiply_adds)
        found |= {"side": places.side, "tops": places.tops, "lefts": places.lefts}
        if not count:
            work = scorer.multiply_adds * places.count
            sizes = (f"{number / 1e9:,.0f} G multiply-adds" for number in (work, MOST_MULTIPLY_ADDS))
            return {**found, "why": "one image takes {}, and a report spends {} at most".format(*sizes)}
        progress = Progress(count * places.count, "covered images")
        with scorer:
            found["images"] = [
                _picture(recording, scorer, packer, pictures, i, places, colour, progress)
                for i in range(count)
            ]
    except MinicaffeError as error:
        return {**found, "why": f"the net cannot run on covered images: {error}"}
    return found


def _affordable(pictures: np.ndarray, work: int) -> tuple[Places, int]:
    """The places, and for how many pictures: many for all of them, or few for as many as there is time for."""
    size = pictures.shape[2:]
    many, few = places_on(*size), few_places_on(*size)
    if work * many.count * len(pictures) <= MOST_MULTIPLY_ADDS:
        return many, len(pictures)
    return few, min(len(pictures), int(MOST_MULTIPLY_ADDS // max(1, work * few.count)))


def _mean_is_subtracted(recording: Recording, pictures: np.ndarray) -> bool:
    preparation = recording.pictures.preparation
    if preparation is not None and preparation.mean is not None:
        return True
    return bool(pictures.min() < 0)


def _as_css(colour: np.ndarray, recording: Recording) -> str:
    """The square's colour as a person sees it; grey where the way back from the net's numbers is not known."""
    found = recording.pictures.preparation
    if found is None or (found.mean is not None and found.mean.ndim > 1):
        return "#808080"
    mean = 0 if found.mean is None else found.mean
    values = (colour / (found.input_scale or 1) + mean) / (found.raw_scale or 1)
    if found.channel_swap is not None:
        values = values[np.argsort(found.channel_swap)]
    codes = np.rint(255 * values.clip(0, 1)).astype(int).tolist()
    return "#{:02x}{:02x}{:02x}".format(*(codes if len(codes) == 3 else 3 * codes[:1]))


def _picture(
    recording: Recording,
    scorer: Scorer,
    packer: Packer,
    pictures: np.ndarray,
    number: int,
    places: Places,
    colour: np.ndarray,
    progress: Progress,
) -> dict[str, Any]:
    """The classes of a picture that have a map, their scores, and the maps: (classes, rows, columns)."""
    scores, fall = falls(scorer, pictures[number], places, colour, progress)
    classes = best_classes(scores, recording.images[number].label)
    return {
        "classes": classes,
        "scores": _rounded(scores[classes]),
        "falls": packer.add(fall[classes], "f16", "occlusion"),
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values.ravel().tolist()]


# -- Grad-CAM --------------------------------------------------------------------------------------------------


def _cams(recording: Recording, packer: Packer, room: int) -> dict[str, Any]:
    """The maps of each convolution, (n, h, w), each as parts of its largest value; and whose classes they are."""
    classes, maps = grad_cams(recording, room)
    refs = {}
    for name, values in maps.items():
        largest = values.max(axis=(1, 2), keepdims=True)
        parts = np.nan_to_num(values / np.where(largest > 0, largest, 1))
        refs[name] = packer.add(np.rint(255 * parts).astype(np.uint8), "u8", "cam")
    return {"cam": refs, "cam_classes": classes}

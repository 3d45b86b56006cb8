"""Random nets of all layer types with odd settings and shapes: each is run, or refused with one clear line.

A case is a layer type with random values in all its fields, on bottoms of 0 to 6 axes, some of size 0, perhaps in
place, perhaps with a ReLU behind it. It is made, summarised, run forward and backward, reshaped, and run again.
Cases run in children, so that none can take the others along. As a script, as many as you like:

python -m tests.security.spec_fuzz 20000 [first seed]
"""

from __future__ import annotations

import copy
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import minicaffe as mc
from minicaffe.core.layer import layer_classes
from minicaffe.errors import MinicaffeError
from minicaffe.inspect.summary import summarize
from minicaffe.spec import fields
from minicaffe.spec.net import LayerSpec, _layer_specs, parse_net
from tests import ROOT
from tests.layer_cases import LAYERS
from tests.security.peak_memory import peak_memory

SECONDS = 60  # of a child's own computing, for one case
MEMORY = 3 << 30  # bytes of addresses that a child may have: more is refused as on a small machine
LONGEST = 3000  # letters of an error
SIZES = [0, 1, 1, 2, 2, 3, 3, 4, 5, 8]
WHOLE = [0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, -1, -2, -3, 33, 100]
HUGE = [2**31 - 1, -(2**31), 2**16, 10**9]
FRACTIONS = [0, 1, 1, -1, 0.5, 0.5, 0.1, 2, 3, 0.999, -0.5, 1e-3, 1e30, -1e30, 1e-30, 1e300]
WORDS = [
    "",
    "x",
    "constant",
    "gaussian",
    "xavier",
    "msra",
    "uniform",
    "bilinear",
    "positive_unitball",
    "nothing.txt",
]
SAMPLES = ["sample/mnist-train", "sample/mnist-test"]
ODD = [
    "nan",
    "-inf",
    None,
    [],
    {},
    [[1]],
    "1e999",
    "\u00e9\x1b[2J",
    "\0",
    "\ud800",
    "0x10",
    "yes",
    "two words",
]


GOOD = {  # beside those of golden/cases.yaml and layer_cases.py
    "Data": ([], {"top": ["y0", "y1"], "data_param": {"source": SAMPLES[0], "batch_size": 3}}),
    "AssistedExcitation": ([[2, 3, 4, 5], [2, 1, 3, 5], [2, 4, 5]], {}),
    "BoxAnnotatorOHEM": (
        [[3, 5], [3], [3], [3, 8]],
        {"top": ["y", "u"], "box_annotator_ohem_param": {"roi_per_img": 2, "ignore_label": -1}},
    ),
    "DetectionEvaluate": (
        [[1, 1, 3, 7], [1, 1, 2, 8]],
        {
            "detection_evaluate_param": {
                "num_classes": 2,
                "background_label_id": -1,
                "resize_param": {"height": 3, "width": 4, "resize_mode": "FIT_LARGE_SIZE_AND_PAD"},
            }
        },
    ),
    "DetectionOutput": (
        [[2, 12], [2, 6], [1, 2, 12]],
        {
            "detection_output_param": {
                "num_classes": 2,
                "nms_param": {"top_k": 5},
                "confidence_threshold": 0.1,
            }
        },
    ),
    "HDF5Output": ([[2, 3], [2]], {"hdf5_output_param": {"file_name": "out.h5"}, "top": []}),
    "CenterLoss": ([[3, 2, 2], [3]], {"center_loss_param": {"num_output": 4, "axis": 1}}),
    "DetectNetTransformation": (
        [[2, 3, 9, 7], [2, 1, 3, 16]],
        {
            "top": ["y0", "y1"],
            "detectnet_groundtruth_param": {
                "stride": 2,
                "image_size_x": 8,
                "image_size_y": 6,
                "scale_cvg": 0.4,
            },
            "detectnet_augmentation_param": {"scale_max": 1.2, "rotation_prob": 1, "shift_x": 3},
            "transform_param": {"mean_value": [100, 110, 120]},
        },
    ),
    "DiceCoefLoss": ([[2, 3], [2, 3]], {}),
    "FocalLoss": ([[2, 3, 2], [2, 2]], {"focal_loss_param": {"gamma": 1.5, "alpha": 0.5}}),
    "L1Loss": ([[2, 3], [2, 3]], {}),
    "MarginInnerProduct": (
        [[3, 4], [3]],
        {
            "margin_inner_product_param": {
                "num_output": 5,
                "type": "TRIPLE",
                "base": 10,
                "power": 2,
                "gamma": 0.1,
            }
        },
    ),
    "SigmoidCrossEntropyBalanceLoss": ([[2, 3], [2, 3]], {}),
    "Input": ([], {"input_param": {"shape": {"dim": [2, 3, 4]}}}),
    "MultiBoxLoss": (
        [[2, 12], [2, 6], [1, 2, 12], [1, 1, 3, 8]],
        {"multibox_loss_param": {"num_classes": 2, "nms_param": {"top_k": 5}, "mining_type": "HARD_EXAMPLE"}},
    ),
    "PriorBox": (
        [[1, 2, 3, 3], [1, 3, 20, 20]],
        {
            "prior_box_param": {
                "min_size": 4,
                "max_size": 8,
                "aspect_ratio": [2],
                "variance": [0.1, 0.1, 0.2, 0.2],
            }
        },
    ),
    "Proposal": (
        [[1, 4, 3, 3], [1, 8, 3, 3], [1, 3]],
        {"top": ["y", "s"], "proposal_param": {"ratio": [1], "scale": [2, 4], "nms_thresh": 0.5}},
    ),
    "PSROIPooling": (
        [[2, 8, 6, 6], [4, 5]],
        {"psroi_pooling_param": {"spatial_scale": 1, "output_dim": 2, "group_size": 2}},
    ),
    "RegionLoss": (
        [[2, 14, 3, 4], [2, 1, 3, 5]],
        {"region_loss_param": {"num_class": 2, "num": 2, "biases": [1, 2, 3, 1]}},
    ),
    "Reorg": ([[2, 8, 4, 6]], {"reorg_param": {"stride": 2, "reverse": False}}),
    "ROIPooling": ([[2, 3, 6, 6], [4, 5]], {"roi_pooling_param": {"pooled_h": 2, "pooled_w": 3}}),
    "SegmentationEvaluate": ([[2, 3, 4], [2, 3, 4]], {"segmentation_evaluate_param": {"num_classes": 3}}),
    "SmoothL1Loss": ([[2, 4], [2, 4], [2, 4], [2, 4]], {}),
    "SmoothL1LossOHEM": ([[2, 4], [2, 4], [2, 4]], {"top": ["y", "each"]}),
    "SoftmaxWithLossOHEM": ([[2, 4], [2]], {"top": ["y", "p", "each"]}),
    "YoloDetectionOutput": (
        [[2, 14, 3, 4]],
        {"yolo_detection_output_param": {"num_classes": 2, "num_box": 2, "biases": [1, 2, 3, 1]}},
    ),
    "YoloSeg": ([[2, 3, 4], [2, 3, 4], [2, 3]], {"yolo_seg_param": {"object_scale": 2}}),
    "Yolov3": (
        [[2, 14, 3, 4], [2, 1, 3, 5]],
        {
            "yolov3_param": {
                "num_class": 2,
                "num": 2,
                "biases": [8, 12, 20, 14, 30, 40],
                "mask": [1, 2],
                "iou_loss": "CIOU",
                "use_focal_loss": True,
            }
        },
    ),
    "Yolov3DetectionOutput": (
        [[2, 14, 3, 4], [2, 14, 6, 8]],
        {
            "yolov3_detection_output_param": {
                "num_classes": 2,
                "num_box": 2,
                "biases": [8, 12, 20, 14, 30, 40],
                "mask": [1, 2, 0, 1],
                "anchors_scale": [32, 16],
            }
        },
    ),
}
NOT_FIELDS = ("fill", "tops", "in_place", "index_tops", "phase", "backward", "params", "loss", "type")


@cache
def good_cases() -> dict[str, list[tuple[list[list[int]], dict[str, Any]]]]:
    """For each layer type, settings that run: the shapes of the bottoms, and the layer's fields."""
    cases: dict[str, list] = {name: [case] for name, case in GOOD.items()}
    for name, recorded in yaml.safe_load((ROOT / "tests" / "golden" / "cases.yaml").read_text()).items():
        for case in recorded.values():
            shapes = case.pop("in")
            shapes = shapes if not shapes or isinstance(shapes[0], list) else [shapes]
            layer = {field: value for field, value in case.items() if field not in NOT_FIELDS}
            layer["top"] = [f"y{i}" for i in range(case.get("tops", 1))]
            if case.get("in_place"):
                layer["top"] = ["x0"]
            cases.setdefault(name, []).append((shapes, layer))
    for text, shapes in LAYERS.values():
        layer = yaml.safe_load(f"{{{text}}}")
        cases.setdefault(layer.pop("type"), []).append(([list(shape) for shape in shapes], layer))
    return cases


class Case:
    """The net of one seed, as plain data: good settings with a few changes, or random ones."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        types = sorted(set(layer_classes) - {"Python"})
        self.type = types[seed % len(types)]
        self.messages = {
            name: field.message
            for name, field in _layer_specs[self.type].fields.items()
            if name not in LayerSpec.fields
        }

    def pick(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def odds(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def spec(self) -> str:
        """The net's text."""
        good = good_cases().get(self.type)
        if good and self.odds(0.8):
            self.shapes, self.layer = copy.deepcopy(self.pick(good))
            for _ in range(self.pick([0, 1, 1, 2, 2, 3])):
                self.pick([self._change_shapes, self._change_field, self._change_field])()
        else:
            self._make_any()
        number, layer = len(self.shapes), self.layer
        layer |= {"name": "L", "type": self.type, "bottom": [f"x{i}" for i in range(number)]}
        inputs = [
            {"name": f"x{i}", "type": "Input", "input_param": {"shape": {"dim": shape}}}
            for i, shape in enumerate(self.shapes)
        ]
        tops = len(layer.get("top", [1]))
        if number and layer.get("top") and self.odds(0.05):
            layer["top"][0] = "x0"
        if self.odds(0.05):
            layer["loss_weight"] = [self.pick([0, 1, 2.5, -1]) for _ in range(tops)]
        if self.odds(0.05):
            layer["propagate_down"] = [self.pick([True, False]) for _ in range(number)]
        if self.odds(0.05):
            layer["param"] = [{"lr_mult": self.pick([0, 1, 2])} for _ in range(self.pick([1, 2, 3]))]
        layers = [*inputs, layer]
        if tops and self.odds(0.2):
            layers.append({"name": "after", "type": self.pick(["ReLU", "Power", "Silence", "Softmax"])})
        net = {"name": "fuzz", "force_backward": self.odds(0.8), "layer": layers}
        return yaml.safe_dump(net, sort_keys=False, allow_unicode=True)

    def _make_any(self) -> None:
        cls = layer_classes[self.type]
        low, high = cls.bottoms
        number = int(self.rng.integers(low, (min(high, low + 3) if high is not None else low + 3) + 1))
        self.shapes = self._any_shapes(max(0, number + (self.pick([-1, 1]) if self.odds(0.03) else 0)))
        low, high = cls.tops
        most = low + 2 if high is None else high
        tops = int(self.rng.integers(min(low, most), most + 1)) if self.odds(0.7) else max(low, min(1, most))
        self.layer = {"top": [f"y{i}" for i in range(tops)]}
        for name, message in self.messages.items():
            if self.odds(0.15 if name == "low_rank_param" else 0.9):
                self.layer[name] = self._message(message)

    def _any_shapes(self, number: int) -> list[list[int]]:
        """Shapes that have a good chance to fit each other."""
        axes = self.pick([0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 5, 6])
        first = self._shape(axes)
        shapes = [first][:number]
        while len(shapes) < number:
            other = [first, first, first[:1], first[1:], first[1:2], first[:2], [*first[:1], 1, *first[2:]],
                     [*first[:1], 1, 1, 1], self._shape(self.pick(range(7))), [1, 1, 5, 5]]  # fmt: skip
            shapes.append(list(self.pick(other)))
        return shapes

    def _shape(self, axes: int) -> list[int]:
        sizes = SIZES if self.odds(0.4) else SIZES[1:]
        return [self.pick(sizes) for _ in range(axes)]

    def _change_shapes(self) -> None:
        """Another batch size, another size of one axis, an axis more or less: of all bottoms, or of one."""
        chosen = self.shapes if self.odds(0.7) else self.shapes[:1] if self.odds(0.5) else self.shapes[-1:]
        axis, size = self.pick([0, 0, 0, 1, 2, 3, 4]), self.pick([0, 0, 0, *SIZES])
        change = self.pick(["size", "size", "size", "less", "more", "other"])
        for shape in chosen:
            if change == "size" and axis < len(shape):
                shape[axis] = size
            elif change == "less":
                del shape[axis : axis + 1]
            elif change == "more":
                shape.insert(axis, size)
            elif change == "other":
                shape[:] = self._shape(self.pick(range(7)))

    def _change_field(self) -> None:
        """Another value of one field of a message, or none."""
        if not self.messages:
            return
        name = self.pick(list(self.messages))
        message, given = self.messages[name], self.layer.setdefault(name, {})
        field = self.pick(list(message.fields))
        if not isinstance(given, dict):
            return
        if field in given and self.odds(0.2):
            del given[field]
        else:
            given[field] = self._value(field, message.fields[field])

    def _message(self, message: type[fields.Message]) -> dict[str, Any]:
        share = self.pick([0.1, 0.3, 0.6])
        return {
            name: self._value(name, field)
            for name, field in message.fields.items()
            if field.required or self.odds(share)
        }

    def _value(self, name: str, field: fields.Field) -> Any:
        if field.repeated and self.odds(0.7):
            return [self._one(name, field) for _ in range(self.pick([0, 1, 1, 2, 2, 3, 4]))]
        return self._one(name, field)

    def _one(self, name: str, field: fields.Field) -> Any:
        if self.odds(0.01):
            return self.pick(ODD)
        if isinstance(field, fields.Nested):
            return self._message(field.message)
        if isinstance(field, fields.Bool):
            return self.odds(0.5)
        if isinstance(field, fields.Enum):
            return self.pick(field.names)
        if isinstance(field, fields.Number):
            whole = isinstance(field, fields.Int)
            values = [v for v in (WHOLE if whole else FRACTIONS) if field.min <= v <= field.max]
            if self.odds(0.02):
                return self.pick(HUGE if whole else [*FRACTIONS, *HUGE])
            return self.pick(values or [0])
        if isinstance(field, fields.String):
            return self.pick(SAMPLES if name == "source" and self.odds(0.5) else WORDS)
        return self.pick([1, 2, 0.5, 0.25, 3])  # a rank


def run(seed: int) -> str:
    """Run the net of this seed: what was said of it, "" where it ran."""
    case = Case(seed)
    try:
        net = mc.Net(parse_net(case.spec()), phase=case.pick(["train", "test"]), seed=seed)
        summarize(net)
        for _ in range(2):
            for name in net.inputs:
                fill(net.blobs[name].data, case)
            net.forward()
            for name in net.gradient_starts:
                net.blobs[name].diff[...] = 1
            net.backward()
            for name in net.inputs:
                shape = list(net.blobs[name].shape)
                if shape and case.odds(0.7):
                    shape[case.pick(range(len(shape))) if case.odds(0.3) else 0] = case.pick(SIZES)
                net.blobs[name].reshape(*shape)
            net.reshape()
        net.close()
    except MinicaffeError as error:
        said = str(error)
        assert len(said) < LONGEST and said.isprintable(), f"not one short line: {said!r}"
        return said or "an error without a word"
    except MemoryError:
        return "not enough memory"
    return ""


def fill(array: np.ndarray, case: Case) -> None:
    """Scores, labels, or what is neither."""
    kind = case.pick(["scores", "scores", "labels", "wild"])
    if kind == "scores":
        array[...] = case.rng.normal(size=array.shape)
    elif kind == "labels":
        array[...] = case.rng.integers(0, 3, array.shape)
    else:
        array[...] = case.rng.choice([0, -1, 1e30, 7, np.nan, np.inf, 0.5], array.shape)


def child(first: int, end: int, folder: str) -> None:
    """Run seeds in a folder, and print "seed", then what was said; only what is no clear line has a third word."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    np.seterr(all="ignore")
    for seed in range(first, end):
        print(seed, flush=True)
        resource.setrlimit(resource.RLIMIT_CPU, (int(sum(os.times()[:2])) + SECONDS, resource.RLIM_INFINITY))
        try:
            print("refused" if run(seed) else "ran", flush=True)
        except Exception as error:
            calls = traceback.extract_tb(error.__traceback__)
            call = [call for call in calls if "/minicaffe/" in call.filename or call is calls[0]][-1]
            place = f"{Path(call.filename).name}:{call.lineno}"
            print(f"failed {place}: {type(error).__name__}: {str(error)[:200]!r}", flush=True)
    print(f"memory {peak_memory():.0f}", flush=True)


def fuzz(count: int, first: int = 0, batch: int = 500) -> Iterator[str]:
    """Run so many seeds: "ran", "refused", "memory 50" (MiB, of a child), or "seed …" for a fault."""
    seed, end = first, first + count
    with tempfile.TemporaryDirectory() as folder:
        while seed < end:
            command = [
                sys.executable,
                "-m",
                "tests.security.spec_fuzz",
                "--child",
                str(seed),
                str(min(seed + batch, end)),
                folder,
            ]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            for line in done.stdout.splitlines():
                word, _, rest = line.partition(" ")
                if word.isdecimal():
                    seed = int(word) + 1
                else:
                    yield f"seed {seed - 1}, {Case(seed - 1).type}: {rest}" if word == "failed" else line
            if done.returncode:
                how = f"ended with {signal.Signals(-done.returncode).name if done.returncode < 0 else 'an error'}"
                yield f"seed {seed - 1}, {Case(seed - 1).type}: the process {how}"


def main(count: int, first: int = 0) -> None:
    """Run so many random nets, and print what came of them."""
    seen: Counter[str] = Counter()
    most = 0
    for found in fuzz(count, first):
        kind = found.split()[0]
        seen[kind] += 1
        if kind == "seed":
            print(found, flush=True)
        elif kind == "memory":
            most = max(most, int(found.split()[1]))
    print(
        f"{seen['ran']} nets ran, {seen['refused']} were refused, {seen['seed']} faults; at most {most} MiB"
    )


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main(*map(int, sys.argv[1:]))

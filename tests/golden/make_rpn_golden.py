"""Records tests/golden/rpn.npz: what the Python layers of py-R-FCN compute, in their own code.

    python tests/golden/make_rpn_golden.py LIB        (Python 3.11, for its lib2to3)

LIB is the folder ``lib`` of YuwenXiong/py-R-FCN (290dba7). Its layers are translated to Python 3 in a
temporary folder; what they import besides is written here: pycaffe's Layer, easydict, the overlap of boxes
and the suppression of those that overlap. Nothing is drawn at random: all anchors and all regions count, and
regions are sorted.

``<case>/x<i>`` and ``<case>/y<i>`` are bottoms and tops, ``<case>/param_str`` and ``<case>/phase`` what ours
is given to compute the same.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

STUBS = {
    "caffe.py": "class Layer:\n    pass\n",
    "easydict.py": """class EasyDict(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__
""",
    "utils/__init__.py": "",
    "utils/cython_bbox.py": """import numpy as np


def bbox_overlaps(boxes, others):
    boxes, others = boxes[:, :4], others[:, :4]
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2]) + 1
    common = np.where((sides > 0).all(axis=2), sides.prod(axis=2), 0)
    areas = [(b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1) for b in (boxes, others)]
    return common / (areas[0][:, None] + areas[1] - common)
""",
    "fast_rcnn/__init__.py": "",
    "fast_rcnn/nms_wrapper.py": """from utils.cython_bbox import bbox_overlaps


def nms(rows, threshold):
    kept = []
    for i in rows[:, 4].argsort()[::-1]:
        if not kept or bbox_overlaps(rows[kept, :4], rows[i : i + 1, :4]).max() <= threshold:
            kept.append(i)
    return kept
""",
}
MENDS = (  # what NumPy and PyYAML have dropped since
    ("np.float)", "np.float64)"),
    ("yaml.load(", "yaml.unsafe_load("),
    ("from .generate_anchors", "from rpn.generate_anchors"),
    ("cls = clss[ind]", "cls = int(clss[ind])"),
)
BOXES = np.array([[20, 30, 150, 170, 3], [100, 60, 260, 200, 7], [5, 5, 60, 50, 12]], np.float32)
SIZE = np.array([[192, 272, 1.3]], np.float32)
PLAIN, TUPLE = "'feat_stride': 16", "'feat_stride': 16 \n'scales': !!python/tuple [4, 8, 16, 32]"


class Blob:
    """As much of pycaffe's as the layers use."""

    def __init__(self, data: Any = 0) -> None:
        self.data = np.asarray(data, np.float32)

    def reshape(self, *shape: int) -> None:
        """Zeros of that shape."""
        self.data = np.zeros(shape, np.float32)


def translated(lib: Path, folder: Path) -> None:
    """The layers in Python 3, with the stubs beside them."""
    for name in ("rpn", "fast_rcnn"):
        shutil.copytree(lib / name, folder / name)
    for name, text in STUBS.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    used = [*(folder / "rpn").glob("*.py"), folder / "fast_rcnn" / "config.py"]
    command = [sys.executable, "-W", "ignore", "-m", "lib2to3", "-w", "-n", *map(str, used)]
    subprocess.run(command, check=True, capture_output=True)
    for path in used:
        text = path.read_text()
        for old, new in MENDS:
            text = text.replace(old, new)
        path.write_text(text)


def cases() -> Iterator[tuple[str, str, str, str, dict[str, Any], list[np.ndarray], int]]:
    """Name, class, ``param_str`` and phase, what of ``cfg.TRAIN`` is changed, bottoms, number of tops."""
    rng = np.random.default_rng(22)
    every = {"RPN_BATCHSIZE": 10000}
    for name, changed in (
        ("plain", {}),
        ("clobbered", {"RPN_CLOBBER_POSITIVES": True, "RPN_NEGATIVE_OVERLAP": 0.5}),
        ("weighted", {"RPN_NORMALIZE_TARGETS": True, "RPN_POSITIVE_WEIGHT": 0.3}),
    ):
        bottoms = [np.zeros((1, 18, 12, 17), np.float32), BOXES, SIZE]
        yield f"anchor_{name}", "AnchorTargetLayer", PLAIN, "train", {**every, **changed}, bottoms, 4
    for name, param, phase, count in (("9", PLAIN, "test", 9), ("12", TUPLE, "train", 12)):
        scores = rng.permutation(2 * count * 6 * 8).reshape(1, 2 * count, 6, 8).astype(np.float32) / 10000
        offsets = (rng.standard_normal((1, 4 * count, 6, 8)) * 0.4).astype(np.float32)
        bottoms = [scores, offsets, np.array([[96, 128, 1.3]], np.float32)]
        yield f"proposal_{name}", "ProposalLayer", param, phase, {}, bottoms, 2
    near = BOXES[rng.integers(0, 3, 40), :4] + rng.uniform(-25, 25, (40, 4))
    far = rng.uniform(0, 150, (40, 2))
    regions = np.concatenate([near, np.concatenate([far, far + rng.uniform(5, 100, (40, 2))], axis=1)])
    regions = np.pad(regions, [(0, 0), (1, 0)]).astype(np.float32)
    every = {"BATCH_SIZE": -1, "BBOX_NORMALIZE_TARGETS_PRECOMPUTED": True, "BG_THRESH_LO": 0.0}
    for classes in (13, 2):
        changed = {**every, "AGNOSTIC": classes == 2}
        param = f"'num_classes': {classes}"
        yield f"target_{classes}", "ProposalTargetLayer", param, "train", changed, [regions, BOXES], 5


def main() -> None:
    arrays: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        translated(Path(sys.argv[1]), Path(folder))
        sys.path.insert(0, folder)
        from fast_rcnn.config import cfg
        from rpn import anchor_target_layer, proposal_layer, proposal_target_layer

        modules = [vars(module) for module in (anchor_target_layer, proposal_layer, proposal_target_layer)]
        for name, kind, param, phase, changed, inputs, tops in cases():
            before = {key: cfg.TRAIN[key] for key in changed}
            cfg.TRAIN.update(changed)
            cls = next(module[kind] for module in modules if kind in module)
            layer = cls.__new__(cls)
            layer.param_str, layer.phase = param, 0 if phase == "train" else 1
            bottom, top = [Blob(x) for x in inputs], [Blob() for _ in range(tops)]
            layer.setup(bottom, top)
            layer.forward(bottom, top)
            cfg.TRAIN.update(before)
            found = [blob.data for blob in top]
            if kind == "ProposalTargetLayer":
                order = np.lexsort(found[0].reshape(len(found[0]), -1).T)
                found = [values[order] for values in found]
            given = "".join(f"\n'{key}': {value}" for key, value in changed.items())
            arrays |= {f"{name}/kind": kind, f"{name}/param_str": param + given, f"{name}/phase": phase}
            arrays |= {f"{name}/x{i}": values for i, values in enumerate(inputs)}
            arrays |= {f"{name}/y{i}": values for i, values in enumerate(found)}
    np.savez_compressed(Path(__file__).with_name("rpn.npz"), **arrays)


if __name__ == "__main__":
    main()

"""Draws small scenes of the bundled digits, with what a detector and a segmenter learn from.

    python prototxt/make_digit_scenes.py -o data/digit_scenes

A scene is a grey image of 64 × 64 pixels with one to four digits, whose boxes do not overlap. Beside ``images/``:

- ``annotations/``: the box and class of each digit, as Pascal VOC writes them (XML; pixels count from 1);
- ``masks/``: an image of labels, 0 where there is no digit, else 1 + the digit;
- ``train_boxes.txt``, ``test_boxes.txt``: lines "image annotation", and ``train_masks.txt``, ``test_masks.txt``:
  lines "image mask", with paths from the folder itself;
- ``labelmap.prototxt``: the classes, as SSD's Caffe writes them; 0 is the background.

Training scenes have digits of ``sample/mnist-train`` only, test scenes of ``sample/mnist-test`` only. The same
command draws the same pixels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minicaffe.data.sources.backends import SAMPLES
from minicaffe.data.sources.idx import label_file_of, read_idx
from minicaffe.files.atomic import atomic_folder

Pixels: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[int, int, int, int]  # x0, y0, x1, y1; the last two lie outside

SIDE = 64
SMALLEST, LARGEST = 14, 34  # the longer side of a digit
INK = 96  # a pixel from this value on belongs to the digit
SEEDS = {"train": 1, "test": 2}

OBJECT = """\
  <object>
    <name>{name}</name>
    <difficult>0</difficult>
    <bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>
  </object>
"""
ANNOTATION = """\
<annotation>
  <filename>{filename}</filename>
  <size><width>{side}</width><height>{side}</height><depth>1</depth></size>
{objects}</annotation>
"""


def cut_out(image: Pixels, longer: int) -> Pixels:
    """The digit of an image, without the margin, scaled so that its longer side has ``longer`` pixels."""
    rows, columns = (np.flatnonzero((image >= INK).any(axis=axis)) for axis in (1, 0))
    tight = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = longer / max(tight.shape)
    height, width = (max(1, round(side * scale)) for side in tight.shape)
    return np.asarray(Image.fromarray(tight).resize((width, height), Image.Resampling.BILINEAR))


def draw_scene(
    digits: Pixels, labels: Pixels, rng: np.random.Generator
) -> tuple[Pixels, Pixels, list[tuple[int, Box]]]:
    """An image and its mask, (64, 64) each, and the class and box of each digit."""
    image, mask, taken = (np.zeros((SIDE, SIDE), np.uint8) for _ in range(3))
    objects: list[tuple[int, Box]] = []
    wanted = int(rng.integers(1, 5))
    for _ in range(20):  # tries: a digit whose box would overlap another is left out
        if len(objects) == wanted:
            break
        chosen = int(rng.integers(len(digits)))
        digit = cut_out(digits[chosen], int(rng.integers(SMALLEST, LARGEST + 1)))
        height, width = digit.shape
        y, x = (int(rng.integers(SIDE - side + 1)) for side in (height, width))
        place = np.s_[y : y + height, x : x + width]
        if taken[place].any():
            continue
        taken[place] = 1
        image[place] = digit
        mask[place] = np.where(digit >= INK, 1 + labels[chosen], 0)
        objects.append((int(labels[chosen]), (x, y, x + width, y + height)))
    return image, mask, objects


def annotation(filename: str, objects: list[tuple[int, Box]]) -> str:
    """Pascal VOC's XML; its boxes count pixels from 1, and the last two numbers are of the last pixel inside."""
    texts = [
        OBJECT.format(name=label, x0=x0 + 1, y0=y0 + 1, x1=x1, y1=y1) for label, (x0, y0, x1, y1) in objects
    ]
    return ANNOTATION.format(filename=filename, side=SIDE, objects="".join(texts))


def write_scenes(folder: Path, part: str, count: int) -> None:
    """The scenes of a part, "train" or "test", with their two lists."""
    sample = SAMPLES[f"sample/mnist-{part}"]
    digits, labels = read_idx(sample), read_idx(label_file_of(sample))
    rng = np.random.default_rng(SEEDS[part])
    boxes, masks = [], []
    for name in ("images", "annotations", "masks"):
        (folder / name).mkdir(exist_ok=True)
    for i in range(count):
        image, mask, objects = draw_scene(digits, labels, rng)
        name = f"{part}_{i:05}"
        Image.fromarray(image).save(folder / f"images/{name}.png")
        Image.fromarray(mask).save(folder / f"masks/{name}.png")
        (folder / f"annotations/{name}.xml").write_text(annotation(f"{name}.png", objects))
        boxes.append(f"images/{name}.png annotations/{name}.xml\n")
        masks.append(f"images/{name}.png masks/{name}.png\n")
    (folder / f"{part}_boxes.txt").write_text("".join(boxes))
    (folder / f"{part}_masks.txt").write_text("".join(masks))


def label_map() -> str:
    """The classes as SSD's label map."""
    classes = [("none_of_the_above", "background"), *((str(digit), str(digit)) for digit in range(10))]
    return "".join(
        f'item {{\n  name: "{name}"\n  label: {label}\n  display_name: "{shown}"\n}}\n'
        for label, (name, shown) in enumerate(classes)
    )


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--train", type=int, default=4000, help="training scenes (%(default)s)")
    parser.add_argument("--test", type=int, default=1000, help="test scenes (%(default)s)")
    args = parser.parse_args()
    if args.output.exists():
        sys.exit(f"error: {args.output}: is there already; use it, or remove it first")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(args.output) as folder:
        for part in SEEDS:
            write_scenes(Path(folder), part, getattr(args, part))
        (Path(folder) / "labelmap.prototxt").write_text(label_map())
    print(f"{args.output}: {args.train} scenes to train on, {args.test} to test on")


if __name__ == "__main__":
    main()

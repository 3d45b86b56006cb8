"""Data bases of images with boxes, as SSD's Caffe writes them, encoded here byte by byte."""

import struct

import lmdb
import numpy as np

from minicaffe.data.decode import encode_image


def varint(number):
    number &= 2**64 - 1
    groups = []
    while True:
        number, group = number >> 7, number & 127
        groups.append(group | (128 if number else 0))
        if not number:
            return bytes(groups)


def field(number, value):
    """A field of a protobuf message: a whole number, a float, or bytes."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def datum(image, label=0, encoded=None):
    channels, height, width = image.shape
    data = encode_image(image, encoded) if encoded else image.tobytes()
    parts = (channels, height, width, data, label)
    message = b"".join(field(number, value) for number, value in enumerate(parts, 1))
    return message + (field(7, 1) if encoded else b"")


def annotated(image, groups, label=0, kind=0, encoded=None):
    """``groups``: {label: [(instance, x_min, y_min, x_max, y_max, difficult)]}. ``kind`` None: without a type."""
    message = field(1, datum(image, label, encoded)) + (b"" if kind is None else field(2, kind))
    for group_label, boxes in groups.items():
        group = field(1, group_label)
        for instance, *corners, difficult in boxes:
            box = b"".join(field(i, float(value)) for i, value in enumerate(corners, 1))
            group += field(2, field(1, instance) + field(2, box + field(6, int(difficult))))
        message += field(3, group)
    return message


def write(folder, values):
    """A data base with these AnnotatedDatums, in this order."""
    with lmdb.open(str(folder), map_size=1 << 28) as base, base.begin(write=True) as writing:
        for number, value in enumerate(values):
            writing.put(b"%08d" % number, value)


def random_images(rng, count, size=(24, 32), channels=3):
    return [rng.integers(0, 256, (channels, *size)).astype(np.uint8) for _ in range(count)]


def random_boxes(rng, count, labels=3):
    """``count`` boxes in groups; sides of at least 0.1."""
    groups = {}
    for instance in range(count):
        first = rng.uniform(0, 0.8, 2)
        corners = [*first, *(first + rng.uniform(0.1, 0.2, 2))]
        groups.setdefault(int(rng.integers(1, labels + 1)), []).append(
            (instance, *corners, bool(rng.integers(2)))
        )
    return groups


def rows_of(groups):
    """What the label says of an image with these groups, without the image's number: (n, 7)."""
    rows = [[label, *box] for label, boxes in groups.items() for box in boxes]
    return np.array(rows, np.float32).reshape(-1, 7)

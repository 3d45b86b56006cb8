"""Images, lists and annotations with random damage: read, or refused with one clear line, in bounded memory.

As a script, as many as you like:

python -m tests.security.image_fuzz 10000 [first seed [images|lists|annotations]]
"""

from __future__ import annotations

import io
import logging
import resource
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests import ROOT
from tests.security.peak_memory import peak_memory

SECONDS = 10  # on a loaded machine too
EACH = 500  # files for a child: where it dies, its last one is the culprit
MEMORY = 3 << 30  # that a child may have: more than an image of the largest size takes

NAMES = [
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xdb", b"\xff\xe1", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03"),
    *b"IHDR IDAT IEND tRNS eXIf iCCP zTXt acTL fcTL GIF89a VP8L VP8X ANMF ALPH P5 P7 Pf BM # -1".split(),
    *(b"\x21\xf9\x04", b",\0\0\0\0", b"II*\0", b"MM\0*", b"\x00\x01\x03\x00", b"\x7f\xff\xff\xff"),
    *(b"\xff\xff\xff\xff", b"\0\0\0\0", b"65535 65535", b"999999999999999999999"),
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
]
WORDS = [
    *(b"\n", b"\r", b"\t", b" ", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[2J", b"\x85", b"# 1"),
    *b"nan inf -1 1e999 99999999999999999999 a.png ../ /dev/zero /dev/stdin / # 0.5".split(),
    *(b"\xe2\x80\xa8", b"\xed\xa0\x80"),
]


def damaged(data: bytes, rng: np.random.Generator, words: list[bytes]) -> bytes:
    """The bytes with one to four wounds: cut, bits turned, pieces lost, doubled, moved, or written over."""
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(0, len(data) + 1))
        length = int(rng.integers(0, 1 + rng.choice([4, 40, len(data) + 1])))
        before, piece, after = data[:place], data[place : place + length], data[place + length :]
        word = words[rng.integers(len(words))]
        data = [
            before,
            before + after,
            before + piece + piece + after,
            before + word + piece + after,
            before + word + after,
            before + int(rng.integers(1, 3000)) * word + piece + after,
            before + bytes(byte ^ 1 << rng.integers(8) for byte in piece[:1]) + piece[1:] + after,
            before + rng.bytes(len(piece[:64])) + piece[64:] + after,
            before + after + piece,
        ][rng.choice(9, p=[0.12, 0.1, 0.05, 0.12, 0.12, 0.02, 0.3, 0.12, 0.05])]
    return data[: 1 << 20]


def with_sums(data: bytes) -> bytes:
    """A PNG whose checksums are right, so that more than these is read."""
    at, found = 8, bytearray(data)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + size
        if end + 4 > len(data):
            break
        found[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(found)


def good_images() -> list[tuple[str, bytes]]:
    """Small files of every format that is read, and some that are not."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [colour.rotate(angle) for angle in (90, 180)]
    kinds = [
        ("JPEG", colour, {"exif": exif}),
        ("JPEG", colour, {"progressive": True}),
        ("JPEG", colour.convert("CMYK"), {}),
        ("JPEG", colour.convert("L"), {}),
        ("MPO", colour, {"save_all": True, "append_images": frames}),
        ("PNG", colour, {"exif": exif}),
        ("PNG", colour.convert("P"), {"transparency": 3}),
        ("PNG", colour.convert("RGBA"), {"save_all": True, "append_images": frames}),
        ("PNG", Image.fromarray(rng.integers(0, 65536, (40, 56), dtype=np.uint16)), {}),
        ("PNG", colour.convert("1"), {}),
        ("BMP", colour, {}),
        ("BMP", colour.convert("P"), {}),
        ("GIF", colour, {"save_all": True, "append_images": frames}),
        ("TIFF", colour, {"tiffinfo": {0x0112: 8}}),
        ("TIFF", colour, {"compression": "tiff_lzw"}),
        ("TIFF", colour, {"compression": "jpeg"}),
        ("TIFF", colour.convert("1"), {"compression": "group4"}),
        ("TIFF", Image.fromarray(pixels[:, :, 0].astype(np.float32)), {}),
        ("WEBP", colour, {"exif": exif}),
        ("WEBP", colour.convert("RGBA"), {"lossless": True, "save_all": True, "append_images": frames}),
        ("PPM", colour, {}),
        ("PPM", colour.convert("1"), {}),
        ("ICO", colour, {}),
        ("TGA", colour, {}),
    ]
    found = [("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")]
    for kind, image, options in kinds:
        file = io.BytesIO()
        try:
            image.save(file, kind, **options)
        except (OSError, KeyError):  # what this Pillow was built without
            continue
        found.append((kind, file.getvalue()))
    return found


LISTS = [
    ("list", b"a.png 0\nsub/b c.png 1\na.png\t2\n\nsub/b c.png 3\n"),
    ("list", b"\xef\xbb\xbfa.png 0 1 2\r\nsub/b c.png 1 0 0.5\r\n"),
    ("list", b"a.png\nsub/b c.png\n"),
    ("windows", b"# 0\na.png\n3 9 9\n2\n1 0.9 0 0 4 4\n2 0.1 1 1 5 6\n# 1\na.png\n3 9 9\n1\n3 0.7 2 2 8 8\n"),
]
TAGS = [
    *b"<!DOCTYPE a [<!ENTITY b 'c'>]> &b; &lt; <a> </a> <![CDATA[ ]]> <?xml encoding='x'?> <!-- <object/>".split(),
    *b'[ ] { } "x" null true [[[[[[[[ {"a": : , 1e999 NaN -Infinity 99999999999999999999 \\ud800'.split(),
    *(
        b"<size><width>0</width></size>",
        b"item {",
        b"label: -1",
        b'name: "',
        b"\0",
        b"\xff",
        b"\x1b[2J",
        b"\n",
    ),
]
ANNOTATIONS = [
    (
        "xml",
        b"<annotation>\n<size><height>9</height><width>9</width></size>\n<object><name>cat</name><difficult>1"
        b"</difficult>\n<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>",
    ),
    (
        "json",
        b'{"images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}], "annotations": [{"image_id": 1, '
        b'"category_id": 2, "bbox": [1, 2, 3.5, 4], "iscrowd": 0}], "categories": [{"id": 2, "name": "cat"}]}',
    ),
    (
        "image",
        b'{"image": {"height": 9, "width": 9}, "annotation": [{"category_id": 2, "bbox": [1, 2, 3, 4]}]}',
    ),
    ("text", b"cat 1 2 5 6\n\ncat 1.5 2 5 6\n"),
    (
        "map",
        b'item { name: "cat" label: 1 display_name: "a cat" label_id: 2 }\nitem { name: "dog" label: 2 }\n',
    ),
    ("boxes", b"a.png a.xml\nb.png b.xml\n"),
]
GOOD = {"lists": (LISTS, WORDS), "annotations": (ANNOTATIONS, TAGS)}


class Reader:
    """Damages a file by its seed, and reads it as a data layer would."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.images = folder, good_images()
        (folder / "sub").mkdir()
        for name in ("a.png", "sub/b c.png"):
            Image.new("RGB", (9, 9), (1, 2, 3)).save(folder / name)
        (folder / "a.xml").write_bytes(ANNOTATIONS[0][1])

    def read(self, kind: str, seed: int) -> tuple[str, str]:
        """The format of file number ``seed``, and what was said of it ("" if it was read).

        Raises AssertionError for anything but a clear line in time.
        """
        from minicaffe.errors import MinicaffeError

        rng = np.random.default_rng(seed)
        files, words = GOOD.get(kind, (self.images, NAMES))
        form, good = files[seed % len(files)]
        path = self.folder / "damaged"
        path.write_bytes(damaged(good, rng, words))
        start, said = time.perf_counter(), ""
        try:
            self._way(form, kind, int(rng.integers(3)))(path)
        except MinicaffeError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(
                f"seed {seed}, {form}: {type(error).__name__}: {str(error)[:300]}"
            ) from error
        took = time.perf_counter() - start
        assert took < SECONDS, f"seed {seed}, {form}: {took:.1f} s"
        assert len(said) < 3000 and "\n" not in said and "\x1b" not in said, (
            f"seed {seed}, {form}: {said[:300]!r}"
        )
        said.encode()
        assert not said or str(path) in said or form in ("list", "boxes"), (
            f"seed {seed}, {form}: {said[:300]}"
        )
        return form, said

    def _way(self, form: str, kind: str, way: int) -> Callable[[Path], object]:
        from minicaffe.classify.images import load_image
        from minicaffe.data import windows
        from minicaffe.data.annotated import listed
        from minicaffe.data.annotated.coco import read_coco, read_coco_of_image
        from minicaffe.data.annotated.label_map import LabelFinder, label_map_of, read_label_map
        from minicaffe.data.annotated.voc import read_voc
        from minicaffe.data.annotated.writing import annotated_datums
        from minicaffe.data.sources.image_list import ImageList, ImageListSource, PackedNames, open_images

        def from_list(path: Path) -> None:
            source = open_images(path, self.folder)
            source.read(np.arange(len(source))[:50])

        def from_windows(path: Path) -> None:
            found = windows.read_windows(path, self.folder)
            windows.WindowBatches(found, windows.Cropping(4), 4, 0.5, 0, 2)(0)

        def decoded(path: Path) -> None:
            names = PackedNames()
            names.append(str(path))
            ImageListSource(ImageList("x", names, None), [True, False, None][way], (8, 8) if way else None)

        def with_boxes(path: Path) -> None:
            found = listed.find_annotated(path)
            labels = LabelFinder(label_map_of([("cat", "cat"), ("2", "2")]))
            list(annotated_datums(found, np.arange(len(found)), labels, lambda: None))

        if kind == "annotations":
            readers = {
                "xml": read_voc,
                "json": read_coco,
                "image": read_coco_of_image,
                "text": listed.read_text,
            }
            return {**readers, "map": read_label_map, "boxes": with_boxes}[form]
        if kind == "images":
            return load_image if way == 2 else decoded
        return from_windows if form == "windows" else from_list


def child(kind: str, count: int, first: int) -> None:
    """Read so many files; before each its seed is written, after them what was found."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder))
        for seed in range(first, first + count):
            print("begin", seed, flush=True)
            form, said = reader.read(kind, seed)
            print("refused" if said else "read", form, flush=True)
    print("peak", round(peak_memory()), flush=True)


def run(kind: str, count: int, first: int = 0) -> tuple[Counter[str], Counter[str], int]:
    """How many of each format were read and refused, and the most MiB that a child had.

    Raises AssertionError, with the seed, where one is not read or refused as it should, or ends or hangs the child.
    """
    results: dict[str, Counter[str]] = {"read": Counter(), "refused": Counter()}
    peak = 0
    for start in range(first, first + count, EACH):
        some = min(EACH, first + count - start)
        command = [sys.executable, "-m", "tests.security.image_fuzz", "--child", kind, str(some), str(start)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + SECONDS * some)
        lines = [line.split() for line in done.stdout.splitlines()]
        last = next((line[1] for line in reversed(lines) if line[0] == "begin"), "?")
        assert done.returncode == 0, f"{kind}, seed {last}: status {done.returncode}\n{done.stderr[-2000:]}"
        for word, value in (line for line in lines if line[0] != "begin"):
            if word == "peak":
                peak = max(peak, int(value))
            else:
                results[word][value] += 1
    return results["read"], results["refused"], peak


def main(count: int, first: int = 0, *kinds: str) -> None:
    """So many of each kind; prints how many of each kind were refused, and the memory."""
    for kind in kinds or ("images", *GOOD):
        start = time.perf_counter()
        read, refused, peak = run(kind, count, first)
        for form in sorted({*read, *refused}):
            print(f"{form}: {refused[form]} of {read[form] + refused[form]} refused")
        took = time.perf_counter() - start
        print(f"{count} {kind}: no traceback, no signal, no hang; at most {peak} MiB; {took:.0f} s")


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        main(*map(int, sys.argv[1:3]), *sys.argv[3:])

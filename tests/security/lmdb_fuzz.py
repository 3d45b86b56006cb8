"""LMDBs with random damage: each is read, or refused with one clear line. As a script, as many as you like:

python -m tests.security.lmdb_fuzz 10000 [first seed]
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

from minicaffe.caffe.formats.messages import message_class
from minicaffe.data.sources.backends import open_source
from minicaffe.errors import MinicaffeError
from tests.security.peak_memory import begin_peak, peak_memory

SECONDS = 60  # more than any takes, also on a machine that is busy
PAGE = 4096
WORDS = [0, 1, 2, 3, 7, 8, 15, 16, 17, 0xFF, 4095, 4096, 8192, 0xFFFF, 1 << 31, (1 << 32) - 1, (1 << 48) - 1]
WORDS += [1 << 62, (1 << 63) - 1, (1 << 64) - 1]


def datum(number: int, pixels: int, encoded: bool) -> bytes:
    message = message_class("Datum")(channels=1, height=1, width=pixels, label=number % 10)
    if encoded:
        file = io.BytesIO()
        Image.fromarray(np.full((8, pixels), number % 256, np.uint8)).save(file, "png")
        message.data, message.encoded = file.getvalue(), True
    else:
        message.data = bytes(pixels)
    return message.SerializeToString()


def good_files() -> dict[str, bytes]:
    """Small databases of every form: one leaf, trees of two and three levels, long values, pages used anew."""
    forms = {  # number, pixels of each, letters of each key, whether encoded, how often written over
        "one leaf": (3, 5, 8, False, 1),
        "leaves": (90, 300, 8, False, 1),
        "deep": (260, 3, 480, False, 1),
        "long values": (12, 9000, 8, False, 1),
        "images": (20, 40, 8, True, 1),
        "written over": (60, 2500, 30, False, 3),
    }
    files = {}
    for name, (count, pixels, letters, encoded, times) in forms.items():
        with tempfile.TemporaryDirectory() as folder:
            with lmdb.open(folder, map_size=1 << 26) as base:
                for turn in range(times):
                    with base.begin(write=True) as writing:
                        for i in range(turn, count, turn + 1):
                            writing.put(b"%0*d" % (letters, i), datum(i, pixels, encoded))
            files[name] = Path(folder, "data.mdb").read_bytes()
    return files


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to three wounds, most of them where a page says what is in it."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3])):
        pages = max(1, len(data) // PAGE)
        page = int(rng.choice([0, 1, rng.integers(pages)])) * PAGE
        match rng.integers(8):
            case 0 | 1 | 2:  # a word of a header, of the places of nodes, or of a meta page
                at, size = page + 2 * int(rng.integers(80)), int(rng.choice([2, 4, 8]))
                data[at : at + size] = (WORDS[rng.integers(len(WORDS))] & ((1 << 8 * size) - 1)).to_bytes(
                    size, "little"
                )
            case 3:  # a word anywhere in the page, where the nodes are
                at = page + 2 * int(rng.integers(PAGE // 2))
                data[at : at + 2] = int(WORDS[rng.integers(len(WORDS))] & 0xFFFF).to_bytes(2, "little")
            case 4:  # a bit
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            case 5:  # one page is another
                other = int(rng.integers(pages)) * PAGE
                data[page : page + PAGE] = data[other : other + PAGE]
            case 6:  # a page is lost, or noise
                data[page : page + PAGE] = bytes(PAGE) if rng.integers(2) else rng.bytes(PAGE)
            case 7:  # cut
                del data[int(rng.integers(len(data))) :]
    return bytes(data)


def read(content: bytes, folder: Path) -> str:
    """Read a whole database; return what was said of it, "" if it was read.

    Raises AssertionError for anything but a clear line in time.
    """
    (folder / "data.mdb").write_bytes(content)
    start, said = time.perf_counter(), ""
    try:
        source = open_source(str(folder), "LMDB")
        for number in range(len(source)):
            source.read(np.array([number]))
        source.close()
    except MinicaffeError as error:
        said = str(error)
    assert time.perf_counter() - start < SECONDS, "too slow"
    assert not said or (said.startswith(str(folder)) and len(said) < 600), said[:1000]
    return said


def main(count: int, first: int = 0) -> None:
    """Read so many damaged databases, and print how many of each form were refused."""
    files, seen, refused = good_files(), Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        for content in files.values():
            assert not read(content, Path(folder))
        before = begin_peak()
        for seed in range(first, first + count):
            rng, name = np.random.default_rng(seed), [*files][seed % len(files)]
            try:
                said = read(damaged(files[name], rng), Path(folder))
            except Exception as error:
                raise AssertionError(
                    f"seed {seed}, {name}: {type(error).__name__}: {str(error)[:300]}"
                ) from error
            seen[name] += 1
            refused[name] += bool(said)
    for name, number in seen.items():
        print(f"{name}: {refused[name]} of {number} refused")
    print(f"memory grew by {peak_memory() - before:.0f} MiB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

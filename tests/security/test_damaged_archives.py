"""Damaged and hostile .npz and .npy files (weights, data, means, matrices) are one line, and memory is bounded.

More of them, and HDF5 files and states: file_fuzz.py.
"""

import io
import sys
import zipfile

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.data.mean import load_array, load_mean
from minicaffe.data.sources.npz import open_npz
from minicaffe.errors import DataError, MinicaffeError, WeightError
from minicaffe.files.npz import NpzReader
from tests.security import file_fuzz
from tests.security.peak_memory import begin_peak, peak_memory

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

MEAN = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def npy(header):
    """An .npy file with this text for its header."""
    text = (header + " " * (118 - len(header)) + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + MEAN.tobytes()


def zipped(content, packing=zipfile.ZIP_STORED, name="mean.npy"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def encrypted(content):
    """The archive says of its member that it is encrypted."""
    data = bytearray(zipped(content))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def header(shape="(2, 3, 4)", descr="'<f4'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


GOOD = npy(header())
FILES = {
    "a bool in a shape": (zipped(npy(header("(True, 3, 4)"))), r"an array of shape \(True, 3, 4\)"),
    "an axis below 0": (zipped(npy(header("(-2, 3, 4)"))), r"an array of shape \(-2, 3, 4\)"),
    "an axis of text": (zipped(npy(header("('2', 3, 4)"))), "shape is not valid"),
    "parentheses": (zipped(npy(header("(" * 60))), r"a\.npz: "),
    "no mapping": (zipped(npy("[1, 2]")), r"a\.npz: "),
    "a type that is none": (zipped(npy(header(descr="'<f3'"))), r"a\.npz: "),
    "objects": (zipped(npy(header(descr="'|O'"))), "'mean' holds object, not numbers"),
    "records": (zipped(npy(header(descr="[('a', '<f4')]"))), r"'mean' holds .*, not numbers"),
    "texts of a gigabyte": (zipped(npy(header(descr="'|S999999999'"))), "declares arrays of 23,"),
    "more than there is": (zipped(npy(header("(2, 3, 5)"))), "EOF: reading array data|is cut off"),
    "far more than there is": (zipped(npy(header("(2, 3000, 500)"))), "'mean' is cut off"),
    "a size beyond numbers": (zipped(npy(header("(99999999999, 99999999999)"))), "declares arrays of"),
    "packed by LZMA": (zipped(GOOD, zipfile.ZIP_LZMA), "'mean' is packed in a way that NumPy does not"),
    "packed by bzip2": (zipped(GOOD, zipfile.ZIP_BZIP2), "'mean' is packed in a way that NumPy does not"),
    "encrypted": (encrypted(GOOD), "'mean' is packed in a way that NumPy does not"),
    "a bad checksum": (zipped(GOOD).replace(MEAN.tobytes(), MEAN[::-1].tobytes()), "Bad CRC-32"),
    "no array": (zipped(b"words", name="mean.txt"), "no array"),
}
READERS = {
    "mean": load_mean,
    "data": open_npz,
    "matrix": lambda path: load_array(path, "matrix", "H"),
    "weights": lambda path: NpzReader(path).read("mean"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", FILES)
def test_a_damaged_archive_is_one_line(tmp_path, case, reader):
    content, message = FILES[case]
    if reader == "data":
        content = content.replace(b"mean.npy", b"data.npy")
        message = message.replace("'mean'", "'data'")
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(MinicaffeError, match=message) as caught:
        READERS[reader](path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 500


@pytest.mark.parametrize("case", ["a bool in a shape", "parentheses", "objects", "more than there is"])
def test_a_damaged_bare_array_is_one_line(tmp_path, case):
    content, _ = FILES[case]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (tmp_path / "m.npy").write_bytes(archive.read("mean.npy"))
    with pytest.raises(DataError, match=r"m\.npy: "):
        load_mean(tmp_path / "m.npy")


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """Zeros of 272 MiB in some hundred kilobytes."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.npz"
    told = {"descr": "<f8", "fortran_order": False, "shape": (2, 17 * 2**10, 2**10)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("data.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, told)
        for _ in range(272):
            file.write(bytes(2**20))
    return path


BOMBED = {**READERS, "weights": lambda path: NpzReader(path).read("data")}


@pytest.mark.parametrize("reader", BOMBED)
def test_a_small_archive_of_many_zeros_takes_no_memory(bomb, reader):
    held = begin_peak()
    with pytest.raises(
        MinicaffeError, match=r"declares arrays of 285,212,672 bytes, in a file of [\d,]+; if it"
    ):
        BOMBED[reader](bomb)
    if sys.platform == "linux":
        assert peak_memory() - held < 100  # MiB


def test_weights_are_told_by_their_shapes_before_their_types(tmp_path):
    path = tmp_path / "w.npz"
    path.write_bytes(zipped(npy(header(descr="'|S999999999'")), name="ip/0.npy"))
    net = mc.Net(mc.spec.net.parse_net(
        "layer: [{name: x, type: Input, input_param: {shape: {dim: [1, 2]}}}, "
        "{name: ip, type: InnerProduct, inner_product_param: {num_output: 3, bias_term: false}}]"
    ))  # fmt: skip
    with pytest.raises(WeightError, match=r"'ip/0' has shape \(2, 3, 4\), the net expects \(3, 2\)"):
        net.copy_from(path)


def test_an_archive_with_several_arrays_names_the_one_that_is_read(tmp_path):
    np.savez(tmp_path / "m.npz", a=MEAN, b=MEAN)
    with pytest.raises(DataError, match=r"m\.npz: no array named 'mean'; it holds a, b"):
        load_mean(tmp_path / "m.npz")
    np.savez(tmp_path / "m.npz", a=MEAN)
    np.testing.assert_array_equal(load_mean(tmp_path / "m.npz"), MEAN)


def test_a_mean_of_four_axes_is_told_what_to_give(tmp_path):
    np.save(tmp_path / "m.npy", np.stack([MEAN, MEAN]))
    with pytest.raises(DataError, match=r"a mean image of shape \(2, 2, 3, 4\); expected .*: give mean\[0\]"):
        load_mean(tmp_path / "m.npy")
    transformer = mc.Transformer({"data": (1, 2, 3, 4)})
    with pytest.raises(DataError, match=r"a mean of shape \(1, 2, 3, 4\) does not fit .*: give mean\[0\]"):
        transformer.set_mean("data", MEAN[None])
    transformer.set_mean("data", MEAN)


@pytest.mark.parametrize("kind", file_fuzz.KINDS)
def test_random_damage_gives_a_clear_line(kind, capsys):
    assert file_fuzz.main(80, 0, (kind,)) == [], capsys.readouterr().out

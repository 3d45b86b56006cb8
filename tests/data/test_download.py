"""Downloads against a server on this machine: good, cut off, damaged, missing; nothing half-written stays."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from minicaffe.data import download
from minicaffe.data.sources.backends import open_source
from minicaffe.data.sources.idx import gzip_bytes, idx_bytes
from minicaffe.data.sources.image_list import open_images
from minicaffe.errors import DataError, MinicaffeError

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.files``; under /cut/ half of a file with the length of the whole, and so on."""

    def do_GET(self):
        fault, _, name = self.path.lstrip("/").partition("/")
        content = self.server.files.get(name)
        self.server.asked.append(self.path)
        if content is None or fault == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        if fault != "unsized":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        damaged = content[:half] + bytes([content[half] ^ 255]) + content[half + 1 :]
        self.wfile.write({"cut": content[:half], "damaged": damaged}.get(fault, content))

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.files, served.asked = {}, []
    served.url = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def mnist(monkeypatch, rng):
    """Four small files in place of MNIST's, by name."""
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(0, 256, (4, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte.gz": np.arange(4, dtype=np.uint8),
        "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (2, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte.gz": np.arange(2, dtype=np.uint8),
    }
    raw = {name: idx_bytes(array) for name, array in arrays.items()}
    monkeypatch.setattr(download, "MNIST_FILES", {n: hashlib.sha256(b).hexdigest() for n, b in raw.items()})
    return {name: gzip_bytes(content) for name, content in raw.items()}


def get(name, folder, source=None):
    lines = []
    download.get(name, folder / name, source, progress=lines.append)
    return lines


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("way", ["good", "unsized"])
def test_mnist_comes_whole_and_is_read(tmp_path, server, mnist, way):
    server.files = mnist
    lines = get("mnist", tmp_path, f"{server.url}/{way}")
    assert files_in(tmp_path / "mnist") == sorted(mnist)
    assert len(open_source(str(tmp_path / "mnist" / "train-images-idx3-ubyte.gz"))) == 4
    assert any("train-images" in line for line in lines)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("cut", "cut off after"), ("damaged", "checksum differs"), ("missing", "HTTP 404")],
)
def test_a_fault_is_named_and_nothing_is_left(tmp_path, server, mnist, fault, message):
    server.files = mnist
    with pytest.raises(DataError, match=message) as caught:
        get("mnist", tmp_path, f"{server.url}/{fault}")
    assert files_in(tmp_path) == [] and "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["cut", "damaged", "missing"])
def test_the_second_mirror_serves_after_a_fault_of_the_first(tmp_path, server, mnist, monkeypatch, fault):
    server.files = mnist
    monkeypatch.setattr(download, "MNIST_MIRRORS", (f"{server.url}/{fault}/", f"{server.url}/good/"))
    get("mnist", tmp_path)
    assert files_in(tmp_path / "mnist") == sorted(mnist)


def test_a_server_that_is_not_there_is_named(tmp_path, mnist, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/train-images.*refused"):
        get("mnist", tmp_path, "http://127.0.0.1:9")


def test_what_is_there_is_kept_and_what_is_damaged_is_got_again(tmp_path, server, mnist):
    server.files = mnist
    get("mnist", tmp_path, f"{server.url}/good")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    server.asked.clear()
    lines = get("mnist", tmp_path, f"{server.url}/good")
    assert server.asked == ["/good/t10k-labels-idx1-ubyte.gz"]
    assert sum("already there" in line for line in lines) == 3


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_copied_from_a_local_folder(tmp_path, mnist, packed):
    (tmp_path / "here").mkdir()
    for name, content in mnist.items():
        target = tmp_path / "here" / (name if packed else name.removesuffix(".gz"))
        target.write_bytes(content if packed else gzip.decompress(content))
    get("mnist", tmp_path, str(tmp_path / "here"))
    assert {name: (tmp_path / "mnist" / name).read_bytes() for name in mnist} == mnist


def test_local_folder_without_the_files_or_with_others_is_named(tmp_path, mnist):
    (tmp_path / "here").mkdir()
    with pytest.raises(DataError, match=r"has no train-images-idx3-ubyte\.gz or train-images-idx3-ubyte"):
        get("mnist", tmp_path, str(tmp_path / "here"))
    (tmp_path / "here" / "train-images-idx3-ubyte.gz").write_bytes(gzip_bytes(b"other"))
    with pytest.raises(DataError, match="checksum differs"):
        get("mnist", tmp_path, str(tmp_path / "here"))
    assert files_in(tmp_path / "mnist") == []


def test_shared_mnist_has_the_checksums_of_mnist(tmp_path, shared_data):
    get("mnist", tmp_path, str(shared_data / "mnist"))
    assert len(open_source(str(tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"))) == 10_000


# -- CIFAR-10 ---------------------------------------------------------------------------------------------


def cifar_records(rng, count):
    labels = np.arange(count, dtype=np.uint8) % 10
    return np.concatenate([labels[:, None], rng.integers(0, 256, (count, 3072), dtype=np.uint8)], axis=1)


@pytest.fixture
def cifar(monkeypatch, rng):
    """A small tar.gz in place of CIFAR-10's, and the records of its parts."""
    parts = {name: cifar_records(rng, 20) for names in download.CIFAR10_PARTS.values() for name in names}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, records in {"../evil.txt": np.zeros(1), **parts}.items():
            content = records.tobytes()
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(download, "CIFAR10_MD5", hashlib.md5(file.getvalue()).hexdigest())
    return file.getvalue(), parts


def check_cifar(folder, parts):
    source = open_images(folder / "cifar10" / "train")
    images, labels = source.read(np.arange(100))
    assert len(files_in(folder)) == 120
    np.testing.assert_array_equal(np.bincount(labels.astype(int)), [10] * 10)
    first = parts["data_batch_1.bin"][0, 1:].reshape(3, 32, 32)
    np.testing.assert_array_equal(
        images[0], first[::-1]
    )  # files hold red, green, blue; Caffe's order is b, g, r
    second_batch = parts["data_batch_2.bin"][3, 1:].reshape(3, 32, 32)
    np.testing.assert_array_equal(images[labels == 3][2], second_batch[::-1])


def test_cifar10_becomes_a_folder_of_images_for_each_class(tmp_path, server, cifar):
    content, parts = cifar
    server.files = {"cifar.tar.gz": content}
    get("cifar10", tmp_path, f"{server.url}/good/cifar.tar.gz")
    check_cifar(tmp_path, parts)
    assert get("cifar10", tmp_path) == [f"{tmp_path / 'cifar10'}: already there"]


@pytest.mark.parametrize("fault", ["cut", "damaged", "missing"])
def test_cifar10_second_mirror_serves_and_one_alone_leaves_nothing(
    tmp_path, server, cifar, monkeypatch, fault
):
    content, parts = cifar
    server.files = {"c.tar.gz": content}
    with pytest.raises(DataError):
        get("cifar10", tmp_path, f"{server.url}/{fault}/c.tar.gz")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(
        download, "CIFAR10_MIRRORS", (f"{server.url}/{fault}/c.tar.gz", f"{server.url}/good/c.tar.gz")
    )
    get("cifar10", tmp_path)
    check_cifar(tmp_path, parts)


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_cifar10_is_made_from_local_binary_files(tmp_path, cifar, form):
    content, parts = cifar
    source = tmp_path / "source"
    if form == "tar":
        source.write_bytes(content)
    else:
        source.mkdir()
        for name, records in parts.items():
            (source / name).write_bytes(records.tobytes())
    (tmp_path / "out").mkdir()
    get("cifar10", tmp_path / "out", str(source))
    check_cifar(tmp_path / "out", parts)


def jpeg(rng):
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "jpeg")
    return file.getvalue()


def image_tree(rng):
    return {
        f"{part}/{label}/{n:04}.jpg": jpeg(rng)
        for part in ("train", "test")
        for label in ("cat", "dog")
        for n in (0, 1)
    }


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("prefix", ["", "cifar10/"])
def test_a_zip_of_images_is_taken_and_no_name_leads_out(tmp_path, prefix, rng):
    tree = image_tree(rng)
    evil = dict.fromkeys(
        [
            "../evil.jpg",
            "train/../../evil.jpg",
            "/train/cat/evil.jpg",
            "train/cat/../evil.jpg",
            "train/cat/a.py",
            "../train/cat/evil.jpg",
            "train/../evil/x.jpg",
        ],
        b"evil",
    )
    path = write_zip(tmp_path / "images.zip", {prefix + n: c for n, c in tree.items()} | evil)
    get("cifar10", tmp_path / "out", str(path))
    assert files_in(tmp_path / "out" / "cifar10") == sorted(tree)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images.zip", "out"]
    assert (tmp_path / "out" / "cifar10" / "test/dog/0001.jpg").read_bytes() == tree["test/dog/0001.jpg"]


def test_a_folder_of_images_is_copied_and_a_zip_comes_over_http(tmp_path, server, rng):
    tree = image_tree(rng)
    for name, content in tree.items():
        target = tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    get("cifar10", tmp_path / "a", str(tmp_path / "source"))
    server.files = {"images.zip": write_zip(tmp_path / "images.zip", tree).read_bytes()}
    get("cifar10", tmp_path / "b", f"{server.url}/good/images.zip")
    assert files_in(tmp_path / "a" / "cifar10") == files_in(tmp_path / "b" / "cifar10") == sorted(tree)


def broken_sources(rng, folder):
    write_zip(folder / "other.zip", {"readme.txt": b""})
    whole = write_zip(folder / "whole.zip", image_tree(rng)).read_bytes()
    (folder / "damaged.zip").write_bytes(whole[:300] + b"\xff" * 50 + whole[350:])
    (folder / "noise.tar.gz").write_bytes(b"noise" * 100)
    (folder / "short.tar.gz").write_bytes(gzip_bytes(b"\0" * 10000)[:-9])
    (folder / "empty").mkdir()
    (folder / "binary").mkdir()
    (folder / "binary" / "data_batch_1.bin").write_bytes(b"\0" * 3072)
    (folder / "label").mkdir()
    (folder / "label" / "data_batch_1.bin").write_bytes(b"\x0b" + b"\0" * 3072)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("other.zip", "holds no train/<class>"),
        ("damaged.zip", "damaged or cut off"),
        ("noise.tar.gz", "damaged or cut off"),
        ("short.tar.gz", "damaged or cut off|has no data_batch_1.bin"),
        ("empty", "holds no train/<class>"),
        ("binary", "3,072 bytes are not a multiple of 3073"),
        ("label", "label 11 is not a class"),
        ("gone", "no such file or folder"),
    ],
)
def test_a_broken_source_is_named_and_nothing_is_left(tmp_path, source, message, rng):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    broken_sources(rng, tmp_path / "in")
    with pytest.raises(DataError, match=rf"{source}.*({message})"):
        get("cifar10", tmp_path / "out", str(tmp_path / "in" / source))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_with_something_else_in_it_is_not_touched(tmp_path):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="remove it, or give another --to"):
        get("cifar10", tmp_path, "anything")
    assert files_in(tmp_path) == ["cifar10/mine.txt"]


def test_an_unknown_set_and_a_place_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(DataError, match="must be mnist or cifar10"):
        download.get("imagenet")
    (tmp_path / "file").write_text("x")
    with pytest.raises(MinicaffeError, match="cannot be made"):
        download.get("mnist", tmp_path / "file" / "mnist")


def test_progress_says_how_much_is_done_and_how_long_it_takes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(download.time, "monotonic", lambda: now[0])
    lines = []
    meter = download.Meter("a.gz", 10_000_000, lines.append)
    for _ in range(4):
        now[0] += 1
        meter.add(1_000_000)
    meter.finish()
    assert lines == [
        "a.gz: 20 % of 10.0 MB, 8 s left",
        "a.gz: 40 % of 10.0 MB, 6 s left",
        "a.gz: 4.0 MB in 4 s",
    ]

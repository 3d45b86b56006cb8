"""Files of exported nets: weights come back bit for bit, and what cannot be written is one line."""

import pytest

import minicaffe as mc
from minicaffe.caffe.formats.caffemodel import CaffemodelReader
from minicaffe.cli.program import main
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError
from minicaffe.spec.net import parse_net
from tests.export.export_cases import make_net
from tests.golden_files import FOLDER


def exported(net, folder):
    files = folder / "net.prototxt", folder / "net.caffemodel"
    assert mc.export(net, *files) == []
    return files


# -- weights, there and back -----------------------------------------------------------------------------


def arrays_in(path):
    with CaffemodelReader(path) as file:
        return {key: file.read(key, shape) for key, shape in file.shapes.items()}


def assert_same_bits(one, other):
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
    assert all(one[key].tobytes() == other[key].tobytes() for key in one)


def there_and_back(prototxt, caffemodel, folder):
    """Caffe's files, converted, and exported again."""
    assert main(["convert", str(prototxt), str(caffemodel), "-o", str(folder / "ours")]) == 0
    (spec,), (weights,) = (folder / "ours").glob("*.yaml"), (folder / "ours").glob("*.npz")
    assert main(["export", str(spec), str(weights), "-o", str(folder / "caffe")]) == 0
    (again,) = (folder / "caffe").glob("*.caffemodel")
    return again


@pytest.mark.parametrize("generation", ["current", "v1", "v0"])
def test_weights_of_every_generation_come_back_bit_for_bit(generation, tmp_path):
    given = FOLDER / "caffe" / f"{generation}.caffemodel"
    again = there_and_back(given.with_suffix(".prototxt"), given, tmp_path)
    kept, found = arrays_in(given), arrays_in(again)
    kept = {key: value.reshape(found[key].shape) for key, value in kept.items() if key in found}
    assert kept
    assert_same_bits(kept, found)


@pytest.mark.parametrize("name", ["det1", "det2"])
def test_weights_of_mtcnn_come_back_bit_for_bit(name, shared_data, tmp_path):
    given = shared_data / "mtcnn" / f"{name}.caffemodel"
    again = there_and_back(given.with_suffix(".prototxt"), given, tmp_path)
    kept, found = arrays_in(given), arrays_in(again)
    assert len(found) >= 13
    kept = {key: kept[key].reshape(array.shape) for key, array in found.items()}  # less what only trains
    assert_same_bits(kept, found)


@pytest.mark.parametrize("ending", ["npz", "caffemodel", "caffemodel.h5"])
def test_weights_are_saved_by_their_files_ending(ending, tmp_path):
    net, path = make_net("odd"), tmp_path / f"w.{ending}"
    net.save(path)
    other = make_net("odd")
    for blobs in other.params.values():
        for blob in blobs:
            blob.data[...] = 0
    other.copy_from(path)
    for name, blobs in net.params.items():
        for mine, its in zip(blobs, other.params[name], strict=True):
            assert to_host(mine.data).tobytes() == to_host(its.data).tobytes()


# -- what goes wrong -------------------------------------------------------------------------------------


def test_what_is_exported_is_not_written_over(tmp_path, capsys):
    net = tmp_path / "net.prototxt"
    mc.export(make_net("odd"), net, tmp_path / "net.caffemodel")
    before = net.read_bytes()
    assert main(["export", str(net), str(tmp_path / "net.caffemodel"), "-o", str(tmp_path)]) == 2
    assert "would be written over" in capsys.readouterr().err
    assert net.read_bytes() == before


@pytest.mark.parametrize(
    ("weights", "folder", "message"),
    [
        ("models/cifar10_quick.npz", "out", "the net expects"),
        ("models/none.npz", "out", "none.npz"),
        ("models/lenet.npz", "/dev/null/x", "cannot be made"),
    ],
)
def test_a_wrong_export_is_one_line(weights, folder, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(FOLDER.parent.parent)
    folder = str(tmp_path / folder)
    assert main(["export", "prototxt/lenet/deploy.yaml", weights, "-o", folder]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.prototxt"))


@pytest.mark.parametrize("other", ["a", "./a", "../{}/a", "link/a"])
def test_one_file_for_net_and_weights_is_refused(other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(mc.WriteError, match=r"^a: given for the net and for its weights; give each a file"):
        mc.export(make_net("transposed"), "a", other.format(tmp_path.name))
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("export", [mc.export, mc.export_onnx])
def test_what_is_no_net_is_refused_in_one_line(export, tmp_path):
    with pytest.raises(
        mc.MinicaffeError, match=r"^export\w*: expected a net, got 'x.yaml'; 'mc.Net\(spec, weights\)'"
    ):
        export("x.yaml", *[tmp_path / "a", tmp_path / "b"][: 2 if export is mc.export else 1])
    assert not list(tmp_path.iterdir())


def test_a_name_with_a_line_break_makes_no_second_line():
    with pytest.raises(
        SpecError, match=r"layer 'a b': unknown layer type|layer 'a b': type: unknown"
    ) as raised:
        parse_net('layer: [{name: "a\\r\\n\\u2028b", type: None}]')
    assert len(str(raised.value).splitlines()) == 1

"""No command writes over a file that it reads; a name that no file can have is one line, wherever it is given."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.classify.images import load_image
from minicaffe.cli.program import main
from minicaffe.data.sources.backends import open_source
from minicaffe.data.sources.lmdb_writer import write_lmdb
from minicaffe.errors import MinicaffeError, SpecError, WriteError
from minicaffe.files.atomic import atomic_write, make_folder, refuse_overwriting
from minicaffe.spec.net import parse_net
from tests.golden_files import FOLDER

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

CAFFE = FOLDER / "caffe"
NET = """
layer:
- {name: data, type: Data, top: [data, label], data_param: {source: images.npz, batch_size: 2},
   transform_param: {mean_file: mean.npz}}
- {name: conv, type: Convolution, bottom: data, convolution_param: {num_output: 3, kernel_size: 3}}
- {name: bn, type: BatchNorm, bottom: conv}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 4}, low_rank_param: {rank: 2}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
- {name: accuracy, type: Accuracy, bottom: [ip, label], include: {phase: TEST}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A net with its weights, data and mean, and a net of Caffe: all that the commands read."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    np.savez("images.npz", data=rng.random((8, 1, 6, 6)), label=np.arange(8) % 4)
    np.savez("mean.npz", mean=np.zeros((1, 6, 6)))
    (tmp_path / "net.yaml").write_text(NET)
    net = mc.Net("net.yaml", phase="test")
    net.save("weights.npz")
    net.save("net.npz")
    net.close()
    for name in ("current.prototxt", "current.caffemodel"):
        (tmp_path / name).write_bytes((CAFFE / name).read_bytes())
    model = mc.Net("current.prototxt", phase="test", weights="current.caffemodel")
    model.save("current.npz")
    (tmp_path / "link.npz").symlink_to("weights.npz")
    return tmp_path


FOLD = ["fold", "net.yaml", "--weights"]
LOW = ["--weights", "weights.npz", "--calibration", "1"]
COMMANDS = {
    "fold over both": ([*FOLD, "net.npz", "-o", "net.yaml"], "net.yaml: would be written over the net.yaml"),
    "fold over the weights": ([*FOLD, "weights.npz", "-o", "weights.yaml"], "weights.npz: would be written over"),
    "fold over a link": ([*FOLD, "weights.npz", "-o", "link.yaml"], "link.npz: would be written over the weights"),
    "fold by another path": ([*FOLD, "weights.npz", "-o", "./x/../weights.yaml"], "would be written over the"),
    "fold over the data": ([*FOLD, "weights.npz", "-o", "images.yaml"], "would be written over the images.npz"),
    "fold over the mean": ([*FOLD, "weights.npz", "-o", "mean.yaml"], "would be written over the mean.npz"),
    "export over both": (["export", "current.prototxt", "current.caffemodel", "-o", "."],
                         "current.prototxt: would be written over the current.prototxt"),
    "convert over the weights": (["convert", "current.prototxt", "current.npz", "-o", "."],
                                 "current.npz: would be written over the current.npz"),
    "convert over the mean": (["convert", "current.prototxt", "--mean", "mean.npz", "-o", "."],
                              "mean.npz: would be written over the mean.npz"),
    "apply over the weights": (["lowrank", "apply", "net.yaml", *LOW, "-o", "weights.npz"], "weights.npz: would"),
    "apply over the data": (["lowrank", "apply", "net.yaml", *LOW, "-o", "images.npz"], "images.npz: would be"),
    "select over the data": (["lowrank", "select", "net.yaml", *LOW, "--flops", "0.5", "-o", "images.yaml"],
                             "images.npz: would be"),
    "lmdb over the data": (["data", "lmdb", "images.npz", "-o", "images.npz"], "images.npz: already exists"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), COMMANDS.values(), ids=COMMANDS)
def test_no_command_writes_over_what_it_reads(folder, capsys, arguments, message):
    (folder / "x").mkdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_conversion_may_be_done_again_beside_the_net(folder, capsys):
    (folder / "current.npz").unlink()
    for _ in range(2):
        assert main(["convert", "current.prototxt", "current.caffemodel", "-o", "."]) == 0


NAMES = {"a zero": "a\0b", "half a letter": "a\ud800", "too long": "a" * 5000}
READERS = {
    "net": lambda name: mc.Net(f"{name}.yaml"),
    "prototxt": lambda name: mc.Net(f"{name}.prototxt"),
    "caffemodel": lambda name: mc.Net(f"{name}.caffemodel"),
    "weights": lambda name: mc.Net("net.yaml", weights=name),
    **{
        f"weights{ending}": lambda name, ending=ending: mc.Net("net.yaml", weights=name + ending)
        for ending in (".npz", ".caffemodel", ".caffemodel.h5")
    },
    "solver": lambda name: mc.Solver(f"{name}.yaml"),
    "image": lambda name: load_image(f"{name}.png"),
    "saved": lambda name: mc.Net("current.prototxt").save(f"{name}.npz"),
    "saved as Caffe's": lambda name: mc.Net("current.prototxt").save(f"{name}.caffemodel"),
    "in HDF5": lambda name: mc.Net("current.prototxt").save(f"{name}.caffemodel.h5"),
    "LMDB": lambda name: write_lmdb(open_source("images.npz"), name),
    "folder": lambda name: make_folder(mc.files.atomic.Path(name)),
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("case", NAMES)
def test_a_name_that_no_file_can_have_is_one_line(case, read):
    with pytest.raises(MinicaffeError, match=r"cannot be (read|written|made)|no such"):
        READERS[read](NAMES[case])


@pytest.mark.parametrize(
    "layer",
    [
        'name: "a\\0b", type: ReLU',
        'name: a, type: ReLU, top: "a\\0b"',
        'name: a, type: Data, top: [x, y], data_param: {source: "a\\0b", batch_size: 2}',
    ],
)
def test_a_name_in_a_spec_has_no_zero_character(layer):
    with pytest.raises(SpecError, match="which contains a NUL"):
        parse_net(f"layer: [{{{layer}}}]")


@pytest.mark.parametrize("case", NAMES)
def test_a_source_that_no_file_can_have_is_not_there(case):
    text = "layer: [{name: d, type: HDF5Data, top: x, hdf5_data_param: {source: S, batch_size: 1}}]"
    spec = parse_net(text)
    spec.layer[0].hdf5_data_param.source = NAMES[case]
    with pytest.raises(MinicaffeError, match="no such list of HDF5 files"):
        mc.Net(spec)


@pytest.mark.parametrize("case", NAMES)
def test_nothing_is_left_of_a_file_that_cannot_be_written(folder, case):
    before = sorted(folder.iterdir())
    with pytest.raises(WriteError), atomic_write(NAMES[case]) as file:
        file.write(b"x")
    assert sorted(folder.iterdir()) == before


def test_no_file_is_written_beside_a_device():
    with pytest.raises(WriteError, match="/dev/null: not a file, and others are written beside it"):
        refuse_overwriting(["/dev/null", "/dev/null.npz"], [])
    refuse_overwriting(["/dev/null"], [])

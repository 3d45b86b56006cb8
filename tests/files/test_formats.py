"""A format of specs or weights that enters its table is opened, and written, wherever the others are."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

import minicaffe as mc
from minicaffe.errors import SpecError, WeightError
from minicaffe.files import spec_formats, weight_formats
from minicaffe.files.spec_formats import SpecFormat, open_net, open_solver, register_spec_format
from minicaffe.files.weight_formats import WeightFormat, open_weights, register_weight_format
from minicaffe.files.weight_reader import WeightReader

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

NET = """name: n
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 3]}}}
- {name: y, type: InnerProduct, inner_product_param: {num_output: 2, weight_filler: {type: xavier}}}
"""


class JsonReader(WeightReader):
    """Arrays as lists, after a first line ``WEIGHTS``."""

    def __init__(self, path):
        super().__init__(path)
        self._lists = json.loads(path.read_text().partition("\n")[2])
        self.shapes = {name: np.shape(values) for name, values in self._lists.items()}

    def _array(self, key):
        return np.array(self._lists[key], np.float32)


def write_json(net, path):
    path.write_text("WEIGHTS\n" + json.dumps({key: array.tolist() for key, array in net.arrays().items()}))


def node_of_bytes(text, path):
    return yaml.compose(Path(path).read_bytes().removeprefix(b"\0BIN"), Loader=yaml.SafeLoader)


def node_of_text(text, path):
    return yaml.compose(text.removeprefix("!net\n"), Loader=yaml.SafeLoader)


@pytest.fixture(autouse=True)
def formats():
    tables = (spec_formats._formats, weight_formats._formats)
    lengths = [len(table) for table in tables]
    register_weight_format(WeightFormat(".json", (b"WEIGHTS",), JsonReader, write_json))
    register_spec_format(SpecFormat("binary", (".bin",), net=node_of_bytes, starts=(b"\0BIN",)))
    register_spec_format(SpecFormat("marked", (".mark",), net=node_of_text, sign=re.compile("^!net$", re.M)))
    yield
    for table, length in zip(tables, lengths, strict=True):
        del table[length:]


@pytest.fixture
def net(tmp_path):
    (tmp_path / "n.yaml").write_text(NET)
    return mc.Net(tmp_path / "n.yaml")


def test_weights_are_written_by_their_ending_and_read_by_it_or_by_their_first_bytes(net, tmp_path):
    net.save(tmp_path / "w.json")
    (tmp_path / "w").write_bytes((tmp_path / "w.json").read_bytes())
    for name in ("w.json", "w"):
        other = mc.Net(tmp_path / "n.yaml", weights=tmp_path / name)
        np.testing.assert_array_equal(other.params["y"][0].data, net.params["y"][0].data)


def test_an_error_names_all_formats_of_weights(tmp_path):
    (tmp_path / "w").write_text("none of them")
    with pytest.raises(
        WeightError, match=r"expected weights \(\.npz, \.caffemodel, \.caffemodel\.h5 or \.json\)"
    ):
        open_weights(tmp_path / "w")


@pytest.mark.parametrize("start", [b"\0BIN", b"!net\n"], ids=["first bytes", "sign"])
def test_a_spec_is_told_by_its_first_bytes_or_by_its_sign_whatever_its_name(tmp_path, start):
    (tmp_path / "n.yaml").write_bytes(start + NET.encode())
    assert [layer.name for layer in open_net(tmp_path / "n.yaml").layer] == ["data", "y"]


@pytest.mark.parametrize("name", ["n.bin", "n.mark"])
def test_a_format_without_solvers_has_none(tmp_path, name):
    (tmp_path / name).write_text("!net\n" + NET)
    with pytest.raises(SpecError, match="a solver spec is YAML, prototxt or marked"):
        open_solver(tmp_path / name)

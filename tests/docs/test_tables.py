"""The tables of the documentation have a row for everything that there is, and for nothing else."""

import argparse
import re

import pytest

import minicaffe as mc
from minicaffe.caffe.formats.layer_types import RELEASE_1_0, SINCE_1_0
from minicaffe.cli.parser import make_parser
from minicaffe.core.fillers import FILLERS
from minicaffe.core.layer import layer_classes
from minicaffe.data.augmentation.distortion import DistortionParam
from minicaffe.data.augmentation.expansion import ExpansionParam
from minicaffe.data.augmentation.noise import NoiseParam
from minicaffe.data.augmentation.resizing import ResizeParam
from minicaffe.data.augmentation.sampling import BatchSampler
from minicaffe.data.sources.source import BACKENDS
from minicaffe.data.transformer import TransformParam
from minicaffe.layers.annotated_data import AnnotatedDataParam
from minicaffe.layers.data import DataParam
from minicaffe.low_rank.param import LowRankParam
from minicaffe.spec.net import LayerSpec, NetSpec
from minicaffe.spec.solver import SolverSpec
from minicaffe.train.lr_policy import policies
from minicaffe.train.solvers.rule import update_rules
from tests.docs.layer_rows import cells
from tests.docs.pages import PAGES, ROOT, blocks_of, table_rows
from tests.golden_files import FOLDER, types_recorded_of_forks

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

DOCS = ROOT / "docs"
RECORDED_AS_FILES = {"HDF5Output", "WindowData"}  # tests/golden/hdf5_output.h5, windows.npz
OURS = sorted(name for name, cls in layer_classes.items() if cls.__module__.startswith("minicaffe."))


def names_in(cells):
    """All that stands between backticks in the cells."""
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def first_cells(page, heading):
    return [row[0] for row in table_rows(page, heading)]


def origin(layer_type):
    """What the last column of docs/layers.md says, or how it ends for a type of a fork."""
    recorded = (FOLDER / "layers" / f"{layer_type}.npz").exists() or layer_type in RECORDED_AS_FILES
    if layer_type in SINCE_1_0:
        assert recorded
        return "Caffe master"
    if layer_type in RELEASE_1_0:
        return "Caffe 1.0" if recorded else "Caffe 1.0 ¹"
    return " ³" if layer_type in types_recorded_of_forks() else " ²"


LAYER_ROWS = {row[0]: row for row in table_rows(DOCS / "layers.md", "# Layers")}


@pytest.mark.parametrize("layer_type", OURS)
def test_layers_md_has_every_type_with_its_formula_its_fields_its_file_and_its_origin(layer_type):
    expected = cells(layer_type)
    assert layer_type in LAYER_ROWS, f"docs/layers.md lacks the row | {' | '.join(expected)} | … |"
    assert LAYER_ROWS[layer_type][:4] == expected, "python -m tests.docs.layer_rows writes the rows anew"
    last = LAYER_ROWS[layer_type][4]
    assert last == origin(layer_type) or (
        origin(layer_type) in (" ²", " ³") and last.endswith(origin(layer_type))
    )


def test_layers_md_has_no_type_that_is_not_there():
    assert sorted(LAYER_ROWS) == OURS


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("### `transform_param`", TransformParam.fields),
        ("### `resize_param`", ResizeParam.fields),
        ("### `noise_param`", NoiseParam.fields),
        ("### `annotated_data_param`", AnnotatedDataParam.fields),
        ("### Learning rates", policies),
        ("### Update rules", update_rules),
        ("## Fillers", FILLERS),
    ],
)
def test_specs_md_has_a_row_for_each_name(heading, names):
    cells = first_cells(DOCS / "specs.md", heading)
    assert sorted(names_in(cells) or cells) == sorted(names)


def test_specs_md_has_every_field_of_a_net_and_of_a_layer():
    rows = names_in(row[0] for row in table_rows(DOCS / "specs.md", "## A net") if row[0].startswith("`"))
    messages = (TransformParam, ResizeParam, DataParam, AnnotatedDataParam)
    messages += (NoiseParam, DistortionParam, ExpansionParam, BatchSampler)
    subsections = {name for message in messages for name in message.fields}
    assert set(rows) == {*NetSpec.fields, *LayerSpec.fields, *subsections}


def test_specs_md_has_every_format_of_data():
    cells = first_cells(DOCS / "specs.md", "### `data_param`")
    assert {cell for cell in cells if not cell.startswith("`")} == set(BACKENDS)


def test_specs_md_has_every_field_of_a_solver():
    rows = table_rows(DOCS / "specs.md", "## A solver")
    assert set(names_in(row[0] for row in rows)) == set(SolverSpec.fields)


def test_low_rank_md_has_every_field_of_low_rank_param():
    cells = first_cells(DOCS / "low_rank.md", "## `low_rank_param`")
    assert names_in(cells) and sorted(names_in(cells)) == sorted(LowRankParam.fields)


def test_python_md_has_every_public_name():
    rows = table_rows(DOCS / "python.md", "# From Python")
    told = {name.removeprefix("mc.") for row in rows for name in names_in(row) if name.startswith("mc.")}
    assert {name for name in told if name.isidentifier()} == set(mc.__all__)


def commands():
    """Each command with its parser: "train", "lowrank select", …"""

    def below(parser, name):
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not groups:
            return {name: parser}
        return {
            key: value
            for word, sub in groups[0].choices.items()
            for key, value in below(sub, f"{name} {word}".strip()).items()
        }

    return below(make_parser(), "")


COMMANDS = commands()
FLAGS = {flag for parser in COMMANDS.values() for action in parser._actions for flag in action.option_strings}
NOT_OURS = {  # flags of other programs that the pages name
    *("--device", "--gpus", "--solver", "--mtcnn", "--mnist", "--caffe", "--drops", "--rounds", "--write"),
    *(
        "--check",
        "--strict",
        "--fix",
        "--dist",
        "--errors",
        "--quick",
        "--only",
        "--mode",
        "--peers",
        "--window",
    ),
    *("--nets", "--faster", "--double", "--iterations", "--seeds", "--signal", "--mpi"),
}


def test_cli_md_has_every_command_in_its_table():
    assert sorted(names_in(first_cells(DOCS / "cli.md", "# Commands")[: len(COMMANDS)])) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_cli_md_has_an_example_of_every_command(name):
    text = "".join(block.text for block in blocks_of(DOCS / "cli.md") if block.language == "sh")
    assert re.search(rf"^minicaffe {name}\b", text, re.MULTILINE)


def test_every_flag_is_explained_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [flag for flag in sorted(FLAGS - {"-h", "--help", "--output"}) if f"{flag}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_no_flag_that_is_not_there(page):
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text(encoding="utf-8")))
    assert named - FLAGS - NOT_OURS == set()


def test_the_readme_names_every_extra():
    extras = re.search(
        r"optional-dependencies\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.DOTALL
    )[1]
    install = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Install\n")[2]
    named = {*names_in([install]), *re.findall(r"\.\[([\w,]+)\]", install)}
    assert set(re.findall(r"^([\w-]+) = ", extras, re.MULTILINE)) - named == set()


def test_models_and_nets_are_listed():
    models = {path.name for path in (ROOT / "models").glob("*.npz")}
    assert {row[0] for row in table_rows(ROOT / "models" / "README.md", "# Trained weights")} == models
    nets = {path.name for path in (ROOT / "prototxt").iterdir() if path.is_dir() and any(path.glob("*.yaml"))}
    rows = table_rows(ROOT / "prototxt" / "README.md", "# The nets")
    assert {row[0].partition("/")[0] for row in rows} == nets

"""What docs/security.md promises: what a stranger's spec may do, and what is imported and written for it."""

import argparse
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.bench import journal_of
from minicaffe.cli.flags import trusting
from minicaffe.cli.parser import make_parser
from minicaffe.cli.program import main
from minicaffe.core import layer
from minicaffe.spec import net as net_specs
from minicaffe.spec.net import parse_net
from minicaffe.spec.trust import SAFE, Trust, current, limited
from tests import ROOT
from tests.train.training import write_job

DEPLOY, WEIGHTS = ROOT / "prototxt" / "lenet" / "deploy.yaml", ROOT / "models" / "lenet.npz"
MODULE = """
open("code_has_run", "w").close()
import minicaffe

@minicaffe.register_layer
class Same(minicaffe.Layer):
    bottoms = tops = (0, None)
    def reshape(self, bottom, top):
        for x, y in zip(bottom, top):
            y.reshape(*x.shape)
    def forward(self, bottom, top):
        for x, y in zip(bottom, top):
            y.data[...] = x.data
    def backward(self, top, propagate_down, bottom):
        pass
"""
NET = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}
- {name: own, type: Python, bottom: x, top: y, python_param: {module: own_layers, layer: Same}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 2}}
"""
PROTOTXT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "own" type: "Python" bottom: "x" top: "y"
        python_param { module: "own_layers" layer: "Same" } }
layer { name: "ip" type: "InnerProduct" bottom: "y" top: "ip" inner_product_param { num_output: 2 } }
"""
RAN = Path("code_has_run")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a net that names a module of Python. What it imports is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_layers.py").write_text(MODULE)
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "net.prototxt").write_text(PROTOTXT)
    np.savez("w.npz", **{"ip/0": np.ones((2, 3), np.float32), "ip/1": np.zeros(2, np.float32)})
    yield tmp_path
    for name in ("own_layers", "broken"):
        sys.modules.pop(name, None)
    forget_type("Same")


def forget_type(name):
    layer.layer_classes.pop(name, None)
    net_specs._layer_specs.pop(name, None)


# -- modules that a spec names -----------------------------------------------------------------------------

DATA_ONLY = {
    "summary": ["summary", "net.yaml"],
    "export": ["export", "net.yaml", "w.npz", "-o", "out"],
    "onnx": ["export", "net.yaml", "w.npz", "-o", "out", "--format", "onnx"],
}


@pytest.mark.parametrize("command", DATA_ONLY.values(), ids=DATA_ONLY)
def test_a_command_that_looks_at_a_net_runs_no_code_that_it_names(command, folder, capsys):
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: net.yaml:3: layer 'own': python_param.module: 'own_layers' (own_layers.py) is"
    )
    assert error.endswith("if you trust it, add --allow-python\n") and error.count("\n") == 1
    assert not RAN.exists() and "own_layers" not in sys.modules and not Path("out").exists()


@pytest.mark.parametrize("name", ["''", "..", "a/b", "../own_layers", "no.such.module", '"a\\0b"', "a b"])
def test_odd_names_of_modules_are_one_line_with_and_without_leave(name, folder, capsys):
    Path("net.yaml").write_text(NET.replace("own_layers", name))
    for more in ([], ["--allow-python"]):
        assert main(["summary", "net.yaml", *more]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: net.yaml:3: layer 'own': python_param.module: ")
        assert error.count("\n") == 1
    assert not RAN.exists()


def test_it_runs_the_code_where_the_user_allows_it(folder, capsys):
    assert main(["summary", "net.yaml", "--allow-python"]) == 0
    assert RAN.exists()
    assert f"Importing own_layers from {folder}/own_layers.py" in capsys.readouterr().out


def test_convert_writes_a_net_whose_code_it_does_not_run(folder, capsys):
    assert main(["convert", "net.prototxt", "-o", "out"]) == 0
    net = mc.Net("out/net.yaml", phase="test")  # in a program, which may run it
    net.save("net.caffemodel")
    RAN.unlink()
    del sys.modules["own_layers"]
    assert main(["convert", "net.prototxt", "net.caffemodel", "-o", "out"]) == 0
    output = capsys.readouterr().out
    assert "The weights are not checked against the net" in output and "--allow-python" in output
    assert not RAN.exists()
    np.testing.assert_array_equal(np.load("out/net.npz")["ip/0"], net.params["ip"][0].data)


def test_export_leaves_the_code_of_the_other_phase_alone(folder, capsys):
    Path("net.yaml").write_text(NET.replace("type: Python,", "type: Python, include: {phase: TRAIN},"))
    pooled = (
        "\n- {name: p, type: Pooling, bottom: z, top: q, pooling_param: {kernel_size: 2, round_mode: FLOOR}}"
    )
    image = "\n- {name: z, type: Input, input_param: {shape: {dim: [1, 1, 4, 4]}}}"
    Path("net.yaml").write_text(Path("net.yaml").read_text().rstrip() + image + pooled + "\n")
    assert main(["export", "net.yaml", "w.npz", "-o", "out"]) == 0
    net = mc.Net("net.yaml", weights="w.npz", trusted=False)
    mc.export(net, "a.prototxt", "a.caffemodel")
    assert not RAN.exists()


def test_a_command_that_runs_a_net_says_whose_code_it_imports(folder, capsys):
    assert main(["time", "net.yaml", "--iterations", "1", "--device", "cpu"]) == 0
    output = capsys.readouterr().out
    assert f"Importing own_layers from {folder}/own_layers.py\n" in output and RAN.exists()


@pytest.mark.parametrize("is_loaded", [False, True], ids=["package is new", "package is loaded"])
def test_of_a_module_in_a_package_it_names_the_file_of_the_module(is_loaded, folder, monkeypatch, capsys):
    Path("own_package").mkdir()
    Path("own_package/__init__.py").write_text("")
    Path("own_layers.py").rename("own_package/layers.py")
    Path("net.yaml").write_text(NET.replace("own_layers", "own_package.layers"))
    if is_loaded:
        monkeypatch.syspath_prepend(str(folder))
        importlib.import_module("own_package")
    assert main(["time", "net.yaml", "--iterations", "1", "--device", "cpu"]) == 0
    assert f"Importing own_package.layers from {folder}/own_package/layers.py\n" in capsys.readouterr().out
    for name in ("own_package", "own_package.layers"):
        sys.modules.pop(name)


def test_the_page_names_all_commands_that_run_what_a_spec_names():
    allowed = {name for name, sub in subparsers(make_parser()).items() if sub.get_default("allow_python")}
    lines = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if "imported, since running the net is what" in line)
    assert allowed == set(re.findall("`([^`]+)`", row.split("|")[1]))


def test_a_command_without_a_word_on_it_takes_specs_as_data():
    with trusting(argparse.Namespace()):
        assert current() == SAFE
    assert current() == Trust()


def subparsers(parser):
    """The parsers of all commands, by name."""
    found = {}
    for action in parser._actions:
        for sub in (getattr(action, "choices", None) or {}).values() if action.nargs == "A..." else ():
            found.update(subparsers(sub) or {sub.prog.partition(" ")[2]: sub})
    return found


def test_a_program_runs_modules_unless_it_says_not_to(folder):
    with pytest.raises(mc.SpecError, match="is code, and code is not run here"):
        mc.Net("net.yaml", trusted=False)
    assert not RAN.exists()
    x = np.ones((2, 3))
    assert mc.Net("net.yaml").forward(x=x)["ip"].shape == (2, 2)


# -- what is imported --------------------------------------------------------------------------------------


def planted(folder, *names):
    """A folder with a file for each module, which tells of its import."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.py").write_text(f"open('run_{name}', 'w').close()\n")
    return folder


def outcome(command, cwd, **variables):
    """The output of a program, and the names of the planted files that have run."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True)
    return done.stdout + done.stderr, sorted(path.name for path in cwd.glob("run_*"))


OPTIONAL = ["onnx", "h5py", "lmdb", "google", "matplotlib", "cupy", "threadpoolctl", "torch", "cv2"]
EARLY = ["numpy", "yaml", "PIL", "pathlib", "__future__", "argparse", "logging", "minicaffe_plugin"]


@pytest.mark.cpu_only("a program of its own")
@pytest.mark.parametrize("program", ["minicaffe", "minicaffe.cli"])
def test_a_folder_full_of_modules_runs_none_of_them_under_python_m(program, tmp_path):
    pytest.importorskip("onnx")
    folder = planted(tmp_path / "downloaded", *OPTIONAL, *EARLY)
    command = ["export", str(DEPLOY), str(WEIGHTS), "-o", "out", "--format", "onnx"]
    output, ran = outcome(["-m", program, *command], folder)
    assert "Wrote out/deploy.onnx" in output, output
    assert ran == []


@pytest.mark.cpu_only("a program of its own")
def test_a_folder_full_of_modules_runs_none_of_them_under_the_script(tmp_path):
    pytest.importorskip("onnx")
    folder = planted(tmp_path / "downloaded", *OPTIONAL, *EARLY)
    script = tmp_path / "bin" / "minicaffe"  # as pip writes it
    script.parent.mkdir()
    script.write_text("import sys\nfrom minicaffe.cli.program import main\nsys.exit(main())\n")
    command = ["export", str(DEPLOY), str(WEIGHTS), "-o", "out", "--format", "onnx"]
    output, ran = outcome([str(script), *command], folder)
    assert "Wrote out/deploy.onnx" in output, output
    assert ran == []


@pytest.mark.cpu_only("a program of its own")
def test_a_module_of_the_users_gets_the_installed_packages_and_its_own_neighbours(tmp_path):
    pytest.importorskip("h5py")
    folder = planted(tmp_path / "downloaded", "h5py", "yaml")
    (folder / "own_layers.py").write_text(
        "import h5py, yaml, neighbour\nh5py.File, yaml.YAMLError\n" + MODULE
    )
    (folder / "neighbour.py").write_text("")
    (folder / "net.yaml").write_text(NET)
    output, ran = outcome(["-m", "minicaffe", "summary", "net.yaml", "--allow-python"], folder)
    assert "own  " in output and ran == [], output
    output, ran = outcome(["-m", "minicaffe", "summary", "downloaded/net.yaml", "--allow-python"], tmp_path)
    assert "own  " in output and ran == [], output


@pytest.mark.cpu_only("a program of its own")
def test_an_installed_package_without_an_init_comes_before_a_file_of_its_name(tmp_path):
    """As google is, of google.protobuf: Python itself prefers a module further down ``sys.path``."""
    installed = tmp_path / "installed" / "spacious" / "inner.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    folder = planted(tmp_path / "downloaded", "spacious")
    (folder / "own_layers.py").write_text("import spacious.inner\n" + MODULE)
    (folder / "net.yaml").write_text(NET)
    script = (
        "import sys; sys.path[0] = sys.argv.pop(); from minicaffe.cli.program import main; main(sys.argv[1:])"
    )
    command = ["summary", "net.yaml", "--allow-python", str(tmp_path / "installed")]
    output, ran = outcome(["-c", script, *command], folder)
    assert "own  " in output and ran == [], output


@pytest.mark.cpu_only("a program of its own")
def test_a_script_for_pycaffe_still_finds_what_lies_beside_it(tmp_path):
    pytest.importorskip("google.protobuf")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "beside.py").write_text("name = 'beside'\n")
    (tmp_path / "scripts" / "script.py").write_text(
        "import sys, beside, caffe\nprint(beside.name, sys.path[0])\n"
    )
    output, _ = outcome(["-m", "minicaffe.pycaffe", "scripts/script.py"], tmp_path)
    assert output == f"beside {tmp_path / 'scripts'}\n"


def test_the_module_beside_the_spec_is_taken_then_that_of_the_working_directory(folder, monkeypatch, capsys):
    for name in ("installed", "nets"):
        Path(name).mkdir()
        Path(name, "own_layers.py").write_text(MODULE)
        Path(name, "net.yaml").write_text(NET)
    monkeypatch.syspath_prepend("installed")
    for place in ("nets", ".", "installed"):
        sys.modules.pop("own_layers", None)
        assert main(["summary", "nets/net.yaml", "--allow-python"]) == 0
        found = (folder / place / "own_layers.py").resolve()
        assert f"Importing own_layers from {found}\n" in capsys.readouterr().out
        found.unlink()


def test_a_commands_import_path_is_as_it_was(folder):
    before = list(sys.path)
    main(["summary", "net.yaml", "--allow-python"])
    assert sys.path == before and str(folder) not in sys.path and "" not in sys.path[len(before) :]


# -- --import ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["own_layers", "./own_layers.py", "own_layers.py"])
def test_import_makes_the_users_layer_types_known(given, folder, capsys):
    Path("same.yaml").write_text(NET.replace("type: Python", "type: Same").replace(
        ", python_param: {module: own_layers, layer: Same}", ""))  # fmt: skip
    assert main(["summary", "same.yaml"]) == 2
    error = capsys.readouterr().err
    assert "unknown layer type 'Same'" in error and "type: Python" in error and "--import MODULE" in error
    assert main(["summary", "same.yaml", "--import", given]) == 0


@pytest.mark.parametrize(
    ("given", "problem"),
    [("nothing_here", "no module 'nothing_here' in"), ("broken.py", "importing 'broken' fails: SyntaxError")],
)
def test_a_module_that_cannot_be_imported_is_one_line(given, problem, folder, capsys):
    Path("broken.py").write_text("def")
    assert main(["summary", "net.yaml", "--import", given]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --import {given}: {problem}") and error.count("\n") == 1


# -- files that a spec names for reading -------------------------------------------------------------------

ONE = "batch_size: 1"
READERS = {
    "images": f"type: ImageData, image_data_param: {{source: SOURCE, {ONE}}}",
    "hdf5": f"type: HDF5Data, hdf5_data_param: {{source: SOURCE, {ONE}}}",
    "windows": f"type: WindowData, window_data_param: {{source: SOURCE, {ONE}}}, transform_param: {{crop_size: 2}}",
    "data": f"type: Data, data_param: {{source: SOURCE, {ONE}}}",
    "mean": f"type: Data, data_param: {{source: sample/mnist-test, {ONE}}}, transform_param: {{mean_file: SOURCE}}",
}


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="POSIX devices")
@pytest.mark.parametrize("place", ["/dev/zero", "link", "pipe"])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_spec_cannot_have_a_device_or_a_pipe_read_which_have_no_end(reader, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink("/dev/zero", "link")
    os.mkfifo("pipe")
    layer = reader.replace("SOURCE", place)
    with pytest.raises(mc.DataError, match=f"{place}: a device or a pipe, but a .* is expected"):
        mc.Net(parse_net(f"layer: [{{name: d, top: [a, b], {layer}}}]"))


# -- files that a spec names for writing -------------------------------------------------------------------


def output_net(path):
    return f"""layer:
- {{name: d, type: DummyData, top: [d, l], dummy_data_param: {{shape: [{{dim: [2, 3]}}, {{dim: [2]}}]}}}}
- {{name: out, type: HDF5Output, bottom: [d, l], hdf5_output_param: {{file_name: '{path}'}}}}
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory, "here", a spec's, "nets", and one that is nobody's business, "away"."""
    pytest.importorskip("h5py")
    for name in ("here", "nets", "away"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def time_of(spec, *more):
    return main(["time", str(spec), "--iterations", "1", "--device", "cpu", *more])


@pytest.mark.parametrize("place", ["../away/out.h5", "{root}/away/out.h5", "link/out.h5", "link.h5"])
def test_a_spec_writes_no_file_outside_the_working_directory_and_its_folder(place, elsewhere, capsys):
    os.symlink("../away", "link")
    os.symlink("../away/out.h5", "link.h5")
    Path("net.yaml").write_text(output_net(place.format(root=elsewhere)))
    assert time_of("net.yaml") == 2
    error = capsys.readouterr().err
    assert "net.yaml:3: layer 'out': hdf5_output_param.file_name: '" in error and error.count("\n") == 1
    assert error.endswith(f"allow its folder with --allow-output {elsewhere}/away\n")
    assert list((elsewhere / "away").iterdir()) == []
    assert time_of("net.yaml", "--allow-output", str(elsewhere / "away")) == 0
    assert (elsewhere / "away" / "out.h5").exists()


@pytest.mark.parametrize("name", ["a\\0b", "\\ud800"])
def test_a_name_that_no_file_can_have_is_one_line(name, elsewhere, capsys):
    Path("net.yaml").write_text(output_net("NAME").replace("'NAME'", f'"{name}"'))
    assert time_of("net.yaml") == 2
    error = capsys.readouterr().err
    assert "file_name: expected a name or text" in error and error.count("\n") == 1
    with pytest.raises(mc.SpecError, match="expected a name or text"):
        mc.Net("net.yaml").forward()
    solver = write_job(Path())
    solver.write_text(solver.read_text().replace("snap/run", f'"{name}"'))
    assert main(["train", "solver.yaml", "--device", "cpu"]) == 2


@pytest.mark.parametrize("place", [".bash_profile", ".git/hooks/x.h5", "link.h5"])
def test_a_spec_writes_no_hidden_file(place, elsewhere, capsys):
    os.makedirs(".git/hooks")
    os.symlink(".bash_profile", "link.h5")
    Path("net.yaml").write_text(output_net(place))
    assert time_of("net.yaml") == 2
    assert "or is hidden there" in capsys.readouterr().err
    assert not Path(place).exists()
    assert time_of("net.yaml", "--allow-output", ".git/hooks") == (0 if "hooks" in place else 2)


@pytest.mark.parametrize("place", ["out.h5", "sub/../out.h5", "{root}/nets/out.h5", "../nets/out.h5"])
def test_a_spec_may_write_into_the_working_directory_and_its_own_folder(place, elsewhere):
    Path("sub").mkdir()
    spec = elsewhere / "nets" / "net.yaml"
    spec.write_text(output_net(place.format(root=elsewhere)))
    assert time_of(spec) == 0
    assert Path(place.format(root=elsewhere)).exists()


def test_a_program_may_write_anywhere_unless_it_says_not_to(elsewhere):
    spec = parse_net(output_net(elsewhere / "away" / "out.h5"))
    with pytest.raises(mc.SpecError, match="lies outside"):
        mc.Net(spec, trusted=False).forward()
    mc.Net(spec).forward()
    assert (elsewhere / "away" / "out.h5").exists()


def test_the_journal_of_a_search_is_not_appended_to_what_a_link_leads_to(elsewhere, capsys):
    Path("net.yaml").write_text(NET)
    Path("w.npz").write_bytes(WEIGHTS.read_bytes())
    os.symlink("../away/.bashrc", "low.journal.jsonl")
    given = argparse.Namespace(
        net="net.yaml",
        weights="w.npz",
        batches=1,
        calibration=1,
        layers=None,
        symmetric=False,
        without=[],
        accuracy=None,
    )
    with limited(SAFE), pytest.raises(mc.WriteError, match=r"journal .*away/.bashrc, which lies outside"):
        journal_of(given, Path("low.yaml"), batches=[])


@pytest.mark.parametrize("prefix", ["{root}/away/run", "../away/run", "link/run", "logged"])
def test_snapshots_outside_the_working_directory_and_the_solvers_folder_need_leave(prefix, elsewhere, capsys):
    solver = write_job(Path())
    os.symlink("../away", "link")
    os.symlink(
        "../away/startup.sh", "logged.log.jsonl"
    )  # a log is appended to: names in a spec would get there
    prefix = prefix.format(root=elsewhere)
    text = solver.read_text()
    assert "snap/run" in text
    solver.write_text(text.replace("snap/run", prefix))
    assert main(["train", "solver.yaml", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "solver.yaml:" in error and "snapshot_prefix: '" in error and "--allow-output" in error
    assert list((elsewhere / "away").iterdir()) == []
    assert main(["train", "solver.yaml", "--device", "cpu", "--allow-output", "../away"]) == 0
    assert list((elsewhere / "away").iterdir())
    solver.write_text(solver.read_text().replace("max_iter: 40", "max_iter: 4"))
    mc.Solver(solver).close()  # a program of the user's

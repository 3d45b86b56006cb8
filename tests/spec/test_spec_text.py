"""The kind of a spec file follows from its contents, not its name; only its comments may be other than UTF-8."""

import shutil

import numpy as np
import pytest

import minicaffe as mc
import minicaffe.pycaffe as caffe
from minicaffe.caffe.formats.specs import CAFFEMODEL, PROTOTXT
from minicaffe.cli.program import main
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import YAML, open_net, open_solver, read_spec, read_yaml
from minicaffe.spec.edit import set_layer_fields
from tests.golden_files import FOLDER

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

NET = 'name: "n"\nlayer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
LAYER = (
    'layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }\n'
)
PROTOTXTS = {
    "a net": NET,
    "brackets on lines of their own": NET.replace("layer {", "layer\n{"),
    "no spaces": NET.replace(" {", "{"),
    "angles": 'name: "n" layer < name: "x" type: "Input" >',
    "a comment like YAML": "# layer:\n# - name: x\n" + NET,
    "a text like YAML": 'name: "- a: {b: 1}, layer:"\n' + NET.split("\n")[1],
    "a solver": 'net: "train.pt"\nbase_lr: 0.1\nlr_policy: "step"\nstepsize: 3\ngamma: 0.1\n',
    "only values": "input: 'data'\ninput_dim: 1\ninput_dim: 3\n",
}
YAMLS = {
    "a net": "name: n\nlayer:\n- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}\n",
    "indented": "layer:\n  - name: x\n    type: Input\n",
    "a comment like prototxt": "# layer { name: 'x' }\nlayer: # layers {\n- name: x\n",
    "a flow list": "layer: [{name: x, type: Input}]",
    "JSON": '{"layer": [{"name": "x", "type": "Input"}]}',
    "an anchor": "layer:\n- &a {name: x, type: Input}\n- <<: *a\n  name: y\n",
    "a document": "---\nname: n\n",
    "a block of text": "layer:\n- name: x\n  python_param:\n    param_str: |\n      layer { a }\n",
    "a solver": "net: train.txt\nbase_lr: 0.1\nlr_policy: fixed\n",
}


@pytest.mark.parametrize("ending", ["yaml", "prototxt", "pt", "prototxt.txt", "caffe"])
@pytest.mark.parametrize("case", [k for k in PROTOTXTS if k not in ("a solver", "only values")])
def test_prototxt_is_told_by_its_brackets(tmp_path, case, ending):
    path = tmp_path / f"net.{ending}"
    path.write_text(PROTOTXTS[case])
    assert read_spec(path) == (PROTOTXT, PROTOTXTS[case])


@pytest.mark.parametrize("ending", ["yaml", "prototxt", "pt", "net"])
@pytest.mark.parametrize("case", [k for k in YAMLS if k != "a solver"])
def test_yaml_is_told_by_its_lists(tmp_path, case, ending):
    path = tmp_path / f"net.{ending}"
    path.write_text(YAMLS[case])
    assert read_spec(path) == (YAML, YAMLS[case])


def test_a_solver_without_a_sign_is_told_by_its_name_then_by_its_quotes(tmp_path):
    for text, ending, expected in [
        (PROTOTXTS["a solver"], "pt", PROTOTXT),
        (PROTOTXTS["only values"], "txt", PROTOTXT),
        (PROTOTXTS["a solver"], "prototxt", PROTOTXT),
        (PROTOTXTS["a solver"], "yaml", YAML),
        (YAMLS["a solver"], "txt", YAML),
        (YAMLS["a solver"], "yml", YAML),
    ]:
        path = tmp_path / f"solver.{ending}"
        path.write_text(text)
        assert read_spec(path)[0] == expected


def test_a_solver_that_names_nets_of_any_name_trains(tmp_path):
    data = (
        'layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 } } }\n'
        + LAYER
        + 'layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "y2" }'
    )
    data = data.replace('top: "x" dummy', 'top: "x" top: "y2" dummy').replace(
        "shape { dim: 2 dim: 3 }", "shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 }"
    )
    (tmp_path / "train.pt").write_text(data)
    (tmp_path / "test.txt").write_text(data)
    text = (
        'train_net: "train.pt"\ntest_net: "test.txt"\ntest_iter: 1\ntest_interval: 1\nbase_lr: 0.1\n'
        'lr_policy: "fixed"\nmax_iter: 2\n'
    )
    (tmp_path / "solver.pt").write_text(text)
    solver = mc.Solver(tmp_path / "solver.pt")
    solver.solve()
    assert solver.iter == 2 and len(solver.test_nets) == 1
    assert caffe.get_solver(tmp_path / "solver.pt").net.blobs["y"].data.shape == (2, 2)


def test_a_caffemodel_of_any_name_is_a_net_with_its_weights(tmp_path):
    pytest.importorskip("google.protobuf")
    shutil.copy(FOLDER / "caffe" / "current.caffemodel", tmp_path / "downloaded.bin")
    assert read_spec(tmp_path / "downloaded.bin") == (CAFFEMODEL, "")
    named = mc.Net(FOLDER / "caffe" / "current.caffemodel")
    net = mc.Net(tmp_path / "downloaded.bin")
    for name, blobs in named.params.items():
        np.testing.assert_array_equal(net.params[name][0].data, blobs[0].data)


def test_convert_takes_a_prototxt_of_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.prototxt.txt").write_text(NET + LAYER)
    assert main(["convert", "deploy.prototxt.txt", "-o", "out"]) == 0
    assert [layer.name for layer in open_net(tmp_path / "out" / "deploy.prototxt.yaml").layer] == ["x", "y"]


@pytest.mark.parametrize("opener", [open_net, open_solver, mc.Net, mc.Solver, caffe.get_solver, read_yaml])
def test_what_is_no_spec_says_what_it_is(tmp_path, opener):
    np.savez(tmp_path / "net.yaml", x=np.zeros(3))
    (tmp_path / "net.yaml.npz").rename(tmp_path / "net.yaml")
    (tmp_path / "net.pt").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "net.prototxt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "odd").write_bytes(bytes(range(200)))
    for name, said in [
        ("net.yaml", "holds weights alone, not a net"),
        ("net.pt", "holds weights alone, not a net"),
        ("net.prototxt", "is a PNG image"),
        ("odd", "not a text file"),
        ("x\0y", "cannot be read"),
        ("not there", "cannot be read"),
    ]:
        with pytest.raises(SpecError, match=said):
            opener(tmp_path / name)


def test_a_file_without_an_end_is_refused_before_memory_is_full(monkeypatch):
    monkeypatch.setattr("minicaffe.files.spec_formats.BINARY", __import__("re").compile(b"never"))
    with pytest.raises(SpecError, match="a text of more than 64 MiB; is it a spec"):
        open_net("/dev/zero")


@pytest.mark.parametrize("ending", ["prototxt", "yaml"])
def test_comments_may_have_bytes_that_are_not_utf8(tmp_path, ending):
    texts = {"prototxt": f"# na\xefve\n{NET} # caf\xe9", "yaml": f"# na\xefve\n{YAMLS['a net']}# caf\xe9\n"}
    (tmp_path / f"net.{ending}").write_bytes(texts[ending].encode("latin-1"))
    assert mc.Net(tmp_path / f"net.{ending}").blobs["x"].shape == (2, 3)


@pytest.mark.parametrize(
    "text",
    [
        NET.replace('"x"', '"caf\xe9"', 1),
        NET.replace("Input", "Inp\xfct"),
        NET.replace("shape", "sh\xe4pe", 1),
        YAMLS["a net"].replace("x,", "caf\xe9,"),
        YAMLS["a net"].replace("x,", '"caf\xe9 # no comment",'),
        YAMLS["a net"].replace("shape", "sh\xe4pe"),
    ],
    ids=["name", "type", "field", "YAML name", "YAML quoted name", "YAML field"],
)
def test_elsewhere_they_are_one_line(tmp_path, text):
    (tmp_path / "net").write_bytes(text.encode("latin-1"))
    with pytest.raises(
        SpecError, match=r"net:[23]: .*(UTF-8|cannot be read from|\\udce4|expected)"
    ) as caught:
        mc.Net(tmp_path / "net")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("net: n.yaml\nmax_iter 40\ndisplay: 1\n", 2),  # no colon
        ("name: 'n\nlayer:\n- name: x\n", 1),  # a quote, or a bracket, that nobody closes
        ("name: n\nlayer: [\n  {name: x\n", 3),
        ("name: n\nlayer:\n- name: x: y\n", 3),
    ],
)
def test_broken_yaml_is_told_by_the_line_that_is_wrong(text, line, tmp_path):
    (tmp_path / "n.yaml").write_text(text)
    with pytest.raises(SpecError, match=rf"n\.yaml:{line}: not valid YAML"):
        open_net(tmp_path / "n.yaml")


def test_an_edited_spec_keeps_the_bytes_of_its_comments(tmp_path):
    from minicaffe.files.atomic import write_text

    path = tmp_path / "net.yaml"
    path.write_bytes(b"layer:  # caf\xe9\n- {name: x, type: ReLU}  # na\xefve\n")
    write_text(path, set_layer_fields(read_yaml(path), {"x": {"low_rank_param": {"rank": 2}}}))
    assert path.read_bytes() == (
        b"layer:  # caf\xe9\n- {name: x, type: ReLU, low_rank_param: {rank: 2}}  # na\xefve\n"
    )

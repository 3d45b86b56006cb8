"""Training states that are damaged or made by hand: one line, and the solver is what it was before."""

import json

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.errors import DataError, TrainingError
from tests.golden_files import FOLDER
from tests.train.training import arrays_of

CAFFE = FOLDER / "caffe"
NET = """
layer:
- {name: data, type: Data, top: [data, label], data_param: {source: sample/mnist-train, batch_size: 2}}
- {name: ip, type: InnerProduct, bottom: data,
   inner_product_param: {num_output: 3, weight_filler: {type: xavier}}, low_rank_param: {rank: 2, refresh: 3}}
- {name: drop, type: Dropout, dropout_param: {dropout_ratio: 0.5}}
- {name: sum, type: Reduction, loss_weight: 1}
"""
SOLVER = """
net: net.yaml
type: Adam
base_lr: 0.01
lr_policy: fixed
random_seed: 1
test_iter: 1
test_interval: 1000
test_initialization: false
snapshot_prefix: run
"""


@pytest.fixture
def solver(tmp_path, monkeypatch):
    """A solver two iterations past its snapshot, ``run_iter_1.solverstate.npz``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "solver.yaml").write_text(SOLVER)
    solver = mc.Solver("solver.yaml")
    solver.step(1)
    solver.snapshot()
    solver.step(2)
    yield solver
    solver.close()


def all_of(solver):
    """All that a restore may change."""
    arrays = [blob.data for blobs in solver.net.params.values() for blob in blobs]
    arrays += [array for history in solver.history.values() for array in history]
    nets = [net.state_dict() for net in (solver.net, *solver.test_nets)]
    told = [mc.to_host(array).tobytes() for array in arrays]
    return told, repr(nets), solver.iter, solver.seed, [float(loss) for loss in solver.losses]


def change(path, edit):
    """Write a state again with its meta changed: in place, or to the text that ``edit`` returns."""
    arrays = arrays_of(path)
    meta = json.loads(str(arrays["meta"]))
    text = edit(meta)
    np.savez(path, **{**arrays, "meta": np.array(text if isinstance(text, str) else json.dumps(meta))})


def put(*place, value):
    """An edit that puts a value at a place of the meta."""

    def edit(meta):
        for name in place[:-1]:
            meta = meta[name]
        meta[place[-1]] = value

    edit.__name__ = f"{'.'.join(map(str, place))}={value!r:.20}"
    return edit


def deep(meta):
    return "[" * 100_000


def no_mapping(meta):
    return "[1, 2]"


def no_json(meta):
    return "{'iter': 1}"


EDITS = [
    deep,
    no_mapping,
    no_json,
    *(put("losses", value=value) for value in (["x"], [[]], [None], [True], {}, None)),
    *(put("iter", value=value) for value in (-1, True, 1.5, "1", 10**30)),
    *(put("seed", value=value) for value in (-1, 10**30, "1", None)),
    *(put("net", "seed", value=value) for value in (-1, 10**30, [], None)),
    *(
        put("weights", value=value)
        for value in ("", "\0", "a\0b", "\ud800", "../run_iter_1.npz", "x" * 5000, 1)
    ),
    *(put("net", "rng", value=value) for value in ({}, [], "x", {"state": None}, {"bit_generator": "SFC64"})),
    *(put("net", "rng", "state", "state", value=value) for value in ([1], [-1, 0, 0, 0], ["x"] * 4, None)),
    put("test_nets", 0, "rng", value={"state": 1}),
    *(put("net", "layers", value=value) for value in ([], None, {"data": 1})),
    *(put("net", "layers", "data", value={"next_batch": value}) for value in (-1, True, "1", None, 10**30)),
    *(put("test_nets", 0, "layers", "data", value={"next_batch": value}) for value in (-1, [])),
    *(put("net", "layers", "ip", value=value) for value in ({}, {"iteration": "x"}, {"iteration": -1})),
    put("test_nets", value=[]),
    put("test_nets", value=[None]),
    put("weights_crc32", value=1),
    put("format", value=2),
    put("type", value="SGD"),
]


@pytest.mark.cpu_only("a GPU's generator does not tell its state")
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_a_state_made_by_hand_is_one_line_and_changes_nothing(solver, tmp_path, edit):
    path = tmp_path / "run_iter_1.solverstate.npz"
    change(path, edit)
    before = all_of(solver)
    with pytest.raises((TrainingError, DataError)) as caught:
        solver.restore(path)
    told = str(caught.value)
    assert str(path) in told or "net.yaml:" in told or str(tmp_path) in told
    assert len(told) < 500
    assert all_of(solver) == before
    solver.step(1)


def test_a_history_of_other_things_than_numbers_changes_nothing(solver, tmp_path):
    path = tmp_path / "run_iter_1.solverstate.npz"
    arrays = arrays_of(path)
    key = next(key for key in reversed(arrays) if key.startswith("history/"))
    before = all_of(solver)
    np.savez(path, **{**arrays, key: np.full(arrays[key].shape, "x")})
    with pytest.raises(TrainingError, match="holds <U1, not numbers"):
        solver.restore(path)
    assert all_of(solver) == before


def test_a_layer_that_refuses_its_state_leaves_all_layers_and_weights_as_they_were(solver, monkeypatch):
    """Whatever its ``restore`` raises, as a user's own layer may."""
    before, last = all_of(solver), solver.net.layers[-1]
    monkeypatch.setattr(type(last), "state", lambda self: {"x": 1})
    solver.snapshot()
    told = all_of(solver)
    solver.step(2)
    after = all_of(solver)
    assert len({repr(x) for x in (before, told, after)}) == 3

    def refuse(self, state):
        if state != {"x": 1} or not refused:
            refused.append(state)
            raise ZeroDivisionError("of the layer")

    refused = []
    monkeypatch.setattr(type(last), "restore", refuse)
    with pytest.raises(
        TrainingError, match=r"run_iter_3.*: its contents cannot be understood \(of the layer\)"
    ):
        solver.restore("run_iter_3.solverstate.npz")
    assert all_of(solver) == after


@pytest.mark.parametrize("form", ["", ".h5"])
@pytest.mark.parametrize("damage", ["short history", "weights", "name"])
def test_a_state_of_caffe_that_does_not_fit_changes_nothing(tmp_path, monkeypatch, form, damage):
    pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "solver.prototxt").write_text(
        f"net: '{CAFFE / 'train.prototxt'}' type: 'SGD' base_lr: 0.1 lr_policy: 'fixed' momentum: 0.9"
    )
    solver = mc.Solver("solver.prototxt")
    solver.step(1)
    state = mc.caffe.formats.solverstate.read_state(CAFFE / f"SGD_iter_6.solverstate{form}")
    state.path = tmp_path / f"bad.solverstate{form}"
    weights = tmp_path / "w.caffemodel"
    weights.write_bytes(
        (CAFFE / "SGD_iter_6.caffemodel").read_bytes()[: -100 if damage == "weights" else None]
    )
    state.learned_net = "x" * 3000 if damage == "name" else str(weights)
    if damage == "short history":
        state.history[-1] = state.history[-1][..., :-1]
    mc.caffe.formats.solverstate.write_state(state)
    before = all_of(solver)
    with pytest.raises(mc.MinicaffeError):
        solver.restore(state.path)
    assert all_of(solver) == before
    solver.close()

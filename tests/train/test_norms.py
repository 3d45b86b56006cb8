"""``log_norms``: the norms of weights, gradients and updates at the iterations that are shown."""

import json
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.device.array import to_host
from minicaffe.train import norms as norms_module
from tests.train.training import NET, SOLVER, write_job

PLAIN = SOLVER.replace("type: Adam", "type: SGD").replace("snapshot: 7", "snapshot: 0")
LOW_RANK = NET.replace(
    "stride: 2, weight_filler: {type: xavier}}",
    "weight_filler: {type: xavier}}\n  low_rank_param: {rank: 2, factored: true}",
)
SHARED = NET.replace(
    "- {name: accuracy",
    "- {name: again, type: InnerProduct, bottom: drop, top: other, param: [{name: w}, {lr_mult: 0}],\n"
    "   inner_product_param: {num_output: 10}}\n- {name: sum, type: Eltwise, bottom: [ip, other], top: ip2}\n"
    "- {name: accuracy",
).replace("name: ip, type: InnerProduct,", "name: ip, type: InnerProduct, param: [{name: w}],")


def norms_of(log):
    events = [json.loads(line) for line in Path(log).read_text().splitlines()]
    return {event["iteration"]: event["params"] for event in events if event["event"] == "norms"}


def host_norm(blob, what):
    return float(np.linalg.norm(to_host(getattr(blob, what)).astype(float)))


@pytest.mark.parametrize("net", [NET, LOW_RANK, SHARED], ids=["dense", "low rank", "shared"])
@pytest.mark.parametrize("more", ["", "clip_gradients: 0.01\n", "regularization_type: L1\n"])
def test_norms_are_those_of_the_weights_the_mean_gradient_and_the_update(tmp_path, monkeypatch, net, more):
    monkeypatch.chdir(tmp_path)
    with mc.Solver(write_job(tmp_path, net, PLAIN + more)) as solver:
        solver.log_norms = True
        seen, update = [], solver.apply_update

        def updating(rate):
            params = [param for param in solver.net.learnable if param.lr_mult]
            gradients = [host_norm(param.blob, "diff") / 2 for param in params]  # iter_size: 2
            update(rate)
            rows = zip(params, gradients, strict=True)
            seen.append({p.key: [host_norm(p.blob, "data"), g, host_norm(p.blob, "diff")] for p, g in rows})

        monkeypatch.setattr(solver, "apply_update", updating)
        solver.step(6)
    logged = norms_of("snap/run.log.jsonl")
    assert set(logged) == {0, 5}
    for iteration, params in logged.items():
        assert params.keys() == seen[iteration].keys()
        for key, values in params.items():
            assert values == pytest.approx(seen[iteration][key], rel=2e-5, abs=1e-12), key


def test_what_is_not_finite_is_null(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with mc.Solver(write_job(tmp_path, solver=PLAIN)) as solver:
        (param,) = (param for param in solver.net.learnable if param.key == "ip/0")
        param.blob.diff[...] = 1e30
        found = norms_module.StepNorms([param], 1).after_update()["ip/0"]
    assert found[1:] == [None, None] and found[0] == pytest.approx(host_norm(param.blob, "data"), rel=1e-5)


def test_nothing_is_measured_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = write_job(tmp_path, solver=PLAIN.replace("max_iter: 40", "max_iter: 6"))
    assert main(["train", str(job), "--log-norms"]) == 0
    assert set(norms_of("snap/run.log.jsonl")) == {0, 5}
    Path("snap/run.log.jsonl").unlink()
    monkeypatch.setattr(norms_module, "_norms", None)
    assert main(["train", str(job)]) == 0
    assert norms_of("snap/run.log.jsonl") == {}

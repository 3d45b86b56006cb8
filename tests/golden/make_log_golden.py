"""Records what Caffe prints while it trains, is stopped, and resumes from the snapshot: ``training_log.txt``.

    GLOG_minloglevel=0 python make_log_golden.py    (with pycaffe; it runs itself twice)

The lines before "Solving" (the layers that are set up) are left out. Times are those of the recording.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

NET = """name: "Small"
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 16 dim: 3 dim: 4 dim: 4 } shape { dim: 16 }
    data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" top: "per_class"
  include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 0.5 }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.02 lr_policy: "step" gamma: 0.5 stepsize: 10 max_iter: 20 display: 4
test_iter: 2 test_interval: 10 snapshot: 10 snapshot_prefix: "small" solver_mode: CPU random_seed: 3
"""
RUNS = [["solver.prototxt"], ["solver.prototxt", "small_iter_10.solverstate"]]


def train(solver, *state):
    import caffe

    caffe.SGDSolver(solver).solve(*state)


def record():
    out = Path(__file__).with_name("training_log.txt").resolve()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("net.prototxt").write_text(NET)
        Path("solver.prototxt").write_text(SOLVER)
        for arguments in RUNS:
            done = subprocess.run(
                [sys.executable, str(Path(__file__)), *arguments],
                stderr=subprocess.PIPE,
                text=True,
                check=True,
            )
            lines += [done.stderr[done.stderr.rindex("\n", 0, done.stderr.index("Solving")) + 1 :]]
    out.write_text("".join(lines))


if __name__ == "__main__":
    train(*sys.argv[1:]) if sys.argv[1:] else record()

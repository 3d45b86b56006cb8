"""pycaffe's interface over minicaffe: ``import minicaffe.pycaffe as caffe``, and a script that uses Caffe runs.

It renames and wraps; all that computes is minicaffe's. ``python -m minicaffe.pycaffe script.py`` runs a script that
says ``import caffe``.
"""

from minicaffe.core.layer import layer_classes
from minicaffe.pycaffe import coord_map, draw, io
from minicaffe.pycaffe.blobs import BlobVec
from minicaffe.pycaffe.classifier import Classifier
from minicaffe.pycaffe.detector import Detector
from minicaffe.pycaffe.layer import Layer
from minicaffe.pycaffe.mode import (
    NCCL,
    has_nccl,
    init_log,
    log,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from minicaffe.pycaffe.net import Net
from minicaffe.pycaffe.net_spec import NetSpec, layers, params, to_proto
from minicaffe.pycaffe.proto import caffe_pb2
from minicaffe.pycaffe.proto.caffe_pb2 import TEST, TRAIN
from minicaffe.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from minicaffe.pycaffe.timer import Timer

__version__ = "1.0.0"  # of the Caffe whose interface this is


def layer_type_list() -> list[str]:
    """The names of all layer types."""
    return sorted(layer_classes)

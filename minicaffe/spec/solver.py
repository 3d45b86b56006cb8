"""The solver spec: Caffe's ``SolverParameter``, field by field."""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.spec.fields import Bool, Enum, Float, Int, Message, Nested, String
from minicaffe.spec.net import NetSpec, NetState
from minicaffe.spec.reader import Where, nearest, parse_yaml

_policy_fields: dict[str, tuple[str, ...]] = {}


def declare_lr_policy(name: str, fields: Sequence[str]) -> None:
    """Make a learning rate policy known to specs, with the fields that it needs (``train/lr_policy.py``)."""
    _policy_fields[name] = tuple(fields)


OLD_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}


EVAL_TYPES = ("classification", "detection", "detection_segmentation")
AP_VERSIONS = ("11point", "MaxIntegral", "Integral")  # ops/detection/average_precision.py


class SolverSpec(Message):
    """How to train: nets, schedule, update rule, tests and snapshots."""

    net = String("")
    train_net = String("")
    test_net = String(repeated=True)
    net_param = Nested(NetSpec, optional=True)
    train_net_param = Nested(NetSpec, optional=True)
    test_net_param = Nested(NetSpec, repeated=True)
    train_state = Nested(NetState)
    test_state = Nested(NetState, repeated=True)
    weights = String(repeated=True)

    type = String("SGD")
    solver_type = Enum(*OLD_SOLVER_TYPES, default="SGD")
    base_lr = Float(required=True, min=0)
    lr_policy = String(required=True)
    gamma = Float(min=0)
    power = Float()
    stepsize = Int(above=0)
    stepvalue = Int(min=0, repeated=True)
    stagelr = Float(min=0, repeated=True)
    stageiter = Int(min=0, repeated=True)
    plateau_winsize = Int(min=0, repeated=True)
    max_iter = Int(min=0)
    iter_size = Int(1, min=1)
    momentum = Float(0.0, min=0, below=1)
    momentum2 = Float(0.999, min=0, below=1)
    rms_decay = Float(0.99, min=0, below=1)
    delta = Float(1e-8, min=0)
    weight_decay = Float(0.0, min=0)
    regularization_type = String("L2")
    clip_gradients = Float(-1.0)
    gradient_rank = Int(min=1)  # of the gradients that ranks send each other (docs/distributed.md)

    test_iter = Int(min=0, repeated=True)
    test_interval = Int(0, min=0)
    test_compute_loss = Bool(False)
    eval_type = String("classification")  # from here on SSD's
    ap_version = String("Integral")
    show_per_class_result = Bool(False)
    test_initialization = Bool(True)
    display = Int(0, min=0)
    average_loss = Int(1, min=1)
    debug_info = Bool(False)

    snapshot = Int(0, min=0)
    snapshot_prefix = String("")
    snapshot_diff = Bool(False)
    snapshot_format = Enum("HDF5", "BINARYPROTO")  # Caffe's: snapshots here are .npz
    snapshot_after_train = Bool(True)
    random_seed = Int(-1, max=2**63 - 1)
    solver_mode = Enum("CPU", "GPU")
    device_id = Int(0, min=0)
    layer_wise_reduce = Bool(True)  # Caffe's, for several GPUs

    def hint(self, name: str) -> str:
        if name in ("name", "layer", "layers", "input", "input_shape", "input_dim", "force_backward"):
            return "; this is a net spec, but a solver spec is expected here"
        return super().hint(name)

    def check(self) -> None:
        if self.has("solver_type"):
            if self.has("type"):
                raise self.error("solver_type", "'type' is given too; keep that one")
            self.type = OLD_SOLVER_TYPES[self.solver_type]
        self.weights = [path.strip() for paths in self.weights for path in paths.split(",")]
        self._check_nets()
        self._check_policy()
        self._check_tests()
        for name, known in (("eval_type", EVAL_TYPES), ("ap_version", AP_VERSIONS)):
            if (value := getattr(self, name)) not in known:
                raise self.error(
                    name, f"unknown: '{value}'; one of {', '.join(known)}{nearest(value, known)}"
                )
        if self.regularization_type not in ("L1", "L2"):
            raise self.error("regularization_type", f"'{self.regularization_type}': must be L1 or L2")

    def _check_nets(self) -> None:
        if sum(map(bool, (self.net, self.train_net, self.net_param, self.train_net_param))) != 1:
            raise self.error("net", "give one training net: either 'net' or 'train_net'")

    def _check_policy(self) -> None:
        if self.lr_policy not in _policy_fields:
            known = ", ".join(_policy_fields)
            hint = nearest(self.lr_policy, _policy_fields)
            raise self.error("lr_policy", f"unknown policy '{self.lr_policy}'; one of {known}{hint}")
        for name in _policy_fields[self.lr_policy]:
            if not self.has(name):
                raise self.error(name, f"required by lr_policy '{self.lr_policy}', but not given")
        if "stagelr" in _policy_fields[self.lr_policy] and len(self.stagelr) != len(self.stageiter):
            rates = f"{len(self.stagelr)} stagelr"
            raise self.error("stageiter", f"{len(self.stageiter)} given for {rates}; give one for each")

    def _check_tests(self) -> None:
        given, files = len(self.test_iter), len(self.test_net) + len(self.test_net_param)
        if given < files or (given > files and not (self.net or self.net_param)):
            raise self.error("test_iter", f"{given} given for {files} test nets; give one for each")
        if self.test_state and len(self.test_state) != len(self.test_iter):
            raise self.error("test_state", "give one for each test net, as many as test_iter")
        if self.test_iter and not self.test_interval:
            raise self.error("test_interval", "required with test_iter: iterations between two tests")


def parse_solver(text: str, file: str = "<string>") -> SolverSpec:
    """Validate a solver spec given as YAML text; ``file`` names it in errors. Raises SpecError."""
    return SolverSpec.read(parse_yaml(text, file), Where(file))

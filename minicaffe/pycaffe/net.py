"""caffe.Net: a net with pycaffe's names. It holds a ``minicaffe.Net`` and computes nothing itself."""

from __future__ import annotations

import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minicaffe
from minicaffe.caffe.formats.caffemodel import write_caffemodel
from minicaffe.caffe.formats.hdf5 import write_weights
from minicaffe.classify.batches import batches, count_of, forward_all, join
from minicaffe.core.blob import advice_on_shape
from minicaffe.core.display import html_of
from minicaffe.core.layer import Layer
from minicaffe.errors import MinicaffeError
from minicaffe.files.spec_formats import open_net
from minicaffe.pycaffe.blobs import HostView
from minicaffe.pycaffe.hooks import Hook, Hooks
from minicaffe.pycaffe.layer import ScriptLayer
from minicaffe.pycaffe.mode import next_seed
from minicaffe.pycaffe.proto.caffe_pb2 import TEST, TRAIN

logger = logging.getLogger("minicaffe")
PHASES = {TRAIN: "TRAIN", TEST: "TEST"}


class Net:
    """A net to run forward and backward.

    ``Net("deploy.prototxt", caffe.TEST, weights="net.caffemodel", stages=[…], level=0)``; the older
    ``Net(network_file, weights, phase)`` works too. Everything in the net is looked up once, when it is made:
    ``blobs``, ``params``, ``layers``, ``layer_dict``, ``inputs``, ``outputs``, ``top_names``, ``bottom_names`` and
    ``blob_loss_weights`` are plain attributes. ``core`` is the ``minicaffe.Net`` itself.
    """

    core: minicaffe.Net

    def __init__(
        self,
        network_file: str | Path,
        phase: int | str | Path = TEST,
        level: int = 0,
        stages: Iterable[str] | None = None,
        weights: str | Path | None = None,
    ) -> None:
        if isinstance(phase, (str, Path)):
            warnings.warn(
                "Net(network_file, weights, phase) is old; write Net(network_file, phase, weights=…)",
                DeprecationWarning,
                stacklevel=2,
            )
            weights, phase, level = phase, level, 0
        if phase not in PHASES:
            raise MinicaffeError(f"phase {phase!r}: must be caffe.TRAIN or caffe.TEST")
        spec = open_net(network_file)
        core = minicaffe.Net(spec, phase=PHASES[phase], level=level, stages=stages or (), seed=next_seed())
        self._hold(core)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, core: minicaffe.Net) -> Net:
        """A net around an existing one."""
        net = cls.__new__(cls)
        net._hold(core)
        return net

    def __repr__(self) -> str:
        return repr(self.core)

    def _repr_html_(self) -> str | None:
        return html_of(self.core)

    def _hold(self, core: minicaffe.Net) -> None:
        self.core = core
        host = HostView(core.setting.device)
        self.blobs = core.blobs.alike((name, host.of(blob)) for name, blob in core.blobs.items())
        self.params = core.params.alike((name, host.of_all(blobs)) for name, blobs in core.params.items())
        self.layers = [_as_seen(layer, host) for layer in core.layers]
        self._layer_names = [layer.name for layer in core.layers]
        self._blob_names = list(core.blobs)
        self.layer_dict = core.layer_dict.alike(zip(self._layer_names, self.layers, strict=True))
        self.inputs, self.outputs = list(core.inputs), list(core.outputs)
        self.top_names = OrderedDict((layer.name, list(layer.spec.top)) for layer in core.layers)
        self.bottom_names = OrderedDict((layer.name, list(layer.spec.bottom)) for layer in core.layers)
        self.blob_loss_weights = OrderedDict.fromkeys(core.blobs, 0.0)
        for layer in core.layers:
            self.blob_loss_weights.update(zip(layer.spec.top, layer.spec.loss_weight, strict=True))
        self._name_as_in_cpp()
        self._forward_hooks, self._backward_hooks = (
            Hooks(core.layers, method) for method in ("forward", "backward")
        )

    def _name_as_in_cpp(self) -> None:
        """What the C++ class under pycaffe's Net has: lists in the order of ``_blob_names``; scripts use it too."""
        self._blobs = list(self.blobs.values())
        self._inputs, self._outputs = (
            [self._blob_names.index(name) for name in names] for names in (self.inputs, self.outputs)
        )
        self._blob_loss_weights = list(self.blob_loss_weights.values())

    def top_ids(self, layer: int) -> list[int]:
        """The places among ``blobs`` of a layer's tops."""
        return self._ids(self.top_names, layer)

    def bottom_ids(self, layer: int) -> list[int]:
        """The places among ``blobs`` of a layer's bottoms."""
        return self._ids(self.bottom_names, layer)

    _top_ids, _bottom_ids = top_ids, bottom_ids

    def _ids(self, names: Mapping[str, list[str]], layer: int) -> list[int]:
        return [self._blob_names.index(name) for name in names[self._layer_names[layer]]]

    # -- running ---------------------------------------------------------------------------------------

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """Run the layers from ``start`` to ``end``; keyword arguments are the net's inputs, all of them.

        Returns the data (not copies) of the net's outputs, or of the tops of ``end``, and of ``blobs``.
        """
        asked = self._asked(blobs)
        with self.core.lock:
            self._fill("data", kwargs, self.inputs, "inputs")
            self._forward(self.core.layer_index(start, 0), self.core.layer_index(end, len(self.layers) - 1))
        names = self.top_names[end] if end is not None else self.outputs
        return {name: self.blobs[name].data for name in dict.fromkeys([*names, *asked])}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """Run the layers backward from ``start`` down to ``end``; keyword arguments are the outputs' diffs, all.

        Returns the diffs (not copies) of the net's inputs, or of the bottoms of ``end``, and of ``diffs``.
        A layer that has not run forward yet does so first.
        """
        asked = self._asked(diffs)
        with self.core.lock:
            self._fill("diff", kwargs, self.outputs, "outputs")
            self._backward(self.core.layer_index(start, len(self.layers) - 1), self.core.layer_index(end, 0))
        names = self.bottom_names[end] if end is not None else self.inputs
        return {name: self.blobs[name].diff for name in dict.fromkeys([*names, *asked])}

    def _forward(self, first: int, last: int) -> None:
        self.core.run_forward(first, last)

    def _backward(self, last: int, first: int) -> None:
        for name in self.core.gradient_starts:  # whatever is in their diffs: Caffe does not ask who wrote it
            _ = self.core.blobs[name].stored_diff
        self.core.run_missing_forward(first, last)
        self.core.run_backward(first, last)

    def _asked(self, blobs: Sequence[str] | None) -> Sequence[str]:
        """The blobs that a script asks for. Raises MinicaffeError if there is no such blob."""
        if isinstance(blobs, str):
            raise MinicaffeError(f"'{blobs}': give a list of blobs, ['{blobs}']")
        if blobs is not None and not all(isinstance(name, str) for name in blobs):
            by_name = ", ".join(f"{name}=…" for name in self.inputs)
            raise MinicaffeError(f"give arrays by name: net.forward({by_name})")
        return [
            name for name in blobs or () if self.blobs[name] is not None
        ]  # which says so if it is not there

    def _fill(self, what: str, arrays: Mapping[str, Any], names: Sequence[str], kind: str) -> None:
        if not arrays:
            return
        _check_names(arrays, names, kind)
        for name, array in arrays.items():
            if np.shape(array)[:1] != self.blobs[name].shape[:1]:
                raise MinicaffeError(
                    f"'{name}' has shape {np.shape(array)}, the blob {self.blobs[name].shape}: not the batch's size"
                )
            target = getattr(self.blobs[name], what)
            try:
                target[...] = array
            except (TypeError, ValueError):
                raise MinicaffeError(
                    f"'{name}' has shape {np.shape(array)}, which does not fit the blob's, {target.shape}; "
                    f"{advice_on_shape(name, np.shape(array), target.shape)}"
                ) from None

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: Any) -> dict[str, np.ndarray]:
        """Run forward over inputs of any number, in batches; returns arrays of as many outputs."""
        _check_names(kwargs, self.inputs, "inputs")
        return forward_all(self.core, kwargs, [*self.outputs, *self._asked(blobs)])

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **kwargs: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """``forward_all``, with a backward after each batch: outputs, and the diffs of inputs and ``diffs``.

        Keyword arguments are inputs and diffs of outputs.
        """
        given = {name: np.asarray(array) for name, array in kwargs.items()}
        count = count_of(given)
        all_data: list[dict[str, np.ndarray]] = []
        all_diffs: list[dict[str, np.ndarray]] = []
        for batch in self._batch(given):
            inputs: dict[str, Any] = {name: batch[name] for name in batch if name in self.inputs}
            starts: dict[str, Any] = {name: batch[name] for name in batch if name in self.outputs}
            all_data.append({k: np.array(v) for k, v in self.forward(blobs=blobs, **inputs).items()})
            all_diffs.append({k: np.array(v) for k, v in self.backward(diffs=diffs, **starts).items()})
        return join(all_data, count), join(all_diffs, count)

    def reshape(self) -> None:
        """Let every layer adapt to the shapes of its bottoms."""
        self.core.reshape()

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero, at once: a script may hold them."""
        self.core.clear_param_diffs()
        for param in self.core.learnable:
            _ = param.blob.stored_diff

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Give these arrays to the net's MemoryData layer."""
        self.core.set_input_arrays(data, labels)

    _set_input_arrays = set_input_arrays

    def _batch(self, blobs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Arrays cut into batches of the net's size, the last one filled up with zeros."""
        return batches(blobs, self._blobs[0].shape[0])

    # -- a script's functions around layers ------------------------------------------------------------

    def before_forward(self, run: Hook) -> None:
        """Call ``run(layer's index)`` before each layer runs forward."""
        self._forward_hooks.add("before", run)

    def after_forward(self, run: Hook) -> None:
        """Call ``run(layer's index)`` after each layer has run forward."""
        self._forward_hooks.add("after", run)

    def before_backward(self, run: Hook) -> None:
        """Call ``run(layer's index)`` before each layer runs backward."""
        self._backward_hooks.add("before", run)

    def after_backward(self, run: Hook) -> None:
        """Call ``run(layer's index)`` after each layer has run backward."""
        self._backward_hooks.add("after", run)

    # -- weights ---------------------------------------------------------------------------------------

    def copy_from(self, path: str | Path) -> None:
        """Copy weights from a file, .caffemodel, .h5 or .npz, into layers of the same name. Raises WeightError."""
        logger.info("Weights from %s: %s", path, self.core.copy_from(path))

    load_hdf5 = copy_from

    def save(self, path: str | Path) -> None:
        """Write the weights as a .caffemodel, whatever the name. Raises WriteError."""
        write_caffemodel(self.core.as_saved(), path)

    def save_hdf5(self, path: str | Path) -> None:
        """Write the weights as a .caffemodel.h5, whatever the name. Raises WriteError."""
        write_weights(self.core.as_saved(), path)

    def share_with(self, other: Net) -> None:
        """Share the parameters of the other net's layers of the same name from now on."""
        self.core.share_with(other.core)


def _check_names(arrays: Mapping[str, Any], names: Sequence[str], kind: str) -> None:
    """Raise MinicaffeError unless ``arrays`` are those of ``names``, all of them: as pycaffe does."""
    if set(arrays) != set(names):
        given, known = ", ".join(arrays) or "none given", ", ".join(names) or "none"
        raise MinicaffeError(f"{given}: the net's {kind} are {known}; give all")


def _as_seen(layer: Layer, host: HostView) -> Any:
    """A layer as a script sees it: its own object, where it has written the layer."""
    if isinstance(layer, ScriptLayer):
        return layer.script
    return LayerView(layer, host) if host.is_needed else layer


class LayerView:
    """A layer of a net on a GPU, with its parameters as the host sees them."""

    def __init__(self, layer: Layer, host: HostView) -> None:
        self._layer = layer
        self.blobs = host.of_all(layer.blobs)

    def __getattr__(self, name: str) -> Any:
        if name == "_layer":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._layer, name)

    def __repr__(self) -> str:
        return repr(self._layer)

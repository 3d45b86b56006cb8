"""Before a training: how large the net and its data are, and what will not be trained."""

from __future__ import annotations

from collections.abc import Iterator

from minicaffe.core.layer import Layer
from minicaffe.core.learnable_param import count_numbers
from minicaffe.core.net import Net
from minicaffe.errors import counted
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.layers.python import PythonParam
from minicaffe.train.parallel.exchange import GradientExchange


def sizes(net: Net, iter_size: int = 1, exchange: GradientExchange | None = None) -> Iterator[str]:
    """A line for the net, with its parameters and multiply-adds, and one for each data layer that has epochs.

    Where several ranks train it, one for what they send each other, too.
    """
    params, fixed = count_parameters(net)
    of_them = f" ({fixed:,} of them not trained)" if fixed else ""
    yield f"Net: {params:,} parameters{of_them}, {count_multiply_adds(net):,} multiply-adds an image"
    for layer in net.layers:
        if isinstance(layer, BatchSourceLayer) and layer.rows:
            classes = f" of {counted(layer.classes, 'class')}" if layer.classes else ""
            ranks = net.setting.communicator.size
            epoch = layer.rows / (layer.batch_size * iter_size * ranks)
            of_each = f" on each of {ranks} ranks" if ranks > 1 else ""
            yield (
                f"Data of layer '{layer.name}': {counted(layer.rows, 'image')}{classes}, "
                f"{layer.batch_size:,} a batch{of_each}: an epoch is {epoch:,.4g} iterations"
            )
    if exchange is not None and exchange.dense_bytes:
        sent, dense = exchange.sent_bytes, exchange.dense_bytes
        less = (
            f", {dense / sent:.3g} times less than the {dense:,} of whole gradients" if sent < dense else ""
        )
        yield f"Gradients: {sent:,} bytes an iteration from each rank{less}"


def count_parameters(net: Net) -> tuple[int, int]:
    """The number of a net's parameters, and how many of them have ``lr_mult: 0``."""
    return count_numbers(net.learnable)


def count_multiply_adds(net: Net) -> int:
    """The multiply-adds of one image's forward."""
    return sum(step.multiply_adds for step in net.steps)


def untrained(net: Net) -> Iterator[str]:
    """Warnings for a net that is to be trained: a loss without a weight, or no parameter that is trained."""
    for layer in net.layers:
        python = layer.spec.find_message(PythonParam)
        name = layer.type if python is None else python.layer
        if "loss" in name.lower() and _is_no_loss(layer, net):
            yield (
                f"{layer.spec.where}: a layer {name} that is not trained on: "
                "give it 'loss_weight: 1', or its class 'is_loss = True'"
            )
    if not net.trained_layers():
        yield f"{net.spec.where.file}: nothing will be trained: {_why_not(net)}"


def _is_no_loss(layer: Layer, net: Net) -> bool:
    has_weight = any(layer.spec.loss_weight) or layer.spec.has("loss_weight")
    return not has_weight and any(name in net.outputs for name in layer.spec.top)


def _why_not(net: Net) -> str:
    if not any(param.lr_mult for param in net.learnable):
        return "no layer has parameters with an lr_mult above 0"
    if not any(any(layer.spec.loss_weight) for layer in net.layers):
        return "the net has no loss; give the layer that computes it 'loss_weight: 1'"
    return "no gradient gets from the loss to a parameter; look for 'propagate_down: false'"

"""Scoring a net on its test data, as ``caffe test`` does: each batch's outputs, then the means."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from minicaffe.core.net import Net
from minicaffe.data.order import Order
from minicaffe.device.array import to_host
from minicaffe.errors import DataError, MinicaffeError, counted
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.train.scoring import (
    Score,
    in_brackets,
    is_large,
    loss_weights,
    names_of_labels,
    score,
    summary_of,
)

logger = logging.getLogger("minicaffe")
BATCHES = 50  # of data without a known size, as in Caffe


def show_score(
    net: Net,
    batches: int | None = None,
    look: Callable[[], None] | None = None,
    ap_version: str = "Integral",
) -> Score:
    """Score a net over ``batches`` batches (default: one pass over its data), and log its outputs and its loss.

    The lines are those of ``caffe test``: each batch's outputs (not of a single batch, of which the means say the
    same), the loss as the solver counts it, Σ weight · loss over all losses, then the mean of each output.

    ``look`` is called after each batch, while the blobs have it. ``ap_version``: how the average precision of
    detections is computed, of which each class is shown too.

    Raises SpecError for a net that has no data of its own, and DataError if a score is nan or a loss is not finite.
    """
    _check_has_data(net)
    batches = _one_pass(net) if batches is None else batches
    assert batches is not None

    def show(batch: int) -> bool:
        for name in net.outputs:
            if net.blobs[name].count == 1 and batches > 1:  # of a single batch the mean says it
                logger.info("Batch %d, %s = %.6g", batch, name, to_host(net.blobs[name].data).item())
        if look is not None:
            look()
        return True

    result = score(net, batches, show, ap_version)
    assert result is not None  # ``show`` lets it go on to the end
    if any(any(layer.spec.loss_weight) for layer in net.layers):
        logger.info("Loss: %.6g", result.loss)
    names = names_of_labels(net) if result.precisions else {}
    for name, mean in result.outputs.items():
        for label, precision in result.precisions.get(name, {}).items():
            logger.info("%s, class %d%s = %.6g", name, label, in_brackets(label, names), precision)
        for line in _lines(net, name, mean):
            logger.info(line)
    if result.not_finite is not None:
        raise DataError(
            f"{result.not_finite} is not finite: what is shown is no score; check weights and data"
        )
    return result


def _check_has_data(net: Net) -> None:
    """Raise SpecError if nothing brings data but Inputs, which nobody fills."""
    unfilled = [layer for layer in net.layers if layer.type == "Input"]
    brings_data = any(layer.spec.brings_data for layer in net.layers)
    if unfilled and brings_data:
        logger.warning("Inputs that nothing fills are zeros: %s", ", ".join(net.inputs))
    elif unfilled:
        raise unfilled[0].spec.error(
            "type",
            "nothing fills an Input, so there is nothing to score; give the net with data layers and labels "
            "(train.yaml), or name pictures with 'minicaffe classify'",
        )
    if not net.outputs:  # as where all ends in an HDF5Output
        logger.info("The net has no outputs in phase TEST, so nothing is scored")


def _lines(net: Net, name: str, mean: np.ndarray) -> list[str]:
    """The numbers of an output, one a line, with the names of classes if these are known; or a summary of many."""
    if mean.size == 1:
        weight = loss_weights(net).get(name, 1)
        part = f" (* {weight:g} = {weight * mean.item():.6g} loss)" if weight != 1 else ""
        return [f"{name} = {mean.item():.6g}{part}"]
    if is_large(mean):
        return [f"{name} = {summary_of(mean)}"]
    names = net.preparation.class_names if net.preparation is not None else ()
    if names and mean.shape == (len(names),):
        return [f"{name}, {label} = {value:.6g}" for label, value in zip(names, mean, strict=True)]
    return [f"{name}[{', '.join(map(str, place))}] = {value:.6g}" for place, value in np.ndenumerate(mean)]


# -- how many batches are one pass ---------------------------------------------------------------------------


def _one_pass(net: Net) -> int:
    """The number of batches in one pass over the net's data; the last is shorter if the images are no multiple.

    Logs how many they are, and which images are left out or come twice if that cannot be avoided.
    """
    sources = [layer for layer in net.layers if isinstance(layer, BatchSourceLayer)]
    orders = [layer.batches.order for layer in sources if isinstance(layer.batches.order, Order)]
    if not orders:
        logger.info("Data without a known size: %d batches (--iterations says how many)", BATCHES)
        return BATCHES
    largest = max(orders, key=lambda order: order.count / order.batch_size)
    count, size = largest.count, largest.batch_size
    whole, rest = divmod(count, size)
    if rest and all((order.count, order.batch_size) == (count, size) for order in orders):
        problem = _cannot_take(net, sources, rest)
        if problem is None:
            for order in orders:
                order.end_a_pass()
            some = f"{counted(whole, 'batch')} of {size} and " if whole else ""
            logger.info("One pass: %s, %sone of %d", counted(count, "image"), some, rest)
            return whole + 1
        if whole:
            left_out = "the last is" if rest == 1 else f"the last {rest} are"
            some = f"{counted(whole, 'batch')} of {counted(size, 'image')}"
            logger.info("%s; %s left out (%s)", some, left_out, problem)
            return whole
    batches = whole + bool(rest)
    again = size - rest
    twice = f", so that {again} {'comes' if again == 1 else 'come'} twice" if rest else ""
    logger.info("One pass: %s, %s of %d%s", counted(count, "image"), counted(batches, "batch"), size, twice)
    return batches


def _cannot_take(net: Net, sources: list[BatchSourceLayer], images: int) -> str | None:
    """Why the net cannot take a batch of so many images, or None."""
    tops = [net.blobs[name] for layer in sources for name in layer.spec.top]
    shapes = [top.shape for top in tops]
    try:
        for top in tops:
            top.reshape(images, *top.shape[1:])
        net.reshape()
    except MinicaffeError as error:
        return str(error)
    finally:
        for top, shape in zip(tops, shapes, strict=True):
            top.reshape(*shape)
    return None

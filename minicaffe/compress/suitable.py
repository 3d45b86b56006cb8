"""Which layers of a net can be of low rank, and why the others stay dense.

A layer that can is one product W·x of weights of its own with its inputs, and W has several rows and columns: a
Convolution or an InnerProduct.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable
from fnmatch import fnmatchcase

from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.errors import SpecError, listing
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.low_rank.schemes import ChannelScheme
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.spec.reader import nearest

SHOWN = 8  # names of layers in a message
NOT_SCORED = "what is scored does not depend on it"
logger = logging.getLogger("minicaffe")
PARAM_OF_TYPE = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}


def why_dense(step: Step, scored: Container[str] | None = None) -> str | None:
    """Why a layer has to stay dense, in a few words; None if two factors can take the place of its weights.

    ``scored``: the layers, by name, that a score depends on, if one chooses the ranks. Another, as of an auxiliary
    classifier, would be ruined unseen.
    """
    layer = step.layer
    problem = why_no_matrix(step)
    if problem is not None:
        return problem
    if any(param.name for param in layer.spec.param):
        return "shares its weights with another layer"
    if isinstance(layer, InnerProduct) and layer.transpose:
        return "transposed: its factors would have the other order"
    if scored is not None and layer.name not in scored:
        return NOT_SCORED
    return None


def why_no_matrix(step: Step) -> str | None:
    """Why a layer is not one product of a matrix with its inputs that could be of low rank; None if it is."""
    layer = step.layer
    if not isinstance(layer, Convolution | InnerProduct):
        return "no product of weights and inputs"
    if isinstance(layer, Convolution) and layer.group == layer.channels == layer.num_output > 1:
        return "depthwise: one filter for each channel"
    if layer.type not in PARAM_OF_TYPE:
        return f"a {layer.type} takes no low_rank_param"
    if len(step.bottom) > 1:
        return "has several bottoms"
    if layer.axis != 1:
        return "its axis is not 1"
    product, _, _ = layer.as_product(step.bottom[0], step.top[0])
    if not isinstance(product, DenseConvolution):
        return "has three spatial axes"
    geometry = product.geometry
    if min(ChannelScheme(geometry.weight_shape, geometry.group).matrix_shape) < 2:
        return "its matrix has one row or one column: the rank is 1 already"
    return None


def layers_behind(net: Net, blobs: Iterable[str]) -> set[str]:
    """The layers, by name, that some blobs depend on."""
    found, wanted = set[str](), set(blobs)
    for layer in reversed(list(net.layers)):
        if wanted & set(layer.spec.top):
            found.add(layer.name)
            wanted |= set(layer.spec.bottom)
    return found


def chosen_steps(
    net: Net,
    patterns: Iterable[str] | None,
    without: Iterable[str] = (),
    scored: Container[str] | None = None,
) -> list[Step]:
    """The layers that ``patterns`` name and ``without`` does not, in the net's order, all fit for low rank.

    A pattern is a layer's name or has the wildcards of a shell, ``fc*``; these pass over layers that have to stay
    dense. None: every Convolution that can be of low rank. ``scored`` as in ``why_dense``; the log says which
    layers stay dense for that alone. Raises SpecError for a pattern that fits no layer, for a layer that is named
    and has to stay dense, and if no layer is left.
    """
    file = net.spec.where.file
    named = None if patterns is None else list(patterns)
    wanted = None if named is None else _matching(net, named)
    unwanted = _matching(net, without)
    found, unseen, left_out = list[Step](), list[str](), list[str]()
    for step in net.steps:
        layer = step.layer
        is_wanted = layer.type == "Convolution" if wanted is None else layer.name in wanted
        if not is_wanted:
            continue
        problem = why_dense(step, scored)
        if layer.name in unwanted:
            left_out += [layer.name] if problem is None else []
        elif problem is None:
            found.append(step)
        elif named is not None and layer.name in named:
            raise layer.spec.error("", f"{problem}; leave the layer out")
        elif problem == NOT_SCORED:
            unseen.append(layer.name)
    if unseen:
        logger.info("Left dense, as %s: %s", NOT_SCORED, listing(unseen))
    if not found and left_out:
        raise SpecError(
            f"{file}: --except leaves none of the layers that would be of low rank ({listing(left_out, SHOWN)}); "
            "leave out fewer, or name more with --layers"
        )
    if not found:
        what = "no Convolution" if named is None else "no layer among those that are named"
        raise SpecError(f"{file}: {what} can be of low rank; name Convolution or InnerProduct layers")
    return found


def _matching(net: Net, patterns: Iterable[str]) -> set[str]:
    """The layers, by name, that fit a pattern. Raises SpecError for a pattern that fits none."""
    names = [step.layer.name for step in net.steps]
    found = set[str]()
    for pattern in patterns:
        fitting = {pattern} if pattern in names else {name for name in names if fnmatchcase(name, pattern)}
        if not fitting:
            fit = [step.layer.name for step in net.steps if why_dense(step) is None]
            known = f"; those that can be of low rank: {listing(fit, SHOWN) or 'none'}"
            hint = nearest(pattern, names) or known
            raise SpecError(f"{net.spec.where.file}: has no layer '{pattern}'{hint}")
        found |= fitting
    return found

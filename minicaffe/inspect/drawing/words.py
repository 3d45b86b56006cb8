"""What a box says about its layers: a line for what each does, and a sentence for those who cannot see the box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minicaffe.core.layer import Layer, LayerTable
from minicaffe.layers.convolution import ConvolutionParam
from minicaffe.layers.dropout import DropoutParam
from minicaffe.layers.eltwise import EltwiseParam
from minicaffe.layers.inner_product import InnerProductParam
from minicaffe.layers.pooling import PoolingParam
from minicaffe.layers.python import PythonParam
from minicaffe.layers.recurrent import RecurrentParam
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import OneStage
from minicaffe.ops.convolution.geometry import Window
from minicaffe.spec.net import LayerSpec

DEPTHWISE = ("DepthwiseConvolution", "ConvolutionDepthwise")
Words = Callable[[Any, "Layer | None"], str]
says: LayerTable[Words] = LayerTable()  # what a layer does, in a few words, by its type


def what(spec: LayerSpec, layer: Layer | None = None) -> str:
    """A layer in a few words, "conv 3×3/2 → 64"; ``layer`` is there if the net could be made."""
    say = says.get(spec.type)
    return say(spec, layer) if say else spec.type


def dims(sizes: Sequence[int]) -> str:
    """(5, 5) as "5×5"."""
    return "×".join(f"{size}" for size in sizes)


def _step(sizes: Sequence[int]) -> str:
    """A stride: (2, 2) as "/2", (1, 1) as "" and (2, 1) as "/2×1"."""
    if set(sizes) <= {1}:
        return ""
    return f"/{sizes[0]}" if len(set(sizes)) == 1 else f"/{dims(sizes)}"


def _window(window: Window, axes: int) -> str:
    dilation = window.dilation[-axes:]
    wide = f" dilated {dilation[0]}" if set(dilation) != {1} else ""
    return f"{dims(window.kernel[-axes:])}{_step(window.stride[-axes:])}{wide}"


@says.of("Convolution", "Deconvolution", "DepthwiseConvolution", "ConvolutionDepthwise")
def _convolution(spec: LayerSpec, layer: Layer | None) -> str:
    param = spec.message(ConvolutionParam)
    axes = getattr(layer, "spatial_axes", max(2, len(param.kernel_size)))
    word = "deconv" if spec.type == "Deconvolution" else "conv"
    groups = getattr(layer, "group", param.group)
    if spec.type in DEPTHWISE or groups == getattr(layer, "channels", 0) > 1:
        word, groups = f"depthwise {word}".removesuffix(" conv"), 1
    many = f", {groups} groups" if groups > 1 else ""
    return f"{word} {_window(param.window(axes), axes)} → {param.num_output}{many}"


@says.of("InnerProduct")
def _inner_product(spec: LayerSpec, layer: Layer | None) -> str:
    return f"inner product → {spec.message(InnerProductParam).num_output}"


@says.of("Pooling")
def _pooling(spec: LayerSpec, layer: Layer | None) -> str:
    param = spec.message(PoolingParam)
    kind = {"MAX": "max", "AVE": "average", "STOCHASTIC": "stochastic"}[param.pool]
    if param.global_pooling:
        return f"global {kind} pool"
    return f"{kind} pool {_window(param.window((0, 0)), 2)}"


@says.of("Eltwise")
def _eltwise(spec: LayerSpec, layer: Layer | None) -> str:
    param = spec.message(EltwiseParam)
    kind = {"PROD": "product", "SUM": "sum", "MAX": "maximum"}[param.operation]
    weights = ", ".join(f"{number:g}" for number in param.coeff).replace("-", "−")
    return f"Eltwise {kind} × {weights}" if set(param.coeff) - {1} else f"Eltwise {kind}"


@says.of("Dropout")
def _dropout(spec: LayerSpec, layer: Layer | None) -> str:
    return f"Dropout {spec.message(DropoutParam).dropout_ratio:g}"


@says.of("LSTM", "RNN")
def _recurrent(spec: LayerSpec, layer: Layer | None) -> str:
    return f"{spec.type} → {spec.message(RecurrentParam).num_output}"


@says.of("Python")
def _python(spec: LayerSpec, layer: Layer | None) -> str:
    return f"Python {spec.message(PythonParam).layer}"


def low_rank_lines(layer: LowRankLayer) -> tuple[str, str]:
    """The two stages of a layer of low rank, and its rank: "5×5 → 12", "1×1 → 50, rank 12 of 50"."""
    low = layer.low_rank
    rank = f"rank {low.rank} of {low.full_rank}"
    if isinstance(low.product(0), OneStage):
        return what(layer.spec, layer), f"rank {low.rank}: dense is cheaper"
    outputs = low.scheme.shape[0]
    middle = low.rank * low.scheme.group
    window = low.dense[0].geometry.window
    axes = getattr(layer, "spatial_axes", 0)
    if not axes:
        return f"inner product → {middle}", f"→ {outputs}, {rank}"
    first, second = low.scheme.windows(window)
    return f"conv {_window(first, axes)} → {middle}", f"{_window(second, axes)} → {outputs}, {rank}"


def rank_asked(param: LowRankParam) -> str:
    """The rank that a spec asks for; what it comes to is known once there is a layer."""
    given = [f"{name} {getattr(param, name):g}" for name in ("rank", "energy", "flops") if param.has(name)]
    return f"low rank: {', '.join(given) or 'chosen by default'}"


def count(number: int) -> str:
    """A number for people: 1,234."""
    return f"{number:,}"


def percent(share: float) -> str:
    """A share of a whole: "0.34 %", "12 %"."""
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"

"""What the tests of low-rank layers share: layers on one input, their weights and data matrices, nets with them."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from minicaffe.ops.convolution.geometry import Window
from minicaffe.ops.convolution.reference import im2col


@dataclass(frozen=True)
class Case:
    """A layer ``conv`` on an input ``x``: its YAML, and its weights' shape as (M, C/g, kh, kw) in g groups."""

    shape: tuple
    settings: str
    weights: tuple
    group: int = 1
    type: str = "Convolution"

    def text(self, low_rank="", shape=None, more=""):
        param = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}[self.type]
        fillers = "weight_filler: {type: gaussian, std: 0.4}, bias_filler: {type: uniform, min: -1}"
        low_rank = f", low_rank_param: {{{low_rank}}}" if low_rank else ""
        return (
            "name: one\nlayer:\n"
            f"- {{name: x, type: Input, input_param: {{shape: {{dim: {list(shape or self.shape)}}}}}}}\n"
            f"- {{name: conv, type: {self.type}{more}, {param}: {{{self.settings}, {fillers}}}{low_rank}}}\n"
        )

    def full_rank(self, low_rank):
        filters, channels, kh, kw = self.weights
        if "data" in low_rank:
            return channels * kh * kw
        if "spatial" in low_rank:
            return min(channels * kh, filters // self.group * kw)
        return min(filters // self.group, channels * kh * kw)

    def random_input(self, rng):
        return rng.standard_normal(self.shape)


CONVOLUTIONS = {
    "plain": Case((2, 4, 6, 5), "num_output: 6, kernel_size: 3", (6, 4, 3, 3)),
    "strided": Case(
        (3, 2, 9, 8),
        "num_output: 5, kernel_size: [3, 2], stride: [2, 1], pad: [1, 0], bias_term: false",
        (5, 2, 3, 2),
    ),
    "dilated": Case((2, 3, 8, 7), "num_output: 4, kernel_size: 3, dilation: 2, pad: 2", (4, 3, 3, 3)),
    "groups": Case((2, 6, 5, 5), "num_output: 8, kernel_size: 3, pad: 1, group: 2", (8, 3, 3, 3), 2),
    "depthwise": Case((2, 4, 5, 6), "num_output: 8, kernel_size: 3, group: 4", (8, 1, 3, 3), 4),
    "1×1": Case((3, 6, 4, 3), "num_output: 5, kernel_size: 1", (5, 6, 1, 1)),
    "a kernel larger than the image": Case(
        (2, 3, 2, 3), "num_output: 5, kernel_size: 5, pad: 2", (5, 3, 5, 5)
    ),
    "a batch of one": Case((1, 4, 5, 5), "num_output: 6, kernel_size: 3, pad: 1", (6, 4, 3, 3)),
    "one spatial axis": Case((3, 4, 9), "num_output: 6, kernel_size: 3, pad: 1", (6, 4, 1, 3)),
    "axis 2": Case((2, 3, 4, 5, 4), "num_output: 6, kernel_size: 2, axis: 2", (6, 4, 2, 2)),
}
INNER_PRODUCTS = {
    "inner product": Case((5, 3, 2, 2), "num_output: 7", (7, 12, 1, 1), type="InnerProduct"),
    "inner product, axis 2": Case((2, 3, 8), "num_output: 5, axis: 2", (5, 8, 1, 1), type="InnerProduct"),
    "inner product, no bias": Case(
        (1, 9), "num_output: 6, bias_term: false", (6, 9, 1, 1), type="InnerProduct"
    ),
    "inner product, transposed": Case(
        (4, 9), "num_output: 6, transpose: true", (6, 9, 1, 1), type="InnerProduct"
    ),
}
CASES = {**CONVOLUTIONS, **INNER_PRODUCTS}
SOME = {name: CASES[name] for name in ("plain", "groups", "inner product")}
PLAIN, GROUPS, INNER = SOME.values()

some_cases = pytest.mark.parametrize("case", SOME.values(), ids=SOME)
each_phase = pytest.mark.parametrize("phase", ["train", "test"])
each_scheme = pytest.mark.parametrize("scheme", ["channel", "spatial"])


def fits(case, low_rank):
    """Whether the case takes these settings at all."""
    is_inner = case.type == "InnerProduct"
    return not (
        is_inner and ("spatial" in low_rank or ("factored" in low_rank and "transpose" in case.settings))
    )


def combined(settings, cases=None):
    """All cases with all settings that they take, as (case, settings)."""
    return [
        pytest.param(
            case,
            low_rank,
            id=f"{case_name}-{name}",
        )
        for case_name, case in (cases or CASES).items()
        for name, low_rank in settings.items()
        if fits(case, low_rank)
    ]


def canonical(case, blob):
    """Blob 0 of a dense layer as (M, C/g, kh, kw), in float64."""
    w = blob.data.astype("f8")
    return (w.T if "transpose" in case.settings else w).reshape(case.weights)


def set_weights(case, net, w):
    """Write w (M, C/g, kh, kw) into a layer that is not factored."""
    blob = net.params["conv"][0]
    blob.data[...] = (w.reshape(len(w), -1).T if "transpose" in case.settings else w).reshape(blob.shape)


def truncated(w, group, rank, scheme="channel"):
    """w of this rank in every group, by LAPACK in float64."""
    result = np.empty(w.shape)
    _, channels, kh, kw = w.shape
    per_group = len(w) // group
    for g in range(group):
        rows = slice(g * per_group, (g + 1) * per_group)
        part = w[rows].astype("f8")
        if scheme == "spatial":
            matrix = part.transpose(1, 2, 0, 3).reshape(channels * kh, per_group * kw)
        else:
            matrix = part.reshape(per_group, -1)
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        low = (u[:, :rank] * s[:rank]) @ vt[:rank]
        if scheme == "spatial":
            result[rows] = low.reshape(channels, kh, per_group, kw).transpose(2, 0, 1, 3)
        else:
            result[rows] = low.reshape(part.shape)
    return result


def output(net, x):
    return net.forward(x=x)["conv"]


def output_of_weights(case, dense, w, x):
    """The dense layer's output, had it these weights (M, C/g, kh, kw)."""
    kept = dense.params["conv"][0].data.copy()
    set_weights(case, dense, w)
    y = output(dense, x)
    dense.params["conv"][0].data[...] = kept
    return y


def layer_of(net):
    return net.layers[-1]


def data_matrix(case, net):
    """The data matrices (g, K/g, P) of what is in ``x``, in float64."""
    x = net.blobs["x"].data.astype("f8")
    if case.type == "InnerProduct":
        return x.reshape(-1, case.weights[1]).T[None]
    options = dict(re.findall(r"(stride|pad|dilation): (\[[^]]*\]|\d+)", case.settings))
    pairs = [[int(n) for n in re.findall(r"\d+", options.get(name, d))] for name, d in
             (("stride", "1"), ("pad", "0"), ("dilation", "1"))]  # fmt: skip
    stride, pad, dilation = (tuple(p * 2)[:2] for p in pairs)
    if "axis: 2" in case.settings:
        x = x.reshape(-1, *x.shape[2:])
    if x.ndim == 3:
        x, stride, pad = x[:, :, None], (1, stride[1]), (0, pad[1])
    columns = im2col(np.moveaxis(x, 0, -1), Window(case.weights[2:], stride, pad, dilation))
    return columns.reshape(case.group, -1, columns.shape[1])


def projected(case, net, w, b, q):
    """w·Q·Qᵀ·X + b as (M, P), for Q (g, K/g, r)."""
    columns = data_matrix(case, net)
    w = w.reshape(case.group, -1, columns.shape[1])
    y = (w @ q @ (q.swapaxes(-1, -2) @ columns)).reshape(case.weights[0], -1)
    return y + (0 if b is None else b.data.astype("f8")[:, None])


def output_matrix(case, y):
    """The layer's output as (M, P), columns ordered as the data matrix's."""
    if case.type == "InnerProduct":
        return y.reshape(-1, case.weights[0]).T
    if "axis: 2" in case.settings:
        y = y.reshape(-1, *y.shape[2:])
    return np.moveaxis(y, 0, -1).reshape(case.weights[0], -1)


def bias_of(case, net):
    blobs = net.params["conv"]
    return None if "bias_term: false" in case.settings else next(b for b in blobs if len(b.shape) == 1)


def rank_for(columns, energy):
    """The smallest rank that keeps the energy of a stack, by LAPACK."""
    squares = (np.linalg.svd(columns, compute_uv=False) ** 2).sum(axis=0)
    return 1 + np.count_nonzero(np.cumsum(squares) < energy * squares.sum())


def span(q):
    """Q·Qᵀ, the same for every basis of one space."""
    q = q.astype("f8")
    return q @ q.swapaxes(-1, -2)


def assert_close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


LOADERS = {
    "truncated": "rank: 2",
    "factored": "rank: 2, factored: true",
    "spatial, factored": "rank: 2, factored: true, scheme: spatial",
    "data": "rank: 2, target: data",
    "held": "rank: 2, refresh: 3",
    "spatial, held": "rank: 2, refresh: 3, scheme: spatial",
}
each_loader = pytest.mark.parametrize("low_rank", LOADERS.values(), ids=LOADERS)

"""Pooling for Caffe 1.0, which rounds the number of windows up: what is too much is cut off by Slice layers."""

from __future__ import annotations

from minicaffe.caffe.exchange.plain_layers import CaffeLayer, PlainLayers, conversions
from minicaffe.caffe.formats.spec_tree import number, text
from minicaffe.layers.pooling import PoolingParam
from minicaffe.ops.pooling import output_size


@conversions.of("Pooling")
def pooling(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """Pooling; where it rounds down, with layers that cut its tops."""
    param, spec = plain.spec.message(PoolingParam), plain.spec
    for name in ("ceil_mode", "round_mode"):
        plain.tree.child("pooling_param").pop(name)
    if param.rounds_up:
        return [plain]
    blobs = export.net_with(plain).blobs
    (_, _, *size), (_, _, height, width) = blobs[spec.top[0]].shape, blobs[spec.bottom[0]].shape
    wide = output_size((height, width), param.window((height, width)))
    ends = {axis + 2: size[axis] for axis in (0, 1) if wide[axis] != size[axis]}
    if not ends:
        return [plain]
    weights, made = plain.tree.pop("loss_weight"), [plain]
    for i, top in enumerate(spec.top):
        *before, last, silence = _cut(export, plain, i, top, ends)
        if weights and spec.loss_weight[i]:  # of what is left
            last.tree.fields["loss_weight"] = [weights[i], number(0)]
        made += [*before, last, silence]
    return made


def _cut(export: PlainLayers, plain: CaffeLayer, i: int, kept: str, ends: dict[int, int]) -> list[CaffeLayer]:
    """Slice layers, each with a Silence, that keep of top ``i`` what lies before ``ends``, by axis."""
    made, source = [], plain
    for axis, end in ends.items():
        rest, uncut = export.unused(f"{kept}_rest_{axis}"), export.unused(f"{kept}_to_{axis}")
        source.tree.fields["top"][i] = text(uncut)
        source, i = plain.beside(export.unused(f"{rest}_cut"), "Slice", [uncut], [kept, rest]), 0
        source.tree.child("slice_param").set("axis", number(axis))
        source.tree.child("slice_param").set("slice_point", number(end))
        made += [source, plain.beside(export.unused(f"{rest}_gone"), "Silence", [rest], [])]
    return made

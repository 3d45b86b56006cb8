"""Connecting the layers of a spec to a graph (default names, checks, splits), and planning backward in it.

If a blob feeds several layers, a Split layer is inserted that gives each its own copy, so that their
gradients add up (Caffe's ``insert_splits.cpp``, with its names).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, layer_classes
from minicaffe.errors import SpecError
from minicaffe.spec.net import LayerSpec, make_layer_spec
from minicaffe.spec.reader import nearest


@dataclass
class Step:
    """A layer in its place in a net, with its bottoms and tops.

    ``shapes`` are those of the blobs when the layer was last reshaped or ran; None after a reshape that failed.
    ``has_run`` says whether forward has run at these shapes, ``needs`` which bottoms need a gradient, and
    ``is_active`` whether backward runs this layer.
    """

    layer: Layer
    bottom: list[Blob]
    top: list[Blob]
    shapes: list[tuple[int, ...]] | None
    has_run: bool = False
    needs: list[bool] = field(default_factory=list)
    is_active: bool = False

    @property
    def has_gradients(self) -> bool:
        """Whether any bottom or parameter needs a gradient."""
        return any(self.needs) or any(self.layer.param_propagate_down)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward."""
        return self.layer.multiply_adds(self.bottom, self.top)


def connect(
    layers: list[LayerSpec], classes: Mapping[str, type[Layer]], left_out: Sequence[LayerSpec] = ()
) -> list[LayerSpec]:
    """Copies of the layers with splits, and with defaults for ``bottom``, ``top`` and ``loss_weight`` filled in.

    ``left_out`` are the layers of other phases and stages: an error message may point to one of them.
    Raises SpecError for a missing bottom, a cycle, a wrong number of bottoms or tops, or a top made twice.
    """
    layers = with_defaults(layers, classes)
    for layer in layers:
        _check_counts(layer, classes[layer.type])
    _check_names(layers, left_out)
    layers = _insert_splits(layers)
    _check_in_place(layers, classes)
    return layers


def with_defaults(layers: list[LayerSpec], classes: Mapping[str, type[Layer]]) -> list[LayerSpec]:
    """Copies of the layers with defaults for ``bottom``, ``top`` and ``loss_weight`` filled in."""
    filled: list[LayerSpec] = []
    for spec in layers:
        layer, cls = copy.copy(spec), classes[spec.type]
        layer.bottom, layer.top = list(spec.bottom), list(spec.top)
        if not spec.has("bottom") and not layer.bottom and cls.bottoms[0] > 0:
            layer.bottom = _previous_top(layer, filled)
        if not spec.has("top") and not layer.top and cls.tops[1] != 0:
            layer.top = [layer.name]
        layer.loss_weight = _loss_weights(spec, len(layer.top), cls)
        filled.append(layer)
    return filled


def _previous_top(layer: LayerSpec, before: list[LayerSpec]) -> list[str]:
    if before and before[-1].top:
        return before[-1].top[:1]
    raise layer.error("bottom", "required: there is no layer before with a top to take; add 'bottom: …'")


def _loss_weights(spec: LayerSpec, tops: int, cls: type[Layer]) -> list[float]:
    if not spec.loss_weight:
        return [1.0 if cls.is_loss and i == 0 else 0.0 for i in range(tops)]
    if len(spec.loss_weight) != tops:
        raise spec.error("loss_weight", f"{len(spec.loss_weight)} given for {tops} tops; give one for each")
    return spec.loss_weight


def _check_counts(layer: LayerSpec, cls: type[Layer]) -> None:
    for name, given, (low, high) in (
        ("bottom", layer.bottom, cls.bottoms),
        ("top", layer.top, cls.tops),
    ):
        if len(given) < low or (high is not None and len(given) > high):
            want = f"{low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
            mend = f"; its class says what it takes: {name}s = {(len(given), len(given))}"
            problem = f"{layer.type} takes {want}, got {len(given)}"
            raise layer.error(name, problem + (mend if layer.is_own else ""))
    if layer.propagate_down and len(layer.propagate_down) != len(layer.bottom):
        raise layer.error("propagate_down", f"give one for each of the {len(layer.bottom)} bottoms")


def _check_names(layers: list[LayerSpec], left_out: Sequence[LayerSpec]) -> None:
    maker: dict[str, LayerSpec] = {}
    for index, layer in enumerate(layers):
        for bottom in layer.bottom:
            if bottom not in maker:
                raise _missing_bottom(layer, bottom, maker, layers[index:], left_out)
        for top in layer.top:
            if top in maker and top not in layer.bottom:
                raise layer.error("top", f"'{top}' is a top of layer '{maker[top].name}' already; rename one")
            if layer.top.count(top) > 1:
                raise layer.error("top", f"'{top}' is given twice; rename one")
            maker[top] = layer


def _missing_bottom(
    layer: LayerSpec,
    bottom: str,
    maker: Mapping[str, LayerSpec],
    rest: list[LayerSpec],
    left_out: Sequence[LayerSpec],
) -> SpecError:
    in_rest = (other for other in rest if bottom in other.top)
    later = next((other for other in in_rest if bottom not in other.bottom), None)  # in place is no making
    other = next((other for other in left_out if bottom in (other.top or [other.name])), None)
    if later is None and other is not None:
        return layer.error(
            "bottom",
            f"'{bottom}' is made by layer '{other.name}', which is {other.rules()}; "
            "give this layer the same rule, or make the blob here too",
        )
    if later is None:
        return layer.error("bottom", f"no layer makes the blob '{bottom}'{nearest(bottom, maker)}")
    if _depends(later, layer, rest):
        return layer.error(
            "bottom", f"'{bottom}' is a top of layer '{later.name}', which needs this layer: a cycle"
        )
    return layer.error(
        "bottom", f"'{bottom}' is made further down, by layer '{later.name}'; move that one above"
    )


def _depends(layer: LayerSpec, on: LayerSpec, layers: list[LayerSpec]) -> bool:
    """Whether ``layer`` depends on a top of ``on``, through any chain of layers."""
    reached = set(on.top)
    for _ in layers:
        for other in layers:
            if reached & set(other.bottom):
                reached |= set(other.top)
    return layer is on or bool(reached & set(layer.bottom))


def _insert_splits(layers: list[LayerSpec]) -> list[LayerSpec]:
    uses = _count_uses(layers)
    result: list[LayerSpec] = []
    source: dict[str, tuple[int, int]] = {}
    handed: Counter[tuple[int, int]] = Counter()
    split_tops: dict[tuple[int, int], list[str]] = {}
    for index, layer in enumerate(layers):
        result.append(layer)
        for i, bottom in enumerate(layer.bottom):
            made_by = source[bottom]
            if made_by in split_tops:
                if bottom in layer.top:
                    raise layer.error(
                        "top",
                        f"'{bottom}' feeds other layers too, so it cannot be changed in place; "
                        "give the top a name of its own",
                    )
                layer.bottom[i] = split_tops[made_by][handed[made_by]]
                handed[made_by] += 1
        for i, top in enumerate(layer.top):
            source[top] = (index, i)
            if uses[index, i] > 1:
                split = _make_split(layer, i, uses[index, i])
                result.append(split)
                split_tops[index, i] = split.top
                handed[index, i] = 1 if split.loss_weight[0] else 0
    return result


def _check_in_place(layers: list[LayerSpec], classes: Mapping[str, type[Layer]]) -> None:
    """Raise SpecError for an in-place layer whose type cannot, or that would overwrite what others still read."""
    for index, layer in enumerate(layers):
        for top in set(layer.top) & set(layer.bottom):
            if top != layer.bottom[0] and classes[layer.type].in_place:
                raise layer.error(
                    "top", "only the first bottom can be the top; give the top a name of its own"
                )
            if not classes[layer.type].in_place:
                raise layer.error("top", f"{layer.type} cannot work in place; give the top a name of its own")
            split = next((m for m in _makers(top, layers[:index], classes) if m.type == "Split"), None)
            if split is not None:
                raise layer.error(
                    "top",
                    f"'{split.bottom[0]}', in whose memory '{layer.top[0]}' lies, feeds other layers too; "
                    "give this top a name of its own",
                )


def overwritten_tops(
    layers: list[LayerSpec], classes: Mapping[str, type[Layer]]
) -> dict[str, tuple[LayerSpec, str]]:
    """The layers, by name, whose backward reads a top that a later in-place layer overwrites: that layer, and why.

    Forward is right all the same, so a net that is only used may have them.
    """
    overwritten: dict[str, tuple[LayerSpec, str]] = {}
    for index, layer in enumerate(layers):
        for top in set(layer.top) & set(layer.bottom):
            for maker in _makers(top, layers[:index], classes):
                reads = classes[maker.type].reads_top(maker)
                if reads == "values" or (reads == "sign" and not classes[layer.type].keeps_sign):
                    problem = (
                        f"layer '{maker.name}' needs its top in backward; give this top a name of its own"
                    )
                    overwritten.setdefault(maker.name, (layer, problem))
    return overwritten


def _makers(name: str, before: list[LayerSpec], classes: Mapping[str, type[Layer]]) -> Iterator[LayerSpec]:
    """The layers that wrote into the memory of blob ``name``, the last one first."""
    for maker in reversed(before):
        if name not in maker.top:
            continue
        yield maker
        if classes[maker.type].shares_bottom:
            name = maker.bottom[0]
        elif name not in maker.bottom:
            return


def computed_by(index: int, layers: Sequence[LayerSpec]) -> set[str]:
    """The blobs, by name, that layers with bottoms computed and that no layer after number ``index`` changes."""
    writers: dict[str, list[int]] = {}  # of the memory that a blob lies in
    for i, layer in enumerate(layers):
        for top in layer.top:
            if layer.type == "Split" or layer_classes[layer.type].shares_bottom:
                writers[top] = writers[layer.bottom[0]]
            else:
                writers.setdefault(top, []).append(i)
    return {name for name, found in writers.items() if layers[found[0]].bottom and found[-1] <= index}


def is_gradient_kept(name: str, before: Sequence[LayerSpec]) -> bool:
    """Whether no layer's backward overwrites a blob's gradient; ``before`` are the layers that lead to it."""
    maker = next(layer for layer in reversed(before) if name in layer.top)
    return name not in maker.bottom and not layer_classes[maker.type].shares_bottom


def _count_uses(layers: list[LayerSpec]) -> Counter[tuple[int, int]]:
    """How often each top, given as (layer index, top index), is used as a bottom or as a loss."""
    uses: Counter[tuple[int, int]] = Counter()
    source: dict[str, tuple[int, int]] = {}
    for index, layer in enumerate(layers):
        uses.update(source[bottom] for bottom in layer.bottom)
        for i, top in enumerate(layer.top):
            source[top] = (index, i)
            uses[index, i] += layer.loss_weight[i] != 0
    return uses


def _make_split(layer: LayerSpec, top_index: int, count: int) -> LayerSpec:
    """A Split of one top. A loss weight moves from the layer to the first top of the split."""
    top = layer.top[top_index]
    name = f"{top}_{layer.name}_{top_index}_split"
    split = make_layer_spec("Split", name=name, bottom=[top], top=[f"{name}_{k}" for k in range(count)])
    split.where = layer.where.at(layer=name)
    split.loss_weight = [layer.loss_weight[top_index]] + [0.0] * (count - 1)
    layer.loss_weight = [0.0 if i == top_index else w for i, w in enumerate(layer.loss_weight)]
    return split


def find_outputs(steps: Sequence[Step]) -> list[str]:
    """The names of the tops that no layer takes, sorted, as in Caffe."""
    outputs: set[str] = set()
    for step in steps:
        outputs.difference_update(step.layer.spec.bottom)
        outputs.update(step.layer.spec.top)
    return sorted(outputs)


def find_gradient_starts(steps: Sequence[Step], outputs: Sequence[str]) -> list[str]:
    """The outputs where gradients can start: those of layers with a backward, so not an accuracy."""
    makers = {name: step.layer for step in steps for name in step.layer.spec.top}
    return [name for name in outputs if makers[name].has_backward]


def find_needs(steps: Sequence[Step], forced: bool) -> None:
    """Set ``needs`` of each step: a bottom needs a gradient if parameters lie below it, or all are ``forced``.

    Raises SpecError if ``propagate_down`` asks for a gradient that does not exist.
    """
    needed: set[int] = set()
    for step in steps:
        layer = step.layer
        for i, asked in enumerate(layer.spec.propagate_down):
            if asked and not layer.takes_gradient(i):
                raise layer.spec.error(
                    "propagate_down", f"'{layer.spec.bottom[i]}' can have no gradient here"
                )
        step.needs = layer.spec.propagate_down or [
            layer.takes_gradient(i) and (forced or id(blob) in needed) for i, blob in enumerate(step.bottom)
        ]
        tops = {id(blob) for blob in step.top}
        needed = needed | tops if step.has_gradients else needed - tops


def plan_backward(steps: Sequence[Step], starts: set[str], last: int, tops: set[str]) -> set[str]:
    """Set ``is_active`` of each step: whether it lies between a start of gradients and something that needs one.

    Gradients start at the losses, at the blobs in ``starts``, and at ``tops`` of step ``last``. Returns the
    names of the bottoms that get one.
    """
    live, reached = set(starts), set()
    for i, step in reversed(list(enumerate(steps))):
        spec = step.layer.spec
        if i == last:
            live |= tops
        step.layer.top_has_gradient = [
            name in live or weight != 0 for name, weight in zip(spec.top, spec.loss_weight, strict=True)
        ]
        step.is_active = step.has_gradients and any(step.layer.top_has_gradient)
        live -= set(spec.top)
        if step.is_active:
            needing = {name for name, needed in zip(spec.bottom, step.needs, strict=True) if needed}
            live |= needing
            reached |= needing
    return reached


class UnusedNames:
    """Names for layers, blobs and nodes that are added to a net; ``taken`` are the names it has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def like(self, name: str) -> str:
        """The name, made longer if it is taken. It is taken from now on."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

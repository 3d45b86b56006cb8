"""The layers that a net's spec lists, those of the net's own phase and those of the other one.

Levels and stages are those that the net was made with. A layer that differs between the phases, in its default
bottom or in the size of its top, becomes two layers, one for each phase.
"""

from __future__ import annotations

from collections.abc import Iterator

from minicaffe.core.graph import with_defaults
from minicaffe.core.layer import layer_classes
from minicaffe.core.net import Net
from minicaffe.errors import MinicaffeError, SpecError, joined
from minicaffe.layers.pooling import PoolingParam
from minicaffe.spec.net import LayerSpec, NetState, make_state


class BothPhases:
    """``layers`` are the specs, with bottoms and tops written out, each with its phase; "" for both.

    ``notes`` are lines about what is left out. ``other`` is the net of the other phase, made when it is needed;
    ``close`` lets go of it.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.notes: list[str] = []
        self._made: Net | MinicaffeError | None = None
        self.layers = list(self._listed())

    @property
    def other(self) -> Net:
        """The net of the other phase. Raises what ``Net`` raises: its data may not be on this machine."""
        if self._made is None:
            state = self._other_state()
            try:
                self._made = Net(
                    self.net.spec,
                    phase=state.phase,
                    level=state.level,
                    stages=state.stage,
                    trusted=self.net.trusted,
                )
            except MinicaffeError as error:
                self._made = error
        if isinstance(self._made, MinicaffeError):
            raise type(self._made)(*self._made.args)
        return self._made

    def close(self) -> None:
        """Let go of the data of the other phase."""
        if isinstance(self._made, Net):
            self._made.close()

    def _other_state(self) -> NetState:
        state = self.net.state
        return make_state("TRAIN" if state.phase == "TEST" else "TEST", state.level, state.stage)

    def _listed(self) -> Iterator[tuple[LayerSpec, str]]:
        state, other = self.net.state, self._other_state()
        inputs, mine = self._filled(state)
        yield from ((layer, "") for layer in inputs)
        try:
            _, its = self._filled(other)
        except SpecError as error:
            self.notes.append(f"phase {other.phase} is left out: {error}")
            yield from ((layer, "") for layer in mine.values())
            return
        for i, layer in enumerate(self.net.spec.layer or self.net.spec.layers):
            if i in mine and i in its and mine[i].bottom == its[i].bottom and self._has_one_size(mine[i]):
                yield mine[i], ""
            elif i in mine or i in its:
                parts = ((mine, state.phase), (its, other.phase))
                yield from ((part[i], phase) for part, phase in parts if i in part)
            else:
                self.notes.append(joined(f"layer '{layer.name}': left out, being of another level or stage"))

    def _filled(self, state: NetState) -> tuple[list[LayerSpec], dict[int, LayerSpec]]:
        """The layers of a state, with defaults: those for the spec's ``input``, and the others by their index."""
        listed = self.net.spec.layer or self.net.spec.layers
        indices = [i for i, layer in enumerate(listed) if layer.belongs_to(state)]
        filled = with_defaults(self.net.spec.layers_in(state), layer_classes)
        first = len(filled) - len(indices)
        return filled[:first], dict(zip(indices, filled[first:], strict=True))

    def _has_one_size(self, spec: LayerSpec) -> bool:
        """Whether a layer of both phases sees images of one size in both, as far as the other's data are there."""
        pooling = spec.find_message(PoolingParam)
        if pooling is None or pooling.rounds_up:
            return True
        try:
            other = self.other
        except MinicaffeError:
            return True
        mine, its = (net.blobs[spec.bottom[0]].shape[2:] for net in (self.net, other))
        return mine == its

"""Whether a net can run in the report's page, what the page runs then, and otherwise what stands in the way."""

from __future__ import annotations

from typing import Any

from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.program import NotLive, Program, program_of
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.weights import F16, precision
from minicaffe.train.preview import count_multiply_adds, count_parameters

MOST_WORK = 200_000_000  # multiply-adds of one image that a page has time for: about a second
SMALL = 1024  # numbers: smaller parameters are float32 in any net


def live(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """``live`` of the page: ``on``, ``why`` not, and the engine's ``input``, ``steps`` and ``params``.

    ``params`` are references to arrays that are no blob of a layer, as the factors of weights; ``order`` names the
    layers that run; ``dtype`` is the precision of the weights.
    """
    dtype = precision(recording, options)
    try:
        program = runnable(recording, options)
    except NotLive as error:
        return {"on": False, "why": str(error), "dtype": None, "order": []}
    own = {f"{layer.name}/{i}" for layer in recording.layers for i in range(len(layer.params))}
    params = {
        key: packer.add(
            array, "f32" if array.size <= SMALL else dtype or "f32", f"{key.split('/')[0]}/weights"
        )
        for key, array in program.params.items()
        if key not in own
    }
    order = list(dict.fromkeys(step["layer"] for step in program.steps))
    steps = {"input": program.input, "steps": program.steps, "params": params}
    return {"on": True, "why": None, "dtype": dtype, "order": order, **steps}


def runnable(recording: Recording, options: Options) -> Program:
    """The net as a program for the page. Raises NotLive, which says why there is none."""
    net = recording.net
    params, work = count_parameters(net)[0], count_multiply_adds(net)
    if recording.answer is None:
        raise NotLive("the net has no scores of classes, by which the page could check itself")
    if recording.images[0].arrays[recording.input].shape[:1] != (1,):
        raise NotLive(f"its input '{recording.input}' is no single image")
    if params > F16:
        raise NotLive(f"{params:,} parameters are more than the {F16:,} that a page can carry")
    if precision(recording, options) is None:
        raise NotLive(
            f"{params:,} parameters take too much of a page of {options.max_size:g} MB (--max-size)"
        )
    if work > MOST_WORK:
        raise NotLive(f"{work:,} multiply-adds are more than the {MOST_WORK:,} that a page has time for")
    keys = [(layer.bottoms, layer.tops) for layer in recording.layers]
    return program_of(net, recording.input_stage, recording.answer, keys)

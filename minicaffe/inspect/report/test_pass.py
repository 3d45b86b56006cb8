"""The test pass: images of the test data go through the net once, and all that a report tells of them is collected.

result = test_pass(net, 1000)
result.confusion.counts          # (C, C), rows true, columns said
result.dead["relu1"]             # the share of units that are 0 for all images
result.patches["conv2"]          # what its channels fire most for, uint8 (channels, 6, h, w, 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.net import Net
from minicaffe.errors import MinicaffeError, one_line
from minicaffe.inspect.confusion import Confusion
from minicaffe.inspect.report.answered import AnswerCollector, Answered, Example
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.patches import PatchCollector
from minicaffe.inspect.report.pictures import has_data
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.test_run import Collector, run_test_pass
from minicaffe.inspect.report.units import UnitCollector
from minicaffe.ops.convolution.geometry import ReceptiveField

FEWEST = 100  # images, before a unit that is always 0 is called dead
ROOM = 1_000_000  # bytes
# Shares of the file, as bytes of pixels, which become a third more as text: of view 8's pictures, and of patches.
PICTURES, PATCHES = 0.11, 0.04


@dataclass(frozen=True, eq=False)
class TestPass:
    """What ``count`` test images tell of a net. Dictionaries are by the name of a layer.

    ``confusion`` is None where no layer compares scores with labels: ``no_confusion`` says why. ``cells[true,
    said]`` and ``mistakes`` are places in ``examples``, the most confident first; ``pictures`` are uint8 (k, h,
    w, 3).

    ``dead`` and ``always_on`` are the shares of units of each ReLU that are 0 for all images, and above 0 for
    all; {} with fewer than 100 images. A unit is a number of a vector; or a whole map, which is 0 or above 0
    everywhere. ``dead_units`` are the numbers of the dead ones.

    ``patches[layer][c]`` are the 6 parts of images, uint8 (6, h, w, 3), for which channel c of a convolution is
    largest, each of another image, the largest first; for ``patch_values[layer][c]``, (6,). Both for the first
    channels only if all would take too much room.
    """

    count: int
    confusion: Confusion | None = None
    no_confusion: str = ""
    examples: Sequence[Example] = ()
    cells: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    mistakes: Sequence[int] = ()
    pictures: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    dead: dict[str, float] = field(default_factory=dict)
    always_on: dict[str, float] = field(default_factory=dict)
    dead_units: dict[str, list[int]] = field(default_factory=dict)
    patches: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    patch_values: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    fields: dict[str, ReceptiveField] = field(default_factory=dict)

    __test__ = False  # pytest would take it for a test


def test_pass(net: Net, most: int, room: int = ROOM, patch_room: int = ROOM) -> TestPass:
    """Everything that the views tell of test images, from one pass over ``most`` of them (``run_test_pass``).

    ``room`` bounds the bytes of the pictures, ``patch_room`` those of patches. Raises SpecError.
    """
    units, patches = UnitCollector(net), PatchCollector(net, patch_room)
    collectors: list[Collector] = [units, patches]
    answers, problem = None, ""
    try:
        answers = AnswerCollector(net)
        collectors.append(answers)
    except MinicaffeError as error:
        problem = one_line(error)
    count = run_test_pass(net, most, collectors)
    dead, always_on, dead_units = units.shares() if count >= FEWEST else ({}, {}, {})
    found = answers.found(room) if answers else Answered()
    return TestPass(
        count, found.confusion, problem, found.examples, found.cells, found.mistakes, found.pictures, dead,
        always_on, dead_units, patches.patches(), patches.values(), patches.fields,
    )  # fmt: skip


test_pass.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


_passes: WeakKeyDictionary[Recording, TestPass] = WeakKeyDictionary()


def tested(recording: Recording, options: Options) -> TestPass | None:
    """What ``options.test`` test images tell of a recorded net, run once for all views.

    None for a net without data, or for 0 images. Raises what the net's data raise.
    """
    if not options.test or not has_data(recording.net):
        return None
    if recording not in _passes:
        room, patch_room = options.budget(PICTURES), options.budget(PATCHES)
        _passes[recording] = test_pass(recording.net, options.test, room, patch_room)
    return _passes[recording]

"""The test pass of a report: run once, for all views that tell of it."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pictures import has_data
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.test_pass import TestPass, test_pass

# Shares of the file, as bytes of pixels, which become a third more as text: of view 8's pictures, and of patches.
PICTURES, PATCHES = 0.11, 0.04

_passes: WeakKeyDictionary[Recording, TestPass] = WeakKeyDictionary()


def tested(recording: Recording, options: Options) -> TestPass | None:
    """What ``options.test`` test images tell of a recorded net; None for a net without data, or for 0 images.

    Raises what the net's data raise.
    """
    if not options.test or not has_data(recording.net):
        return None
    if recording not in _passes:
        room, patch_room = options.budget(PICTURES), options.budget(PATCHES)
        _passes[recording] = test_pass(recording.net, options.test, room, patch_room)
    return _passes[recording]

"""The test pass of a report: run once, for all views that tell of it."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pictures import has_data
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.test_pass import TestPass, test_pass

_passes: WeakKeyDictionary[Recording, TestPass] = WeakKeyDictionary()


def tested(recording: Recording, options: Options) -> TestPass | None:
    """What ``options.test`` test images tell of a recorded net; None for a net without data, or for 0 images.

    Raises what the net's data raise.
    """
    if not options.test or not has_data(recording.net):
        return None
    if recording not in _passes:
        _passes[recording] = test_pass(recording.net, options.test)
    return _passes[recording]

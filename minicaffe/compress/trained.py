"""A trained net with all its weights: what is measured of a net that is random in part says nothing of it."""

from __future__ import annotations

from pathlib import Path

from minicaffe.core.net import Net
from minicaffe.core.weights import used_as_they_are
from minicaffe.errors import MinicaffeError, WeightError
from minicaffe.spec.net import NetSpec

GIVE_ITS_OWN = "give weights of this net"


def trained(spec: str | Path | NetSpec, weights: str | Path, advice: str = GIVE_ITS_OWN) -> Net:
    """A net in phase TEST with the weights of a file.

    Raises WeightError where these lack a layer, and where they do not fit, with ``advice``.
    """
    net = Net(spec, phase="test", seed=0)
    try:
        with used_as_they_are(advice):
            problem = net.copy_from(weights).problem(weights)
        if problem:
            raise WeightError(f"{problem}; {GIVE_ITS_OWN}")
    except MinicaffeError:
        net.close()
        raise
    return net

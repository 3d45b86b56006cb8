"""Which way results are computed: what a convolution's spec says, or what is chosen for a whole run.

``CAFFE``      the direct sum, as one GEMM over the data matrix, in a fixed order (``convolution/in_order.py``);
               as the engine of a run, other layers add up in that order, too
``WINOGRAD``   fewer products for windows of 3 × 3 (``winograd.py``) or 5 wide (``winograd_rows.py``), with several
               times the rounding
``DEFAULT``    on a CPU the faster of the two, as a model of their times says; on a GPU the direct sum
"""

from __future__ import annotations

import os

from minicaffe.errors import MinicaffeError

ENGINES = ("DEFAULT", "CAFFE", "WINOGRAD")
_chosen: str | None = None


def set_engine(name: str) -> None:
    """Choose the engine of convolutions that are made, and of sums that are taken, from now on.

    With "default" each layer's spec chooses.

    Raises MinicaffeError for a name that is none.
    """
    global _chosen
    if name.upper() not in ENGINES:
        raise MinicaffeError(
            f"engine '{name}': must be {', '.join(ENGINES[:-1]).lower()} or {ENGINES[-1].lower()}"
        )
    _chosen = name.upper()


def engine_of_run() -> str:
    """The chosen engine; if none was chosen, the one in MINICAFFE_ENGINE, or else DEFAULT."""
    if _chosen is None:
        try:
            set_engine(os.environ.get("MINICAFFE_ENGINE") or "DEFAULT")
        except MinicaffeError as error:
            raise MinicaffeError(f"environment variable MINICAFFE_ENGINE: {error}") from None
    return _chosen or "DEFAULT"


def keeps_order() -> bool:
    """Whether the run asks for sums in their fixed order, where another is faster."""
    return engine_of_run() == "CAFFE"


def engine_for(engine: str) -> str:
    """The engine of a layer whose spec says ``engine`` (CUDNN there is DEFAULT): the run's, where one is chosen."""
    of_run = engine_of_run()
    if of_run != "DEFAULT":
        return of_run
    return engine if engine in ENGINES else "DEFAULT"

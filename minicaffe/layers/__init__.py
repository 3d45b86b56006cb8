"""The layer types, one file each: every file here is imported, and registers what it defines.

Some files have no type of their own, but what several share: ``neuron``, ``loss``, ``ctc``, ``batch_source``,
``in_place``, ``matrix_product``, ``recurrent``. The folder ``stand_ins`` holds classes that Python layers name
(``python.py``). The low-rank variants are in ``minicaffe/low_rank``.
"""

from typing import TYPE_CHECKING, Any

from minicaffe.startup import import_all

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """``minicaffe.layers.relu``: a type checker does not see what ``import_all`` imports."""


import_all(__name__)

"""The layer types, one file each: a new file here is a new type.

The low-rank variants, which have no type of their own, are in ``minicaffe/low_rank``.
"""

from importlib import import_module
from pkgutil import iter_modules

for module in iter_modules(__path__, f"{__name__}."):
    import_module(module.name)  # which registers the layer

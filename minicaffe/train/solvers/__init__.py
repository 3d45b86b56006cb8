"""The update rules, one file each: a new file here is a new rule."""

from importlib import import_module
from pkgutil import iter_modules

for module in iter_modules(__path__, f"{__name__}."):
    import_module(module.name)  # which registers the rule

"""Python: a layer written by the user, found by the names of its module and class (Caffe's PythonLayer).

    class Double(minicaffe.Layer):
        def setup(self, bottom, top): ...           # self.param_str is the spec's text
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top):
            top[0].data[...] = 2 * bottom[0].data
        def backward(self, top, propagate_down, bottom):
            if propagate_down[0]:
                bottom[0].diff[...] = 2 * top[0].diff

``reshape`` runs before every forward, as in Caffe: a layer may draw its batch there, and shape its tops to fit.
The module is looked up in the spec's folder first, then in the working directory and on ``sys.path``. Importing it
runs its code: ``spec/trust.py`` says when that is allowed. A class registered with ``minicaffe.register_layer``
needs no module name in the spec.

For some modules that nets name, but that nobody can import any more, this package has layers of its own: classes
under ``stand_in``, in the folder ``stand_ins``. They take the place of a module that cannot be imported, or must
not be; a warning says so.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from minicaffe.core.layer import Layer, LayerClass, NetSetting, register_layer
from minicaffe.errors import SpecError, one_line
from minicaffe.spec.fields import Bool, Message, String
from minicaffe.spec.net import LayerSpec
from minicaffe.spec.reader import nearest
from minicaffe.spec.trust import UntrustedError

logger = logging.getLogger("minicaffe")
stand_ins: dict[tuple[str, str], type[Layer]] = {}  # by the names of a module and of a class in it
own_modules: set[str] = set()  # the names, at the top, of the modules that ``import_own`` has imported


class PythonParam(Message):
    """``param_str`` is passed to the layer unchanged; ``share_in_parallel`` is ignored."""

    module = String(required=True)
    layer = String(required=True)
    param_str = String("")
    share_in_parallel = Bool(False)


@register_layer
class Python(Layer):
    """Makes a layer of the class that ``python_param`` names; that layer takes this one's place in the net."""

    messages = {"python_param": PythonParam}
    in_place = True
    bottoms = (0, None)
    tops = (0, None)
    param_str: str

    def __new__(cls, spec: LayerSpec, setting: NetSetting) -> Layer:  # type: ignore[misc]  # of another class
        """The user's layer. Raises SpecError if it is not found."""
        param = spec.message(PythonParam)
        if (own := _stand_in_for(param, setting)) is not None:
            return own(spec, setting)
        if not setting.trust.runs_python:
            raise UntrustedError(str(_refusal(param, setting.folder)))
        found = find_layer_class(param, setting.folder)
        layer: Layer = (
            found(spec, setting) if issubclass(found, Layer) else found.as_core_layer(spec, setting)
        )
        layer.param_str = param.param_str  # type: ignore[attr-defined]  # read by the user's class only
        layer.reshapes_always = True
        return layer


def stand_in(module: str, layer: str) -> Callable[[LayerClass], LayerClass]:
    """Let the decorated class take the place of a class of a module that cannot be imported."""

    def enter(cls: LayerClass) -> LayerClass:
        stand_ins[module, layer] = cls
        return cls

    return enter


def _stand_in_for(param: PythonParam, setting: NetSetting) -> type[Layer] | None:
    """The class that has to take the place of the one that ``param`` names; None if there is none, or no need."""
    own = stand_ins.get((param.module, param.layer))
    if own is None:
        return None
    why = "is not imported here"
    if setting.trust.runs_python:
        try:
            import_own(param.module, Path(setting.folder))
            return None
        except Exception as error:
            why = f"cannot be imported ({type(error).__name__})"
    once = f"{param.module}.{param.layer}"
    if once in setting.told:
        return own
    setting.told.add(once)
    logger.warning(
        "%s: %s; minicaffe's own %s takes its place, with that one's defaults where param_str says nothing",
        *(param.where.at(line=param.line("module"), field="module"), f"'{param.module}' {why}", param.layer),
    )
    return own


def find_layer_class(param: PythonParam, folder: str) -> type[Any]:
    """The class that ``param`` names: a minicaffe or a pycaffe Layer. Raises SpecError if there is none."""
    module = find_module(param, Path(folder))
    cls = getattr(module, param.layer, None)
    if cls is None:
        raise param.error(
            "layer",
            f"module '{param.module}' has no class '{param.layer}'{nearest(param.layer, vars(module))}",
        )
    if not (isinstance(cls, type) and (issubclass(cls, Layer) or hasattr(cls, "as_core_layer"))):
        raise param.error("layer", f"'{param.layer}' is not a layer; make it a subclass of minicaffe.Layer")
    return cls


def find_module(param: PythonParam, folder: Path) -> ModuleType:
    """The imported module. Raises SpecError if it is missing, fails, or is a different one of the same name."""
    try:
        module = import_own(param.module, folder)
    except Exception as error:
        raise param.error("module", import_problem(param.module, folder, error)) from error
    beside_spec = folder.joinpath(*param.module.split(".")).with_suffix(".py")
    loaded = getattr(module, "__file__", None)
    if beside_spec.exists() and (loaded is None or not beside_spec.samefile(loaded)):
        raise param.error(
            "module",
            f"'{param.module}' is already loaded from {loaded}, so {beside_spec} cannot be loaded; rename it",
        )
    return module


class _Finder:
    """Finds a single module or package in some folders."""

    def __init__(self, name: str, folders: list[str]) -> None:
        self.name, self.folders = name, folders

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Called by the import system: where the module is; None for any other, and for a plain folder."""
        found = PathFinder.find_spec(name, self.folders) if name == self.name else None
        return found if found is not None and found.origin else None


class _LastFinder:
    """Finds in some folders what no other finder has found.

    Adding the folders to the end of ``sys.path`` would not be enough: a file there is preferred to an installed
    package without an ``__init__.py``, such as ``google``.
    """

    def __init__(self, folders: list[str]) -> None:
        self.folders = folders

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Called by the import system: where a top-level module or package is."""
        return PathFinder.find_spec(name, self.folders) if path is None else None


def import_own(name: str, folder: Path) -> ModuleType:
    """Import a user's module from ``folder``, the working directory or ``sys.path``, and log which one it is.

    The two folders come first for this module only. What it imports in turn is looked up in them last, so that a
    file there cannot replace an installed package. Raises what importing raises.
    """
    folders = [str(folder.absolute()), ""]
    finder, last = _Finder(name.partition(".")[0], folders), _LastFinder(folders)
    own_modules.add(finder.name)
    importlib.invalidate_caches()
    sys.meta_path.insert(0, finder)
    sys.meta_path.append(last)
    try:
        if name not in sys.modules and (found := _find(name)):
            logger.info("Importing %s from %s", name, found.origin or "a folder")
        return importlib.import_module(name)
    finally:
        sys.meta_path.remove(finder)
        sys.meta_path.remove(last)


def _find(name: str) -> ModuleSpec | None:
    """Where ``import name`` will find a module, looked up without running the packages around it."""
    package = name.rpartition(".")[0]
    if not package:
        return importlib.util.find_spec(name)
    if package in sys.modules:
        places = getattr(sys.modules[package], "__path__", None)
    else:
        found = _find(package)
        places = found and found.submodule_search_locations
    return PathFinder.find_spec(name, [*places]) if places else None


def place_in_own(error: BaseException) -> str | None:
    """Where a user's module was when it raised an error, or called what did: "file.py:12"; None if none was."""
    place, trace = None, error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__")).partition(".")[0] in own_modules:
            place = f"{frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _refusal(param: PythonParam, folder: str) -> SpecError:
    beside = Path(folder, f"{param.module.replace('.', '/')}.py")
    place = f" ({beside})" if beside.is_file() else ""
    return param.error(
        "module",
        f"'{param.module}'{place} is code, and code is not run here; if you trust it, add --allow-python",
    )


def import_problem(name: str, folder: Path, error: Exception) -> str:
    """The message for an ``error`` that ``import_own`` has raised."""
    if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
        return f"no module '{name}' in {folder.resolve()} or on sys.path (PYTHONPATH); check the name"
    problem = one_line(error)
    fix = (
        "; in that module, write 'import minicaffe.pycaffe as caffe'"
        if getattr(error, "name", "") == "caffe"
        else ""
    )
    return f"importing '{name}' fails: {type(error).__name__}: {problem}{fix}"

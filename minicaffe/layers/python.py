"""Python: a layer that the user has written, found by module and class name (Caffe's PythonLayer).

    class Double(minicaffe.Layer):
        def setup(self, bottom, top): ...           # self.param_str is the spec's text
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top):
            top[0].data[...] = 2 * bottom[0].data
        def backward(self, top, propagate_down, bottom):
            if propagate_down[0]:
                bottom[0].diff[...] = 2 * top[0].diff

``reshape`` runs before every forward, as in Caffe: a layer may draw its batch there, and shape its tops by it.
The module is looked up in the spec's folder first, then on ``sys.path``. Importing it runs its code: use specs
and modules that you trust. ``minicaffe.register_layer`` does without the module's name in the spec.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from minicaffe.errors import SpecError, one_line
from minicaffe.layer import Layer, Setting, register_layer
from minicaffe.spec.fields import Bool, Message, String
from minicaffe.spec.net import LayerSpec
from minicaffe.spec.reader import nearest


class PythonParam(Message):
    """``param_str`` is handed to the layer as it is; ``share_in_parallel`` means nothing here."""

    module = String(required=True)
    layer = String(required=True)
    param_str = String("")
    share_in_parallel = Bool(False)


@register_layer
class Python(Layer):
    """Makes a layer of the class that ``python_param`` names, and steps back: the net holds that one."""

    messages = {"python_param": PythonParam}
    in_place = True
    bottoms = (0, None)
    tops = (0, None)
    param_str: str

    def __new__(cls, spec: LayerSpec, setting: Setting) -> Layer:
        """The user's layer. Raises SpecError where it is not found."""
        found = find_layer_class(spec.python_param, setting.folder)
        layer = found(spec, setting) if issubclass(found, Layer) else found.as_core_layer(spec, setting)
        layer.param_str = spec.python_param.param_str
        layer.reshapes_always = True
        return layer


def find_layer_class(param: PythonParam, folder: str) -> type:
    """The class that ``param`` names: a Layer, ours or pycaffe's. Raises SpecError where there is none."""
    module = find_module(param, Path(folder))
    cls = getattr(module, param.layer, None)
    if cls is None:
        raise param.error(
            "layer",
            f"module '{param.module}' has no class '{param.layer}'{nearest(param.layer, vars(module))}",
        )
    if not (isinstance(cls, type) and (issubclass(cls, Layer) or hasattr(cls, "as_core_layer"))):
        raise param.error("layer", f"'{param.layer}' is no layer; make it a subclass of minicaffe.Layer")
    return cls


def find_module(param: PythonParam, folder: Path) -> ModuleType:
    """The imported module. Raises SpecError where it is missing, fails, or is another of the same name."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(param.module)
    except Exception as error:
        raise _import_error(param, folder, error) from error
    finally:
        sys.path.remove(str(folder))
    beside_spec = folder.joinpath(*param.module.split(".")).with_suffix(".py")
    loaded = getattr(module, "__file__", None)
    if beside_spec.exists() and (loaded is None or not beside_spec.samefile(loaded)):
        raise param.error(
            "module",
            f"'{param.module}' is loaded from {loaded} already, so {beside_spec} cannot be; rename it",
        )
    return module


def _import_error(param: PythonParam, folder: Path, error: Exception) -> SpecError:
    if isinstance(error, ModuleNotFoundError) and f"{param.module}.".startswith(f"{error.name}."):
        return param.error(
            "module",
            f"no module '{param.module}' in {folder.resolve()} or on sys.path (PYTHONPATH); check the name",
        )
    problem = one_line(error)
    mend = (
        "; in that module, write 'import minicaffe.pycaffe as caffe'"
        if getattr(error, "name", "") == "caffe"
        else ""
    )
    return param.error("module", f"importing '{param.module}' fails: {type(error).__name__}: {problem}{mend}")

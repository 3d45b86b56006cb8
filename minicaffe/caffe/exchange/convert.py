"""Caffe's net, weights and mean image, written as a YAML spec and .npz files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minicaffe.caffe.formats.data_files import follow_spec
from minicaffe.caffe.formats.specs import net_tree
from minicaffe.caffe.formats.tree import Scalar, Tree, as_yaml
from minicaffe.caffe.formats.upgrade import add_input_layer
from minicaffe.caffe.formats.yaml_text import yaml_text
from minicaffe.core.layer import layer_classes
from minicaffe.core.net import Net
from minicaffe.data.mean import load_mean
from minicaffe.data.preparation import default_preparation
from minicaffe.device.array import to_host
from minicaffe.errors import DataError, SpecError, WeightError
from minicaffe.files.atomic import make_folder, refuse_overwriting, write_text
from minicaffe.files.npz import save_arrays
from minicaffe.files.spec_formats import has_weights
from minicaffe.files.weight_formats import open_weights
from minicaffe.files.weight_reader import WeightReader
from minicaffe.spec.net import LayerSpec, NetSpec, parse_net
from minicaffe.spec.reader import Where, nearest
from minicaffe.spec.trust import UntrustedError

logger = logging.getLogger("minicaffe")
Shapes = Mapping[str, Sequence[int]]


@dataclass
class Converted:
    """The files that ``convert`` has written."""

    spec: Path
    weights: Path | None
    mean: Path | None


def convert(
    net: str | Path,
    caffemodel: str | Path | None = None,
    out_dir: str | Path = ".",
    *,
    mean: str | Path | None = None,
    input_shapes: Shapes | None = None,
    level: int = 0,
    stages: Iterable[str] = (),
) -> Converted:
    """Write Caffe's net as YAML, its weights and mean image as .npz, into ``out_dir``.

    ``net`` is a .prototxt, or a .caffemodel, of which the net and the weights are taken; ``caffemodel`` has the
    weights; ``mean`` is a .binaryproto. Files keep their names, with other endings. ``input_shapes`` gives blobs of
    a data layer a shape, (N, C, H, W): an Input layer then takes the place of the data layer. The weights are
    checked against the net of this ``level`` and these ``stages``, if its data are there. Raises SpecError,
    ShapeError, WeightError or DataError before anything is written, and WriteError; the spec is written last.
    """
    net, out_dir = Path(net), Path(out_dir)
    caffemodel = net if caffemodel is None and has_weights(net) else caffemodel
    tree = _read(net)
    _replace_inputs(tree, dict(input_shapes or {}), net)
    files = Converted(out_dir / f"{net.stem}.yaml", None, None)
    arrays: dict[str, np.ndarray] = {}
    image = None if mean is None else load_mean(Path(mean))
    spec = NetSpec.read(as_yaml(tree), Where(str(net)))
    read = [net, caffemodel, mean, *spec.files_named()]
    if caffemodel is not None:
        files.weights = out_dir / f"{_stem(caffemodel)}.npz"
        arrays = _weights(spec, caffemodel, level, stages, image)
    _follow(tree, net, out_dir)
    if mean is not None:
        files.mean = out_dir / f"{_stem(mean)}.npz"
        if files.mean == files.weights:
            files.mean = out_dir / f"{_stem(mean)}_mean.npz"
        _name_mean(tree, Path(mean).name, files.mean.name)
    text = _text(tree, net)
    parse_net(text, str(files.spec))
    outputs = [file for file in (files.spec, files.weights, files.mean) if file]
    refuse_overwriting(outputs, read)
    make_folder(out_dir)
    if files.weights:
        save_arrays(arrays, files.weights)
    if files.mean and image is not None:
        save_arrays({"mean": image}, files.mean)
    write_text(files.spec, text)
    return files


def text_for(net: Path, folder: Path) -> str:
    """The YAML text of Caffe's net, for a file in ``folder``. Raises SpecError."""
    tree = _read(net)
    _follow(tree, net, folder)
    return _text(tree, net)


def _follow(tree: Tree, net: Path, folder: Path) -> None:
    """Let the files that a net names be found from a folder."""
    for layer in tree.trees("layer"):
        follow_spec(layer, net.parent, folder)


def _text(tree: Tree, net: Path) -> str:
    spec = NetSpec.read(as_yaml(tree), Where(str(net)))
    return yaml_text(tree, spec, f"Converted from Caffe's {_on_one_line(net.name)}.")


def _read(path: Path) -> Tree:
    tree = net_tree(path)
    if "base_lr" in tree.fields:
        raise SpecError(f"{path}: is a solver spec; it need not be converted: 'minicaffe train {path}'")
    return tree


def _stem(path: str | Path) -> str:
    """The name without its ending: w of w.caffemodel, and of w.caffemodel.h5."""
    return Path(Path(path).name.removesuffix(".h5")).stem


def _on_one_line(name: str) -> str:
    """A file's name as a comment can have it: without line breaks and letters that YAML refuses."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())


# -- weights and mean --------------------------------------------------------------------------------------


def _weights(
    spec: NetSpec, path: str | Path, level: int, stages: Iterable[str], mean: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The arrays of the file that belong to the net, with the preparation of its pictures where that is known.

    Raises WeightError where they do not fit the net.
    """
    with open_weights(path) as file:
        try:
            net = Net(spec, phase="test", level=level, stages=stages)
        except (DataError, UntrustedError) as error:
            lacks = "data are not there" if isinstance(error, DataError) else "code is not run"
            logger.warning("The weights are not checked against the net, whose %s (%s)", lacks, error)
            arrays = _arrays(file, {layer.name for layer in spec.layer})
            if not arrays:
                problem = "has no layer of this net; these are another net's weights"
                raise WeightError(f"{path}: {problem}") from None
            return arrays
        with closing(net):
            arrays = _checked(
                net, file, _arrays(file, {x.name for x in spec.layer} - {x.name for x in net.layers})
            )
            return {**arrays, **_preparation(net, mean)}


def _preparation(net: Net, mean: np.ndarray | None) -> dict[str, np.ndarray]:
    """How pictures are prepared: by data layers, or as is usual in Caffe, with the centre of the mean image."""
    if net.preparation is not None or mean is None:
        return net.preparation_arrays()
    shapes = [net.blobs[name].shape for name in net.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != len(mean):
        return {}
    (_, channels, *size), sides = shapes[0], mean.shape[1:]
    if min(size) < 1 or any(small > large for small, large in zip(size, sides, strict=True)):
        return {}
    y, x = ((large - small) // 2 for small, large in zip(size, sides, strict=True))
    cut = mean[:, y : y + size[0], x : x + size[1]]
    found = replace(
        default_preparation(channels),
        image_dims=(sides[0], sides[1]),
        raw_scale=255.0,
        mean=cut,
        as_bytes=True,
    )
    return found.arrays()


def _checked(net: Net, file: WeightReader, others: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The net's arrays, if those of the file fit it, and ``others``, of layers that are not in this net."""
    if others and not set(file.layers()) & set(net.params):
        logger.warning("The weights are not checked against the net: they are of other stages (--stage)")
        return others
    report = net.copy_from(file)
    if report.missing:
        logger.warning(report.problem(file))
    arrays = {
        f"{name}/{i}": to_host(b.data) for name in report.matched for i, b in enumerate(net.params[name])
    }
    return {**arrays, **others}


def _arrays(file: WeightReader, names: set[str]) -> dict[str, np.ndarray]:
    """The arrays of the file for layers of these names."""
    layers = file.layers()
    return {key: file.read(key) for name in names & set(layers) for key in layers[name]}


def _name_mean(tree: Tree, old: str, new: str) -> None:
    """Let ``transform_param.mean_file`` name the converted mean image where it named the old one."""
    for layer in tree.trees("layer"):
        for param in layer.trees("transform_param"):
            for value in param.scalars("mean_file"):
                if Path(value.text).name == old:
                    value.text = new


# -- inputs in place of data layers ------------------------------------------------------------------------


def _replace_inputs(net: Tree, shapes: dict[str, Sequence[int]], path: Path) -> None:
    """Put Input layers with these shapes in the place of layers without bottoms that make blobs of these names."""
    known = net.texts("input")
    lacking = [name for name in known if name not in shapes]
    if known and not lacking:
        add_input_layer(net, [_shape(shapes[name]) for name in known])
    elif set(known) & set(shapes):
        raise SpecError(f"{path}: input: give an input shape for '{lacking[0]}' too")
    kept: list[Tree] = []
    replaced: set[str] = set()
    for layer in net.trees("layer"):
        tops = layer.texts("top")
        if layer.texts("bottom") or not set(tops) & set(shapes):
            known += [] if layer.texts("bottom") else tops
            kept.append(layer)
        elif not set(tops) <= replaced:  # else it is another phase's layer for the same blobs
            kept.append(_input_for(layer, shapes, path))
            replaced |= set(tops)
    for name in shapes:
        if name not in replaced:
            hint = nearest(name, known) or f"; they are {', '.join(dict.fromkeys(known)) or 'none'}"
            raise SpecError(f"{path}: input shape for '{name}': no data or Input layer makes it{hint}")
    net.fields["layer"] = list(kept)


def _input_for(layer: Tree, shapes: dict[str, Sequence[int]], path: Path) -> Tree:
    """An Input layer with the name and the tops of a data layer."""
    tops = layer.texts("top")
    given = {name: tuple(shapes[name]) for name in tops if name in shapes}
    if tops[0] in given:
        for name, beside in zip(tops[1:], _others(layer, given[tops[0]], path), strict=False):
            given.setdefault(name, beside)
    for name, shape in zip(tops, layer.child("input_param").trees("shape"), strict=False):
        given.setdefault(name, tuple(map(int, shape.texts("dim"))))
    new = Tree(layer.line, {"name": layer.fields["name"], "top": layer.fields["top"]})
    new.set("type", Scalar("Input", layer.line, quoted=True))
    for name in tops:
        if name not in given:
            raise SpecError(
                f"{path}:{layer.line}: layer '{layer.text('name')}': give an input shape for '{name}' too"
            )
        new.child("input_param").add("shape", _shape(given[name]))
    return new


def _others(layer: Tree, first: tuple[int, ...], path: Path) -> list[tuple[int, ...]]:
    """The shapes of a data layer's tops beside its first, as far as its class knows them."""
    kind, tops = layer.text("type"), layer.texts("top")
    try:
        spec = NetSpec.read(as_yaml(Tree(layer.line, {"layer": [layer]})), Where(str(path))).layer[0]
    except SpecError:  # the layer is replaced: its mistakes matter only where a shape depends on its fields
        spec = LayerSpec(type=kind, name=layer.text("name"), top=tops)
    try:
        return (
            layer_classes[kind].shapes_beside(spec, first, str(path.parent)) if kind in layer_classes else []
        )
    except SpecError:
        return []


def _shape(dims: Sequence[int]) -> Tree:
    return Tree(0, {"dim": [Scalar(str(int(dim))) for dim in dims]})

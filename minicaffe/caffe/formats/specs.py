"""Opening a net or a solver, whatever it is written in, and called: YAML, prototxt, or (a net) a caffemodel."""

from __future__ import annotations

from pathlib import Path

from minicaffe.caffe.formats.binary import as_tree, read_message, warn_of_unknown
from minicaffe.caffe.formats.idle_fields import drop_idle_fields
from minicaffe.caffe.formats.prototxt import check_kinds, parse_prototxt
from minicaffe.caffe.formats.tree import Tree, as_yaml
from minicaffe.caffe.formats.upgrade import upgrade_net
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import CAFFEMODEL, YAML, has_weights, read_spec
from minicaffe.spec.net import NetSpec, parse_net
from minicaffe.spec.reader import Where
from minicaffe.spec.solver import SolverSpec, parse_solver

INLINE_NETS = ("net_param", "train_net_param", "test_net_param")


def open_net(path: str | Path) -> NetSpec:
    """The net in a file. Raises SpecError."""
    written_in, text = read_spec(path)
    if written_in == YAML:
        return parse_net(text, str(path))
    return NetSpec.read(as_yaml(_tree(path, written_in, text)), Where(str(path)))


def is_caffemodel(net: object) -> bool:
    """Whether a net was given as the path of a file that has its weights too. Raises SpecError."""
    return isinstance(net, (str, Path)) and has_weights(net)


def open_solver(path: str | Path) -> SolverSpec:
    """The solver in a file. Raises SpecError."""
    written_in, text = read_spec(path)
    if written_in == YAML:
        return parse_solver(text, str(path))
    if written_in == CAFFEMODEL:
        raise SpecError(f"{path}: not a text file (UTF-8); a solver spec is YAML or prototxt")
    tree, where = parse_prototxt(text, str(path)), Where(str(path))
    drop_idle_fields(tree, "SolverParameter", path)
    check_kinds(tree, "SolverParameter", where)
    for field in INLINE_NETS:
        for net in tree.trees(field):
            upgrade_net(net, where.at(field=field))
    return SolverSpec.read(as_yaml(tree), where)


def net_tree(path: str | Path) -> Tree:
    """The net in a prototxt or caffemodel, of the current generation. Raises SpecError, for YAML too."""
    written_in, text = read_spec(path)
    if written_in == YAML:
        raise SpecError(f"{path}: expected a .prototxt or .caffemodel file")
    return _tree(path, written_in, text)


def _tree(path: str | Path, written_in: str, text: str) -> Tree:
    where = Where(str(path))
    if written_in == CAFFEMODEL:
        unknown: list[str] = []
        tree = as_tree(read_message("NetParameter", path, SpecError), "NetParameter", where, unknown)
        warn_of_unknown(path, unknown)
        _undo_running(tree)
    else:
        tree = parse_prototxt(text, str(path))
        drop_idle_fields(tree, "NetParameter", path)
        check_kinds(tree, "NetParameter", where)
    upgrade_net(tree, where)
    return tree


def _undo_running(net: Tree) -> None:
    """Take out what Caffe adds to a net that runs, and saves: splits, and for each layer the phase it ran in."""
    layers, source = net.pop("layer"), {}
    for layer in layers:
        layer.pop("phase")
        for bottom in layer.fields.get("bottom", []):
            bottom.text = source.get(bottom.text, bottom.text)
        if layer.text("type") == "Split" and layer.text("name").endswith("_split"):
            source.update(dict.fromkeys(layer.texts("top"), layer.text("bottom")))
            for maker in net.trees("layer") if layer.fields.get("loss_weight") else ():
                if layer.text("bottom") in maker.texts("top"):  # a loss, whose weight the split has
                    maker.fields["loss_weight"] = layer.fields["loss_weight"][:1]
        else:
            net.add("layer", layer)

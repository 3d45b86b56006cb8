"""Opening a net or a solver, whatever it is written in: YAML, .prototxt, or (a net) a .caffemodel."""

from __future__ import annotations

from pathlib import Path

from minicaffe.caffe.binary import as_tree, read_message, warn_of_unknown
from minicaffe.caffe.idle_fields import drop_idle_fields
from minicaffe.caffe.prototxt import check_kinds, parse_prototxt
from minicaffe.caffe.tree import Tree, as_yaml
from minicaffe.caffe.upgrade import upgrade_net
from minicaffe.errors import SpecError
from minicaffe.spec.net import NetSpec, load_net
from minicaffe.spec.reader import Where, read_utf8
from minicaffe.spec.solver import SolverSpec, load_solver

INLINE_NETS = ("net_param", "train_net_param", "test_net_param")


def open_net(path: str | Path) -> NetSpec:
    """The net in a .yaml, .prototxt or .caffemodel file. Raises SpecError."""
    if str(path).endswith((".npz", ".h5")):
        raise SpecError(f"{path}: holds weights alone, not a net; give its spec, and these as its weights")
    if not str(path).endswith((".prototxt", ".caffemodel")):
        return load_net(path)
    return NetSpec.read(as_yaml(net_tree(path)), Where(str(path)))


def open_solver(path: str | Path) -> SolverSpec:
    """The solver in a .yaml or .prototxt file. Raises SpecError."""
    if not str(path).endswith(".prototxt"):
        return load_solver(path)
    return read_prototxt_solver(path)


def read_prototxt_solver(path: str | Path) -> SolverSpec:
    """The solver in a file of protobuf's text format, whatever its name. Raises SpecError."""
    tree, where = parse_prototxt(read_utf8(path), str(path)), Where(str(path))
    drop_idle_fields(tree, "SolverParameter", path)
    check_kinds(tree, "SolverParameter", where)
    for field in INLINE_NETS:
        for net in tree.trees(field):
            upgrade_net(net, where.at(field=field))
    return SolverSpec.read(as_yaml(tree), where)


def net_tree(path: str | Path) -> Tree:
    """The net in a .prototxt or .caffemodel file, of the current generation. Raises SpecError."""
    where = Where(str(path))
    if str(path).endswith(".caffemodel"):
        unknown: list[str] = []
        tree = as_tree(read_message("NetParameter", path, SpecError), "NetParameter", where, unknown)
        warn_of_unknown(path, unknown)
        _undo_running(tree)
    else:
        tree = parse_prototxt(read_utf8(path), str(path))
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

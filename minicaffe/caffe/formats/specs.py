"""Specs as Caffe writes them: .prototxt, and for a net .caffemodel, as the nodes that a spec is read from."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from minicaffe.caffe.formats.binary import as_tree, read_message, warn_of_unknown
from minicaffe.caffe.formats.caffemodel import NET_STARTS
from minicaffe.caffe.formats.idle_fields import drop_idle_fields
from minicaffe.caffe.formats.prototxt import check_kinds, parse_prototxt
from minicaffe.caffe.formats.tree import Tree, as_yaml
from minicaffe.caffe.formats.upgrade import upgrade_net
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import SpecFormat, read_spec, register_spec_format
from minicaffe.spec.reader import Where

INLINE_NETS = ("net_param", "train_net_param", "test_net_param")


def net_tree(path: str | Path) -> Tree:
    """The net in a prototxt or caffemodel, of the current generation. Raises SpecError, for YAML too."""
    written_in, text = read_spec(path)
    if written_in == PROTOTXT:
        return _tree_of_text(text, str(path))
    if written_in == CAFFEMODEL:
        return _tree_of_binary(str(path))
    raise SpecError(f"{path}: expected a .prototxt or .caffemodel file")


def _tree_of_text(text: str, path: str) -> Tree:
    tree, where = parse_prototxt(text, path), Where(path)
    _refuse_label_map(tree, path)
    drop_idle_fields(tree, "NetParameter", path)
    check_kinds(tree, "NetParameter", where)
    upgrade_net(tree, where)
    return tree


def _tree_of_binary(path: str) -> Tree:
    unknown: list[str] = []
    tree = as_tree(read_message("NetParameter", path, SpecError), "NetParameter", Where(path), unknown)
    warn_of_unknown(path, unknown)
    _undo_running(tree)
    upgrade_net(tree, Where(path))
    return tree


def _solver_of_text(text: str, path: str) -> yaml.MappingNode:
    tree, where = parse_prototxt(text, path), Where(path)
    _refuse_label_map(tree, path)
    drop_idle_fields(tree, "SolverParameter", path)
    check_kinds(tree, "SolverParameter", where)
    for field in INLINE_NETS:
        for net in tree.trees(field):
            upgrade_net(net, where.at(field=field))
    return as_yaml(tree)


def _refuse_label_map(tree: Tree, path: str) -> None:
    if set(tree.fields) == {"item"}:
        raise SpecError(
            f"{path}: a label map of SSD, with the names of {len(tree.fields['item'])} labels, not a net; "
            "name it in annotated_data_param.label_map_file, or in 'minicaffe data annotated --label-map'"
        )


def _undo_running(net: Tree) -> None:
    """Take out what Caffe adds to a net that runs, and saves: splits, and for each layer the phase it ran in."""
    layers, source = net.trees("layer"), dict[str, str]()
    net.pop("layer")
    for layer in layers:
        layer.pop("phase")
        for bottom in layer.scalars("bottom"):
            bottom.text = source.get(bottom.text, bottom.text)
        if layer.text("type") == "Split" and layer.text("name").endswith("_split"):
            source.update(dict.fromkeys(layer.texts("top"), layer.text("bottom")))
            for maker in net.trees("layer") if layer.fields.get("loss_weight") else ():
                if layer.text("bottom") in maker.texts("top"):  # a loss, whose weight the split has
                    maker.fields["loss_weight"] = layer.fields["loss_weight"][:1]
        else:
            net.add("layer", layer)


PROTOTXT = SpecFormat(
    "prototxt",
    (".prototxt",),
    net=lambda text, path: as_yaml(_tree_of_text(text, path)),
    solver=_solver_of_text,
    sign=re.compile(r"(?<![&!*\w-])[A-Za-z_]\w*\s*(\{|<(?!<))"),  # layer {
    weak_sign='""',
)
CAFFEMODEL = SpecFormat(
    "caffemodel",
    (".caffemodel",),
    net=lambda text, path: as_yaml(_tree_of_binary(path)),
    starts=NET_STARTS,
)
register_spec_format(PROTOTXT)
register_spec_format(CAFFEMODEL)

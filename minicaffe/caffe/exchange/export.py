"""A net as Caffe's files: a .prototxt and a .caffemodel that Caffe's own tools and OpenCV read."""

from __future__ import annotations

from pathlib import Path

from minicaffe.caffe.exchange.plain_layers import PlainLayers
from minicaffe.caffe.formats.caffemodel import write_layers
from minicaffe.caffe.formats.messages import message_class
from minicaffe.caffe.formats.prototxt_text import prototxt_text
from minicaffe.caffe.formats.spec_tree import text
from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.core.net import Net, expect_net
from minicaffe.errors import WriteError
from minicaffe.files.atomic import write_text


def export(net: Net, prototxt: str | Path, caffemodel: str | Path) -> list[str]:
    """Write a net, with its weights, for Caffe; return a line about each thing that is not in Caffe 1.0.

    Layers of low rank become pairs of plain ones. Levels and stages are those of the net; a layer of one phase only
    is written with a rule that says so. The weights are those of the net, so only those of its phase. Raises
    MinicaffeError where this is not a net, SpecError for what Caffe's files cannot say, DataError without protobuf,
    WriteError.
    """
    expect_net(net, "export")
    if Path(prototxt).resolve() == Path(caffemodel).resolve():
        raise WriteError(f"{prototxt}: given for the net and for its weights; give each a file of its own")
    plain, tree = _as_tree(net)
    written = prototxt_text(tree)
    write_layers(net.name, [(x.tree, x.arrays) for x in plain.layers if x.layer is not None], caffemodel)
    write_text(prototxt, written)
    return plain.notes


def check_export(net: Net) -> None:
    """Raise what ``export`` would of a net, but write nothing: SpecError, and DataError without protobuf."""
    prototxt_text(_as_tree(net)[1])
    message_class("NetParameter")


def _as_tree(net: Net) -> tuple[PlainLayers, Tree]:
    """A net as Caffe's layers, and these as a prototxt has them."""
    plain = PlainLayers(net)
    tree = Tree(0, {"name": [text(net.name)]} if net.name else {})
    if net.spec.force_backward:
        tree.set("force_backward", Scalar("true"))
    tree.fields["layer"] = [layer.tree for layer in plain.layers]
    return plain, tree

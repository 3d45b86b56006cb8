"""A net -> Caffe's files: a .prototxt, and a .caffemodel, as Caffe's own tools and OpenCV read them."""

from __future__ import annotations

from pathlib import Path

from minicaffe.caffe.exchange.plain_layers import PlainLayers
from minicaffe.caffe.formats.caffemodel import write_layers
from minicaffe.caffe.formats.prototxt_text import prototxt_text
from minicaffe.caffe.formats.spec_tree import text
from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.core.net import Net, expect_net
from minicaffe.errors import WriteError
from minicaffe.files.atomic import write_text


def export(net: Net, prototxt: str | Path, caffemodel: str | Path) -> list[str]:
    """Write a net, with its weights, for Caffe; returns a line on each thing that is not of Caffe 1.0.

    Layers of low rank become pairs of plain ones. Levels and stages are those of the net; what is of one phase
    alone is written with a rule on it. Weights are those of the net, so of its phase. Raises MinicaffeError for
    what is no net, SpecError for what Caffe's files cannot say, DataError without protobuf, WriteError.
    """
    expect_net(net, "export")
    if Path(prototxt).resolve() == Path(caffemodel).resolve():
        raise WriteError(f"{prototxt}: given for the net and for its weights; give each a file of its own")
    plain = PlainLayers(net)
    tree = Tree(0, {"name": [text(net.name)]} if net.name else {})
    if net.spec.force_backward:
        tree.set("force_backward", Scalar("true"))
    tree.fields["layer"] = [layer.tree for layer in plain.layers]
    written = prototxt_text(tree)
    write_layers(net.name, [(x.tree, x.arrays) for x in plain.layers if x.layer is not None], caffemodel)
    write_text(prototxt, written)
    return plain.notes

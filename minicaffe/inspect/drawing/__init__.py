"""A net as a picture: boxes, how they lie side by side and under each other, and what is written into them.

``wires`` finds who feeds whom, ``boxes`` what is drawn, ``parts`` divides it into series and branches, ``fold``
stacks what is repeated, ``place`` and ``lanes`` find places, and ``layout`` calls these. ``ink`` turns a layout
into shapes and texts, which ``svg`` and ``png`` write; ``dot`` leaves the places to Graphviz. ``sketch`` makes what
it can of a net that cannot be made.
"""

from minicaffe.inspect.drawing.drawing import Drawing, check_ending, draw, draw_spec, svg_of

__all__ = ["Drawing", "check_ending", "draw", "draw_spec", "svg_of"]

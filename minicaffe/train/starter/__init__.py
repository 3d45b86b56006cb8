"""A first net for somebody's own pictures: a folder of classes becomes a net and a solver (``minicaffe new``)."""

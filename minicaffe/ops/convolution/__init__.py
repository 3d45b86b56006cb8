"""Convolution: ``reference.py`` is the page to read first; ``products.py`` lists the fast implementations."""

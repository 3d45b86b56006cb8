"""The report of a net: one HTML file, offline, with its layers, numbers and pictures (``minicaffe report``)."""

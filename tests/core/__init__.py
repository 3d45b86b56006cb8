"""Nets, their graph, their blobs and their weights."""

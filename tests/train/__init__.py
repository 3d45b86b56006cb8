"""Solvers, snapshots, scoring, and training that goes wrong."""

"""Specs: reading them, editing them, and what is said of their faults."""

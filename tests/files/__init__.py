"""Writing files, and telling what kind a file is."""

"""Sources of data, their order, batches, and downloads."""

"""Detection: boxes and their overlap, in arrays of the host, for the layers that predict, match and score them."""

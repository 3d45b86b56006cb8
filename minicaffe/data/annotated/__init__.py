"""Images with boxes around the objects on them, as SSD trains on: reading, writing, and augmenting them."""

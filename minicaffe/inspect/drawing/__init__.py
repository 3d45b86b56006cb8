"""A net as a picture: boxes, how they lie side by side and under each other, and what is written into them."""

"""The chain rule of a recorded picture, line by line (``steps.walk``)."""

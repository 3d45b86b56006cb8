"""The classifier, and how images are prepared for it."""

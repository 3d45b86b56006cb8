"""The nets in prototxt/."""

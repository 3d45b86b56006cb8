"""Image files: lists, folders of classes, decoding, and what is done to each image."""

"""What single views need beside the recording: a file for each, with ``data(recording, packer, options)``."""

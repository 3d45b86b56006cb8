"""The command line: ``minicaffe train|test|classify|summary|lowrank|convert|…``. It parses, calls and prints."""

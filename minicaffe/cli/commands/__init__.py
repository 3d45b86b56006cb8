"""The commands, a file for each group: it parses, calls and prints. A new file here is a new command."""

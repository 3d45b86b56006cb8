"""The command line: what a user types, gets wrong, and sees."""

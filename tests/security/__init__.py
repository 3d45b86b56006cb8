"""What docs/security.md promises, and the programs that try damaged files."""

"""Array operations: every fast path against a plain one."""

"""What trains: the solver, its update rules and learning rates, snapshots, scores, and the log."""

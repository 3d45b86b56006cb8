"""Looking into nets: summaries, drawings, logs, and what a notebook shows."""

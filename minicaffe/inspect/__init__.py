"""Looking into nets: what they are made of, how long they take, how well they do."""

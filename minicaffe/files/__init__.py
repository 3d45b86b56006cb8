"""Files: written at once or not at all, read without trusting what is in them, and known by their first bytes."""

"""The tests, in a folder for each subject; conftest.py says what they share."""

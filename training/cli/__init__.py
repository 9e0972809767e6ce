"""The command `python -m training`."""

"""The command `eye2face`."""

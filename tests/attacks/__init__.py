"""Attacks over the network on a real service: each ends by itself, in seconds.

    python -m pytest -m slow tests/attacks

`docs/operations.md` lists what each input is bounded by.
"""

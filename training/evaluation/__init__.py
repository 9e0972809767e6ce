"""Metrics, baselines and the comparison of systems on held-out people."""

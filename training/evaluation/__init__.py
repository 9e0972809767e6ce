"""Metrics, baselines, and the experiment that compares training objectives on held-out people."""

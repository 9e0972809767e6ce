"""Benchmarks of the service, beside a baseline without a server and other servers, on this machine."""

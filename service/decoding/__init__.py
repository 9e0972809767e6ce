"""Decoding of untrusted pictures: in the calling thread, or in sandboxed processes."""

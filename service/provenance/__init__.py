"""Provenance of faces: marks each as synthetic, and verifies the marks of any picture."""

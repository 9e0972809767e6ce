"""Pixels and eyes: image headers, decoding, crops, quality measures, overlays."""

"""The eye2face inference service: photo bytes in, face bytes out. Never imports torch or training."""

__version__ = "0.1.0"

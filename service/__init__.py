"""The eye2face inference service: photo bytes in, face bytes out. Never imports torch or training."""

import os

__version__ = "0.2.0"

# OpenCV reads this once, when it is loaded, so it is set before any of our modules can load it. It is
# the second line of defense: service.vision.images refuses large pictures before OpenCV sees them. A
# 65-byte PNG can claim 100,000 x 100,000 pixels; 2^28 is five times the default limit of the settings.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**28))

# The wheels of ONNX Runtime 1.31 write a device identifier to the home and send events to their maker
# unless this is set before the import. The service sends no telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

"""From a PyTorch checkpoint to the ONNX file that the service runs."""

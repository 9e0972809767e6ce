"""ONNX models: sessions, the synthesizer, the eye finder and its refiner, the model catalog."""

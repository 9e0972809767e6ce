"""Models and what runs them: ONNX sessions, the synthesizer, both eye finders, the model catalog."""

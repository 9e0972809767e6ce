"""What the tests' exported model says of itself."""

from training.export.onnx import ModelMetadata

FACTS = ModelMetadata(
    name="tiny", version="7", recipe="tiny", objective="l1", training_data="24 drawn faces",
    licence_class="open", commit="abc", metrics={"l2": 0.25},
)  # fmt: skip

"""The import name for callers: every error and answer, and none of the service's own dependencies."""

import inspect
import subprocess
import sys
from pathlib import Path

import eye2face
from service import errors
from service.client import client, models, retries
from service.errors import Eye2FaceError

ROOT = Path(__file__).parent.parent


def test_every_error_a_caller_can_meet_can_be_imported() -> None:
    ours = {
        name
        for module in (errors, models)
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, Eye2FaceError)
    }
    assert ours <= set(eye2face.__all__)


def test_every_type_of_an_answer_can_be_imported() -> None:
    answers = {
        name
        for name, kind in vars(models).items()
        if hasattr(kind, "__dataclass_fields__") and name[0] != "_"
    }
    assert answers <= set(eye2face.__all__)


def test_a_public_name_is_the_one_of_the_service() -> None:
    modules = (client, models, retries, errors)
    for name in set(eye2face.__all__) - {"__version__"}:
        assert any(getattr(module, name, None) is getattr(eye2face, name) for module in modules), name


FOREIGN = ("fastapi", "starlette", "uvicorn", "onnxruntime", "cv2", "torch", "service.http", "service.vision")


def test_the_import_loads_neither_server_nor_model_runtime() -> None:
    code = f"import eye2face, sys; print([name for name in {FOREIGN} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"

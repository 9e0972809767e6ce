"""Public names: paths, parameters, status codes, JSON fields and metrics are those in public_names.json.

After a change that is meant: `python -m tests.service.http.test_public_names` writes the file anew.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from service.http.app import create_app
from service.settings import Settings
from tests.fakes import tiny_model

FILE = Path(__file__).with_name("public_names.json")


def public_names(model: Path) -> dict[str, Any]:
    """The names of the OpenAPI document and of `/metrics`."""
    app = create_app(Settings(model=str(model), device="cpu", eye_finder="haar"))
    with TestClient(app) as client:
        metrics = client.get("/metrics").text
    document = app.openapi()
    operations = {
        f"{method.upper()} {path}": _describe(operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    schemas = {
        name: sorted(schema.get("properties", {}))
        for name, schema in document["components"]["schemas"].items()
    }
    names = re.findall(r"^# TYPE (eye2face_\w+)(?<!_created) ", metrics, flags=re.M)
    return {"operations": operations, "schemas": schemas, "metrics": sorted(names)}


def _describe(operation: dict[str, Any]) -> dict[str, Any]:
    answers = operation["responses"].items()
    return {
        "parameters": [f"{each['in']} {each['name']}" for each in operation.get("parameters", [])],
        "body": sorted(operation.get("requestBody", {}).get("content", {})),
        "responses": {status: sorted(each.get("content", {})) for status, each in answers},
        "security": operation.get("security", []),
    }


def test_the_names_that_users_hold_are_those_of_the_file(model: Path) -> None:
    assert public_names(model) == json.loads(FILE.read_text())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        names = public_names(tiny_model(Path(folder) / "tiny.onnx"))
    FILE.write_text(json.dumps(names, indent=1) + "\n")

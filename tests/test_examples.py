"""The programs of docs/examples.md and the files of examples/, each run with its real program."""

import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import PIL.Image
import pytest
import yaml
from compose_spec import PyCompose

from service.bridge.home_assistant import discovery_messages
from service.settings import BridgeSettings
from tests.certificates import certify
from tests.fakes import astronaut, encoded
from tests.real import require
from tests.running import find_free_port, run_service, wait_until_ready

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
TEXT = (ROOT / "docs" / "examples.md").read_text()
PROGRAMS = {
    "face.mjs": ("node", "js"),
    "Face.java": ("java", "java"),
    "face.py": ("python", "python"),
    "triton_face.py": ("python", "python"),
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with run_service() as address:
        yield address


def _run(file: str, address: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    tool, language = PROGRAMS[file]
    section = TEXT.split(f": `{tool} {file}`")[1]
    program = re.findall(rf"```{language}\n(.*?)```", section, flags=re.S)[0]
    assert "127.0.0.1:8000" in program
    (folder / file).write_text(program.replace("127.0.0.1:8000", address.removeprefix("http://")))
    command = [sys.executable if tool == "python" else require(tool), file]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_no_program_is_left_out() -> None:
    languages = re.findall(r"^```(\w+)$", TEXT, flags=re.M)
    assert languages == [language for _, language in PROGRAMS.values()]


@pytest.mark.slow
@pytest.mark.parametrize("file", PROGRAMS)
def test_a_program_writes_a_face(file: str, address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(astronaut(), "jpeg"))
    done = _run(file, address, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with PIL.Image.open(tmp_path / "face.png") as face:
        assert (face.format, face.size) == ("PNG", (192, 192))


@pytest.mark.slow
@pytest.mark.parametrize("file", PROGRAMS)
def test_a_program_prints_the_error_message(file: str, address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"a shopping list")
    done = _run(file, address, tmp_path)
    assert done.returncode == 1 and "do not begin like a picture" in done.stderr
    assert not (tmp_path / "face.png").exists()


@pytest.mark.slow
def test_the_quickstart_writes_a_face_or_says_why_not(address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(astronaut(), "jpeg"))
    (tmp_path / "text.jpg").write_bytes(b"a shopping list")
    told = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, EXAMPLES / "quickstart.py"]
    run = partial(subprocess.run, cwd=tmp_path, env=told, capture_output=True, text=True, timeout=60)
    drawn, refused = (run([*command, photo, address]) for photo in ("photo.jpg", "text.jpg"))
    assert (drawn.returncode, drawn.stderr) == (0, "") and "they identify nobody" in drawn.stdout
    with PIL.Image.open(tmp_path / "photo-face-0.png") as face:
        assert face.size == (192, 192)
    assert refused.returncode == 1 and refused.stderr.startswith("not_an_image: ")


@pytest.mark.slow
def test_the_notebook_shows_faces(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(astronaut(), "jpeg"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EYE2FACE_ADDRESS", address)
    names: dict[str, Any] = {}
    for cell in json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    names["client"].close()
    assert [eye.side for eye in names["found"].eyes] == ["right", "left"]
    assert names["both"].size == (512, 256) and names["both"].getextrema()[0][1] > 200
    cells = [names["guesses"].crop((x, 0, x + 256, 256)).tobytes() for x in range(0, 1024, 256)]
    assert len(set(cells)) == 4 and 0 <= names["many"].certainty <= 1 < names["many"].spread


@contextmanager
def _proxy(command: list[str], address: str, folder: Path) -> Iterator[None]:
    environ = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with subprocess.Popen(command, cwd=folder, env=environ) as process:
        try:
            wait_until_ready(address, process)
            yield
        finally:
            process.terminate()


def _draw_through(proxy: str, verify: ssl.SSLContext | bool) -> None:
    """A photo that is larger than what proxies let through by default is drawn."""
    photo = encoded(astronaut(), "jpeg")
    large = photo + bytes(5_000_000)  # after its end a JPEG may hold anything
    with httpx.Client(base_url=proxy, verify=verify, timeout=30) as client:
        for content in (photo, large):
            answer = client.post("/synthesize", content=content, headers={"Content-Type": "image/jpeg"})
            assert answer.status_code == 200 and answer.headers["X-Synthetic"] == "true"


@pytest.mark.slow
def test_nginx_speaks_https_for_the_service(address: str, tmp_path: Path) -> None:
    certificate, key = certify(tmp_path, "tls")
    port = find_free_port()
    example = (EXAMPLES / "nginx.conf").read_text()
    for ours, here in (
        ("127.0.0.1:8000", address.removeprefix("http://")),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/eye2face/tls.crt", str(certificate)),
        ("/etc/ssl/eye2face/tls.key", str(key)),
    ):
        assert ours in example
        example = example.replace(ours, here)
    folders = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders}\n{example}\n}}"
    )
    command = [require("nginx"), "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    proxy = f"https://127.0.0.1:{port}"
    with _proxy(command, proxy, tmp_path):
        _draw_through(proxy, ssl.create_default_context(cafile=str(certificate)))


@pytest.mark.slow
def test_caddy_stands_before_the_service(address: str, tmp_path: Path) -> None:
    port = find_free_port()
    example = (EXAMPLES / "Caddyfile").read_text()
    for ours, here in (
        ("127.0.0.1:8000", address.removeprefix("http://")),
        ("eye2face.example.com", f"http://127.0.0.1:{port}"),  # a certificate comes from outside
    ):
        assert ours in example
        example = example.replace(ours, here)
    (tmp_path / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{example}")
    command = [require("caddy"), "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    with _proxy(command, f"http://127.0.0.1:{port}", tmp_path):
        _draw_through(f"http://127.0.0.1:{port}", verify=True)


def test_the_card_shows_the_entity_that_the_bridge_announces() -> None:
    image, _ = (yaml.safe_load(each.payload) for each in discovery_messages(BridgeSettings(), "gate"))
    name = f"{image['device']['name']} {image['name']}"  # Home Assistant before 2025.10 makes the ID of both
    card = yaml.safe_load((EXAMPLES / "home-assistant-card.yaml").read_text())
    assert card["entity"] == image["default_entity_id"] == "image." + re.sub(r"\W+", "_", name.lower())


OVERRIDE = yaml.safe_load((EXAMPLES / "docker-compose.override.yml").read_text())


def test_the_override_of_compose_is_what_its_specification_allows() -> None:
    assert PyCompose.from_yaml(yaml.safe_dump(OVERRIDE))
    base = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert OVERRIDE["services"].keys() <= base["services"].keys()
    theirs, ours = (set(each["configs"]["broker"]["content"].split("\n")) for each in (base, OVERRIDE))
    assert ours - theirs == {"allow_anonymous false", "password_file /run/secrets/broker_passwords"}
    assert theirs - ours == {"allow_anonymous true"}


def test_every_file_of_examples_is_named() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == set(
        re.findall(r"`examples/([\w.-]+)`", TEXT)
    )

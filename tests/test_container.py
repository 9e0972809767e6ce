"""The container's rules, read from its files with their parsers; and, where buildah is, a real image."""

import json
import os
import re
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from service import __version__
from service.settings import Settings
from tests.fakes import astronaut, encoded
from tests.running import find_free_port, wait_until_ready

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["eye2face"]


def _stages() -> list[list[dict[str, str]]]:
    """Every stage as its instructions in order, the FROM first."""
    stages: list[list[dict[str, str]]] = []
    for step in DockerfileParser(str(ROOT / "Dockerfile")).structure:
        if step["instruction"] == "FROM":
            stages.append([])
        if step["instruction"] != "COMMENT":
            stages[-1].append({"instruction": step["instruction"], "value": step["value"]})
    return stages


def _values(stage: list[dict[str, str]], instruction: str) -> list[str]:
    return [step["value"] for step in stage if step["instruction"] == instruction]


def _environment() -> dict[str, str]:
    parser = DockerfileParser(str(ROOT / "Dockerfile"))
    return dict(parser.envs)


def test_the_image_is_built_in_two_stages_of_the_same_base() -> None:
    build, final = _stages()
    assert _values(build, "FROM")[0].split()[0] == _values(final, "FROM")[0]
    assert re.search(r"python:3\.\d+-slim$", _values(final, "FROM")[0])
    assert not _values(final, "RUN"), "the final stage fetches and runs nothing"


def test_the_image_runs_as_nobody_in_particular() -> None:
    (user,) = _values(_stages()[-1], "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "Kubernetes' runAsNonRoot wants a number that is not 0"


def test_the_image_installs_the_pinned_service_for_the_cpu_and_no_training() -> None:
    install = " ".join(_values(_stages()[0], "RUN"))
    assert "--constraint constraints.txt '.[cpu]'" in install
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not any("torch" in requirement for requirement in extras["cpu"])


def test_what_the_image_copies_is_there_and_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for copy in _values(_stages()[0], "COPY"):
        for source in (Path(each).name for each in copy.split()[:-1]):
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in sent), source


def test_the_image_says_what_it_is_and_under_which_terms() -> None:
    labels = DockerfileParser(str(ROOT / "Dockerfile")).labels
    prefix = "org.opencontainers.image."
    assert labels[prefix + "version"] == __version__
    assert labels[prefix + "licenses"].startswith("Apache-2.0 AND LicenseRef-")
    assert {"title", "description"} <= {name.removeprefix(prefix) for name in labels}


def test_the_health_check_asks_readyz_with_pythons_own_library() -> None:
    (check,) = _values(_stages()[-1], "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["python3", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert "/readyz" in command[2]


def test_every_setting_that_the_container_names_exists() -> None:
    named = {*_environment(), *COMPOSE["environment"]}
    ours = {name.removeprefix("EYE2FACE_").lower() for name in named if name.startswith("EYE2FACE_")}
    assert ours >= {"host", "port", "allow_anonymous"}
    assert ours <= set(Settings.model_fields)


def test_compose_lets_only_this_machine_in_when_it_asks_for_no_key() -> None:
    assert _environment()["EYE2FACE_HOST"] == "0.0.0.0"
    assert COMPOSE["environment"] == {"EYE2FACE_ALLOW_ANONYMOUS": "true"}
    port = _environment()["EYE2FACE_PORT"]
    assert COMPOSE["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_compose_takes_every_right_away_that_the_service_does_not_need() -> None:
    assert COMPOSE["read_only"] is True
    assert COMPOSE["cap_drop"] == ["ALL"]
    assert COMPOSE["security_opt"] == ["no-new-privileges:true"]
    assert COMPOSE["tmpfs"] == ["/tmp"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of the Dockerfile, built here and now."""
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed")
    base = _values(_stages()[-1], "FROM")[0]
    if _buildah("pull", "--policy=missing", base, check=False).returncode != 0:
        pytest.skip(f"{base} is neither here nor within reach")
    tag = "localhost/eye2face-test"
    _buildah("build", *_like_this_machine(tmp_path_factory.mktemp("pip")), "--tag", tag, str(ROOT))
    yield tag
    _buildah("rmi", "--force", tag)


@pytest.fixture
def container(image: str) -> Iterator[str]:
    """A container of the image that nothing runs in yet."""
    name = _buildah("from", image).stdout.strip()
    yield name
    _buildah("rm", name)


def test_the_image_holds_the_models_and_no_torch(container: str) -> None:
    inside = _run(container, "python3", "-c", "import os, service, sys; print(os.getuid(), service.__file__)")
    uid, module = inside.split()
    assert uid != "0"
    files = _run(container, "ls", str(Path(module).parent / "models")).split()
    assert sorted(files) == sorted(path.name for path in (ROOT / "models").iterdir())
    assert "torch" not in _run(container, "ls", str(Path(module).parent.parent)).split()


def test_the_image_refuses_to_let_anyone_in_unless_told(container: str) -> None:
    refused = _buildah("run", container, "--", "eye2face", "serve", check=False)
    assert refused.returncode not in (0, 124)
    assert "EYE2FACE_ALLOW_ANONYMOUS" in refused.stderr


def test_a_container_of_the_image_draws_a_face(container: str) -> None:
    port = str(find_free_port())
    told = ["--env", f"EYE2FACE_PORT={port}", "--env", "EYE2FACE_ALLOW_ANONYMOUS=true"]
    command = ["buildah", "run", "--network", "host", *told, container, "--", "eye2face", "serve"]
    (check,) = _values(_stages()[-1], "HEALTHCHECK")
    health = json.loads(check[check.index("[") :])
    with subprocess.Popen(command, env=_environ()) as serving:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", serving)
            _buildah("run", "--network", "host", *told[:2], container, "--", *health)
            photo = encoded(astronaut(), "jpeg")
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/synthesize",
                photo,
                {"Content-Type": "image/jpeg", "Accept": "image/png"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                face = answer.read()
                assert answer.headers["X-Synthetic"] == "true"
        finally:
            serving.terminate()
    assert face[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(face[16:20]), int.from_bytes(face[20:24])) == (128, 128)


def _environ() -> dict[str, str]:
    # chroot: works inside a container too, where buildah may not make namespaces of its own.
    return {"BUILDAH_ISOLATION": "chroot", **os.environ}


def _buildah(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        ["buildah", *arguments], env=_environ(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0 or not check, f"buildah {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done


def _run(container: str, *command: str) -> str:
    return _buildah("run", container, "--", *command).stdout


def _like_this_machine(folder: Path) -> list[str]:
    """What lets the build fetch packages as this machine does: certificates, host names, pip's settings."""
    chosen = {
        name[4:].lower().replace("_", "-"): value for name, value in os.environ.items() if name[:4] == "PIP_"
    }
    pip_conf = folder / "pip.conf"
    pip_conf.write_text("\n".join(["[global]", *(f"{name} = {value}" for name, value in chosen.items())]))
    mounts = {pip_conf: "/etc/pip.conf"} | {
        Path(path): path
        for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs")
        if Path(path).exists()
    }
    return [
        "--network=host",
        "--format=docker",
        *(f"--volume={here}:{there}:ro" for here, there in mounts.items()),
    ]

"""The rules of the Dockerfile, read with its parser; and, where buildah is, a real image."""

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

from service import __version__
from service.settings import Settings
from tests.certificates import certify
from tests.fakes import astronaut, encoded, tiny_model
from tests.real import require
from tests.running import find_free_port, running_service, wait_until_ready

ROOT = Path(__file__).parent.parent

Stage = list[tuple[str, str]]
"""The instructions of a stage and their values, in order."""


def _stages() -> dict[str, Stage]:
    """Every stage by its name."""
    stages: dict[str, Stage] = {}
    for step in DockerfileParser(str(ROOT / "Dockerfile")).structure:
        if step["instruction"] == "FROM":
            stage = stages.setdefault(step["value"].rpartition(" AS ")[2], [])
        if step["instruction"] != "COMMENT":
            stage.append((step["instruction"], step["value"]))
    return stages


def _line_of(target: str) -> Stage:
    """The instructions that the image of `target` is made of, from its base on."""
    stage = _stages()[target]
    base = stage[0][1].partition(" AS ")[0]
    return [*_line_of(base), *stage[1:]] if base in _stages() else stage


def _values(stage: Stage, wanted: str) -> list[str]:
    return [value for instruction, value in stage if instruction == wanted]


def _base() -> str:
    return _values(_stages()["runtime"], "FROM")[0].partition(" AS ")[0]


def _pairs(target: str, instruction: str) -> dict[str, str]:
    """The names and values of ENV or LABEL in the image of `target`."""
    words = [word for value in _values(_line_of(target), instruction) for word in shlex.split(value)]
    return dict(word.split("=", 1) for word in words)


TARGETS = ["cpu", "gpu"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_built_on_the_base_that_its_packages_are_made_for(target: str) -> None:
    packages, final = _line_of(f"packages-{target}"), _line_of(target)
    bases = [_values(stage, "FROM")[0].partition(" AS ")[0] for stage in (packages, final)]
    assert bases == [_base(), _base()]
    assert re.search(r"python:3\.\d+-slim$", _base())
    assert not _values(final, "RUN"), "the final stage fetches and runs nothing"


def test_the_image_for_the_cpu_is_what_is_built_when_nothing_is_said() -> None:
    assert list(_stages())[-1] == "cpu"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_in_particular(target: str) -> None:
    (user,) = _values(_line_of(target), "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "Kubernetes' runAsNonRoot wants a number that is not 0"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_installs_the_pinned_service_for_its_device_and_no_training(target: str) -> None:
    install = " ".join(_values(_stages()[f"packages-{target}"], "RUN"))
    (build, *_) = [
        *(value.partition("=")[2] for value in _values(_stages()[f"packages-{target}"], "ARG")),
        target,
    ]
    assert "--require-hashes --requirement " in install
    assert f"requirements/{target}.txt" in install.replace('"', "").replace("$GPU", build)
    assert "torch" not in (ROOT / "requirements" / f"{target}.txt").read_text()


def test_the_image_for_the_gpu_does_not_fall_back_to_the_cpu() -> None:
    assert _pairs("gpu", "ENV")["EYE2FACE_DEVICE"] == "cuda"
    assert "EYE2FACE_DEVICE" not in _pairs("cpu", "ENV")


def test_what_the_image_copies_is_there_and_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for copy in _values(_stages()["sources"], "COPY"):
        for source in (Path(each).name for each in copy.split()[:-1]):
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in sent), source


def test_the_image_says_what_it_is_and_under_which_terms() -> None:
    labels = _pairs("cpu", "LABEL")
    prefix = "org.opencontainers.image."
    assert labels[prefix + "version"] == __version__
    assert labels[prefix + "licenses"] == "Apache-2.0"
    assert {"title", "description"} <= {name.removeprefix(prefix) for name in labels}


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_image_begins_no_threads_that_nobody_asks(target: str) -> None:
    assert _pairs(target, "ENV")["OPENBLAS_NUM_THREADS"] == "1"


def test_the_health_check_asks_readyz_with_pythons_own_library() -> None:
    (check,) = _values(_line_of("cpu"), "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["python3", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert "/readyz" in command[2]


@pytest.mark.slow
def test_the_health_check_speaks_tls_where_the_service_does(tmp_path: Path) -> None:
    certificate, key = certify(tmp_path, "tls")
    model = tiny_model(tmp_path / "tiny.onnx")
    own = {"tls_cert_file": str(certificate), "tls_key_file": str(key)}
    with running_service(tmp_path, model=model, **own) as service:
        told = {f"EYE2FACE_{name.upper()}": value for name, value in own.items()}
        told["EYE2FACE_PORT"] = service.address.rpartition(":")[2]
        (check,) = _values(_line_of("cpu"), "HEALTHCHECK")
        command = [sys.executable, *json.loads(check[check.index("[") :])[1:]]
        assert subprocess.run(command, env=os.environ | told, check=False).returncode == 0
        del told["EYE2FACE_TLS_CERT_FILE"]
        assert subprocess.run(
            command, env=os.environ | told, check=False, stderr=subprocess.DEVNULL
        ).returncode


def test_every_setting_that_the_container_names_exists() -> None:
    named = _pairs("gpu", "ENV")
    ours = {name.removeprefix("EYE2FACE_").lower() for name in named if name.startswith("EYE2FACE_")}
    assert {"host", "port"} <= ours <= set(Settings.model_fields)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of the Dockerfile, built here and now."""
    require("buildah")
    if _buildah("pull", "--policy=missing", _base(), check=False).returncode != 0:
        pytest.skip(f"{_base()} is neither here nor within reach")
    tag = "localhost/eye2face-test"
    _buildah(
        "build",
        "--target",
        "cpu",
        *_like_this_machine(tmp_path_factory.mktemp("pip")),
        "--tag",
        tag,
        str(ROOT),
    )
    yield tag
    _buildah("rmi", "--force", tag)


@pytest.fixture
def container(image: str) -> Iterator[str]:
    """A container of the image that nothing runs in yet."""
    name = _buildah("from", image).stdout.strip()
    yield name
    _buildah("rm", name)


@pytest.mark.slow
def test_the_image_holds_the_models_and_no_torch(container: str) -> None:
    inside = _run(container, "python3", "-c", "import os, service, sys; print(os.getuid(), service.__file__)")
    uid, module = inside.split()
    assert uid != "0"
    files = _run(container, "ls", str(Path(module).parent / "models")).split()
    served = [path.name for path in (ROOT / "models").iterdir() if path.suffix != ".safetensors"]
    assert sorted(files) == sorted(served)
    assert "torch" not in _run(container, "ls", str(Path(module).parent.parent)).split()


@pytest.mark.slow
def test_the_image_refuses_to_let_anyone_in_unless_told(container: str) -> None:
    refused = _buildah("run", container, "--", "eye2face", "serve", check=False)
    assert refused.returncode not in (0, 124)
    assert "EYE2FACE_ALLOW_ANONYMOUS" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, {"EYE2FACE_SANDBOX": "required"}])
def test_a_container_of_the_image_draws_a_face(container: str, environment: dict[str, str]) -> None:
    port = str(find_free_port())
    told = ["--env", f"EYE2FACE_PORT={port}", "--env", "EYE2FACE_ALLOW_ANONYMOUS=true"]
    more = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    command = ["buildah", "run", "--network", "host", *told, *more, container, "--", "eye2face", "serve"]
    (check,) = _values(_line_of("cpu"), "HEALTHCHECK")
    health = json.loads(check[check.index("[") :])
    with subprocess.Popen(command, env=_environ()) as serving:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", serving)
            _buildah("run", "--network", "host", *told, container, "--", *health)
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


READY_S = 2.0


@pytest.mark.slow
@pytest.mark.serial
def test_read_only_and_without_a_network_the_image_draws_its_first_face_within_two_seconds(
    container: str,
) -> None:
    (uid,) = _values(_line_of("cpu"), "USER")
    command = [json.loads(_values(_line_of("cpu"), each)[0]) for each in ("ENTRYPOINT", "CMD")]
    environ = _pairs("cpu", "ENV")
    environ["PATH"] = environ["PATH"].replace("$PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/bin")
    root = _buildah("mount", container).stdout.strip()
    probe = ["unshare", "--mount", "--net", sys.executable, "-m", "tests.first_face", root, uid]
    told: list[dict[str, Any]] = []
    while not told or (told[-1]["face_s"] > READY_S and len(told) < 5):  # neighbors hold up single ones
        done = subprocess.run(
            [*probe, json.dumps(environ), *command[0], *command[1]],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout.splitlines()[-1]))
    print(told)
    assert "Read-only file system" in told[-1]["write"]
    assert told[-1]["ready_s"] <= told[-1]["face_s"] <= READY_S, told


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

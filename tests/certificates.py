"""Certificates for tests, made by openssl."""

import subprocess
from pathlib import Path

from tests.real import require


def certify(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    """A self-signed certificate for this machine and its key: NAME.pem and NAME.key."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = folder / f"{name}.pem", folder / f"{name}.key"
    files = ["-keyout", str(made[1]), "-out", str(made[0])]
    command = [require("openssl"), *words.split(), *names, *(options or ["-nodes"]), *files]
    subprocess.run(command, check=True, capture_output=True)
    return made

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


def certify_signer(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """A chain of certificates that may sign C2PA manifests, its key, and the root alone."""
    usage = ["-addext", "keyUsage=critical,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE"]
    root, root_key = certify(folder, f"{name}-root", "-nodes", "-subj", f"/O={name}/CN=root", *usage)
    request, key, leaf = (folder / f"{name}.{ending}" for ending in ("csr", "key", "leaf"))
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    asked = ["req", "-new", *curve.split(), "-subj", f"/O={name}/CN=signer", "-keyout", key, "-out", request]
    extensions = folder / f"{name}.ext"
    extensions.write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=emailProtection\nauthorityKeyIdentifier=keyid\n"
    )
    signed = [
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        root,
        "-CAkey",
        root_key,
        "-extfile",
        extensions,
        "-out",
        leaf,
    ]
    for command in (asked, signed):
        subprocess.run([require("openssl"), *map(str, command)], check=True, capture_output=True)
    chain = folder / f"{name}-chain.pem"
    chain.write_bytes(leaf.read_bytes() + root.read_bytes())
    return chain, key, root

"""Damaged faces, marked and signed, through the verification; and a command for many.

    python -m tests.service.damaged_marks --files 10000

Prints one JSON object: the verdicts and errors, the slowest file, and how many connections were made to the
server that a file names for its manifest. It exits 1 if there is one, or an error that is not the sender's.
"""

import argparse
import collections
import io
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from PIL.PngImagePlugin import PngInfo

from service.decoding.process_pool import open_reader
from service.decoding.reader import PhotoReader
from service.errors import Eye2FaceError
from service.observability.stage_timer import StageTimer
from service.pipeline import SHRINK
from service.provenance.marking import PUBLIC_SECRET, Marker
from service.provenance.signing import C2paReader, C2paSigner
from service.provenance.verification import Verifier
from service.settings import Settings
from tests.certificates import certify_signer
from tests.service.damaged import MUTATIONS
from tests.service.provenance.test_marking import FORMATS, MODEL, a_face, astronaut_face, pixels_of, xmp_of

_BOX: Final = b"jumb"
"""The first one begins the manifest."""


def sign_files(folder: Path) -> tuple[dict[str, bytes], Path]:
    """A signed face of each format and a marked AVIF, by format; and the root of the signatures."""
    chain, key, root = certify_signer(folder, "ours")
    marker = Marker(MODEL, signer=C2paSigner(chain, key))
    files = {format: marker.encode(a_face(astronaut_face()), format) for format in FORMATS}
    avif, xmp = io.BytesIO(), xmp_of(files["png"], "png").encode()
    PIL.Image.fromarray(pixels_of(files["png"])).save(avif, "avif", xmp=xmp)
    return files | {"avif": avif.getvalue()}, root


def name_a_manifest(address: str) -> bytes:
    """A PNG whose XMP says that its manifest is at an address. Source: C2PA 2.2, 11.5."""
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dcterms="http://purl.org/dc/terms/"'
        f' dcterms:provenance="{address}"/></rdf:RDF></x:xmpmeta>'
    )
    info, file = PngInfo(), io.BytesIO()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    info.add_text("Comment", "jumdc2pa")  # without it nothing would look for a manifest
    PIL.Image.fromarray(astronaut_face()).save(file, "png", pnginfo=info)
    return file.getvalue()


def damage_marks(files: dict[str, bytes], num: int) -> Iterator[tuple[str, bytes]]:
    """So many damaged files, and how each was damaged: anywhere, or in its manifest alone."""
    random = np.random.default_rng(0)
    for number in range(num):
        name, mutate = str(random.choice(list(files))), MUTATIONS[int(random.integers(len(MUTATIONS)))]
        file = files[name]
        begin = max(0, file.find(_BOX)) if random.integers(2) else 0
        end = begin + 3000 if begin else len(file)
        yield (
            f"{name} {number} {mutate.__name__}",
            file[:begin] + mutate(random, file[begin:end]) + file[end:],
        )


def judge(file: bytes, reader: PhotoReader, verifier: Verifier) -> str:
    """The verdict on a file, or the code of the error that the sender is told."""
    try:
        return verifier.verify(file, reader(file, SHRINK, StageTimer())).verdict
    except Eye2FaceError as error:
        return f"{error.status} {error.code}"


def count_verdicts(num: int, folder: Path) -> dict[str, Any]:
    """What came of the whole files and so many damaged ones."""
    verdicts, slowest = collections.Counter[str](), (0.0, "")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        closing(open_reader(Settings(device="cpu"), 1)) as reader,
    ):
        server.setblocking(False)
        files, root = sign_files(folder)
        files["remote"] = name_a_manifest(f"http://127.0.0.1:{server.getsockname()[1]}/manifest")
        verifier = Verifier(PUBLIC_SECRET, C2paReader(root))
        for about, file in [*files.items(), *damage_marks(files, num)]:
            begin = time.process_time()
            verdicts[judge(file, reader, verifier)] += 1
            slowest = max(slowest, (time.process_time() - begin, about))
        is_asked = _is_connected(server)
    return {
        "verdicts": dict(verdicts.most_common()), "slowest_ms": round(slowest[0] * 1000),
        "slowest": slowest[1], "fetched": is_asked,
    }  # fmt: skip


def _is_connected(server: socket.socket) -> bool:
    """Whether somebody waits to be accepted."""
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def main() -> int:
    """1 if a file is answered as it must not be."""
    parser = argparse.ArgumentParser(description="Verifies damaged faces.")
    parser.add_argument("--files", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = count_verdicts(given.files, Path(folder))
    print(json.dumps(told, indent=1))
    return int(told["fetched"] or any(code.startswith("5") for code in told["verdicts"]))


if __name__ == "__main__":
    sys.exit(main())

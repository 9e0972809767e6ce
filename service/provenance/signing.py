"""Signed C2PA manifests: written into faces, and read from any picture.

Needs the extra `c2pa`. Nothing is fetched, neither remote manifests nor revocation lists; no thumbnails.
"""

import io
import json
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np

from service import __version__
from service.errors import SigningFailed
from service.settings import ConfigurationError, Settings
from service.system.operator_files import read_operator_file
from service.vision.images import FaceFormat, encode

SignatureState = Literal["none", "unchecked", "invalid", "valid", "trusted"]

DIGITAL_SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Created by a trained model. Source: IPTC NewsCodes, Digital Source Type."""

_MANIFEST: Final = b"jumdc2pa"
"""The description box of a C2PA manifest store. Source: C2PA 2.2, 11.1."""

_ALGORITHMS: Final = (b"es256", b"ed25519", b"ps256", b"es384", b"es512")
_MAX_FILE_BYTES: Final = 1 << 20
_MAGIC: Final = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


@cache
def _library() -> ModuleType:
    """The package, which is optional and slow to import."""
    return import_module("c2pa")


class C2paReader:
    """Reads manifests; may be shared by threads."""

    def __init__(self, trust_file: Path | None = None) -> None:
        """Signatures are trusted by the certificates of the file alone.

        Raises:
            ConfigurationError: the file cannot be used.
        """
        self._anchors = ""
        self._context: Any = None
        if trust_file is not None:
            self._anchors = read_operator_file(trust_file, _MAX_FILE_BYTES).decode(errors="replace")
            _require()
            self._open()

    def read(self, file: bytes) -> SignatureState:
        """The state of the manifest in the bytes of a picture; unchecked where it cannot be read at all."""
        media_type = next((kind for start, kind in _MAGIC.items() if file.startswith(start)), None)
        if _MANIFEST not in file:
            return "none"
        if media_type is None or find_spec("c2pa") is None:
            return "unchecked"
        try:
            with _library().Reader(media_type, io.BytesIO(file), context=self._open()) as reader:
                state = str(reader.get_validation_state()).lower()
        except _library().C2paError as error:
            return "none" if isinstance(error, _library().C2paError.ManifestNotFound) else "invalid"
        return "trusted" if state == "trusted" else "valid" if state == "valid" else "invalid"

    def _open(self) -> Any:
        if self._context is None:
            try:
                self._context = _open_context(self._anchors)
            except _library().C2paError as error:
                raise ConfigurationError(f"EYE2FACE_C2PA_TRUST_FILE cannot be used: {error}") from error
        return self._context


class C2paSigner:
    """Signs faces with one certificate; may be shared by threads."""

    def __init__(self, certificates: Path, key: Path) -> None:
        """Signs a picture as a trial.

        Raises:
            ConfigurationError: the package is missing, or the files do not hold a certificate and its key.
        """
        _require()
        self._context = _open_context("")
        self._signer = self._find_signer(
            *(read_operator_file(path, _MAX_FILE_BYTES) for path in (certificates, key))
        )

    def sign(self, file: bytes, format: FaceFormat, manifest: dict[str, Any]) -> bytes:
        """The file with the manifest.

        Raises:
            SigningFailed: it cannot be signed.
        """
        try:
            return self._sign(self._signer, file, format, manifest)
        except _library().C2paError as error:
            raise SigningFailed(f"The face cannot be signed: {error}. See the service's log.") from error

    def _sign(self, signer: Any, file: bytes, format: FaceFormat, manifest: dict[str, Any]) -> bytes:
        signed = io.BytesIO()
        with _library().Builder(json.dumps(manifest), context=self._context) as builder:
            builder.sign(signer, f"image/{format}", io.BytesIO(file), signed)
        return signed.getvalue()

    def _find_signer(self, certificates: bytes, key: bytes) -> Any:
        """The signer of the algorithm that fits the key."""
        library, trial, problems = _library(), encode(np.zeros((8, 8, 3), np.uint8), "png"), []
        for algorithm in _ALGORITHMS:
            try:
                info = library.C2paSignerInfo(algorithm, certificates, key, None)
                signer = library.Signer.from_info(info)
                self._sign(signer, trial, "png", describe_face("", "", "2026-01-01T00:00:00+00:00"))
            except library.C2paError as error:
                problems.append(f"{algorithm.decode()}: {error}")
            else:
                return signer
        raise ConfigurationError(
            "EYE2FACE_C2PA_CERT_FILE and EYE2FACE_C2PA_KEY_FILE cannot sign; they must hold a chain of "
            f"certificates and its private key ({'; '.join(problems)})"
        )


def open_signer(settings: Settings) -> C2paSigner | None:
    """The signer that the settings ask for; None if they name no certificate or marking is off.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if settings.c2pa_cert_file is None or settings.c2pa_key_file is None or settings.marking == "off":
        return None
    return C2paSigner(settings.c2pa_cert_file, settings.c2pa_key_file)


def describe_face(system: str, version: str, when: str) -> dict[str, Any]:
    """The manifest of a face. Source: C2PA 2.2, 18.15, `c2pa.actions.v2`."""
    action = {
        "action": "c2pa.created",
        "digitalSourceType": DIGITAL_SOURCE_TYPE,
        "softwareAgent": {"name": system, "version": version},
        "when": when,
    }
    return {
        "claim_generator_info": [{"name": "eye2face", "version": __version__}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def _open_context(anchors: str) -> Any:
    settings = {
        "version": 1,
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
            "verify_after_sign": False,
        },
        "trust": {"user_anchors": anchors} if anchors else {},
    }
    return _library().Context.from_dict(settings)


def _require() -> None:
    if find_spec("c2pa") is None:
        raise ConfigurationError("C2PA manifests need c2pa-python: pip install '.[c2pa]' in the checkout.")

"""Locations of model files: shipped with the service, mounted in a folder, or given by path."""

import hashlib
from pathlib import Path
from typing import Final

from service.errors import ModelContractUnknown, ModelNotFound
from service.system.files import read_regular_file

MAX_MODEL_BYTES: Final = 256 << 20
"""Of a model's file; the shipped ones have 5 MB."""


def model_path(name_or_path: str, mounted: Path | None = None) -> Path:
    """The file of a mounted or shipped model by its name, or the path itself if it is one.

    Raises:
        ModelNotFound: no such file; the message lists the models that are there.
    """
    given = Path(name_or_path)
    if given.suffix == ".onnx" or len(given.parts) > 1:
        if given.is_file():
            return given
    else:
        for path, _ in list_models(mounted):
            if path.stem == name_or_path:
                return path
    names = sorted({path.stem for path, _ in list_models(mounted)})
    raise ModelNotFound(
        f"There is no model '{name_or_path}'. Available: {', '.join(names) or 'none'}. "
        "Give one of these names or the path of an ONNX file."
    )


def read_model(path: Path) -> bytes:
    """The content of a model's file; that of a shipped one is compared with its checksum.

    Raises:
        ModelNotFound: there is no such file.
        ModelContractUnknown: it cannot be read, is too large, or is not what was shipped.
    """
    try:
        content = read_regular_file(path, MAX_MODEL_BYTES)
    except FileNotFoundError:
        raise ModelNotFound(f"There is no model file {path}. Give the path of an ONNX file.") from None
    except OSError as error:
        raise ModelContractUnknown(
            f"{path} cannot be read ({error.strerror}): copy or export it again."
        ) from None
    if path.resolve().parent in map(Path.resolve, _shipped_folders()):
        _verify(path, content)
    return content


def list_models(mounted: Path | None = None) -> list[tuple[Path, bool]]:
    """Every model file and whether it is a mounted one; those go before shipped ones of the same name.

    Raises:
        ModelNotFound: the folder of mounted models is not there.
    """
    if mounted is not None and not mounted.is_dir():
        raise ModelNotFound(
            f"The folder of mounted models, {mounted}, does not exist: mount it or unset EYE2FACE_MODELS_DIR."
        )
    folders = [(mounted, True)] if mounted else []
    folders += [(folder, False) for folder in _shipped_folders()]
    return [(path, is_mounted) for folder, is_mounted in folders for path in sorted(folder.glob("*.onnx"))]


def _verify(path: Path, content: bytes) -> None:
    """Raises ModelContractUnknown: a shipped file has another checksum than SHA256SUMS says."""
    sums = path.with_name("SHA256SUMS")
    words = sums.read_text().split() if sums.exists() else []
    expected = dict(zip(words[1::2], words[::2], strict=False)).get(path.name, "none")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ModelContractUnknown(
            f"{path} is not the file that was shipped: its SHA-256 is {found}, expected {expected}. "
            "Install the project again, and keep models of your own in another folder."
        )


def _shipped_folders() -> tuple[Path, Path]:
    """In the installed package, and in the root of the repository."""
    package = Path(__file__).parents[1]
    return package / "models", package.parent / "models"

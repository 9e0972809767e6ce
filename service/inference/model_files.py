"""Locations of model files: shipped with the service, mounted in a folder, or given by path."""

from pathlib import Path

from service.errors import ModelNotFound


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


def _shipped_folders() -> tuple[Path, Path]:
    """In the installed package, and in the root of the repository."""
    package = Path(__file__).parents[1]
    return package / "models", package.parent / "models"

"""Catalog of the model files: shipped with the service, mounted in a folder, or named by their path."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from service.errors import ModelError
from service.inference.eye_finder import FinderInfo, read_finder_info
from service.inference.model_files import list_models, read_model
from service.inference.onnx_metadata import read_metadata
from service.inference.synthesizer import ModelInfo, read_model_info
from service.system.file_changes import file_signature

Source = Literal["shipped", "mounted", "path"]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One file: its metadata, or the problem that keeps it from being used."""

    path: Path
    source: Source
    num_bytes: int
    info: ModelInfo | FinderInfo | None
    problem: str | None

    @property
    def name(self) -> str:
        """The value of EYE2FACE_MODEL that selects it."""
        return self.path.stem


class Catalog:
    """Lists models and caches their metadata until a file changes; may be shared by threads."""

    def __init__(self, mounted: Path | None) -> None:
        self._mounted = mounted
        self._cached: dict[Path, tuple[object, CatalogEntry]] = {}
        self._lock: Final = threading.Lock()

    def list(self, *others: Path) -> list[CatalogEntry]:
        """Every mounted, shipped and otherwise named model, sorted by source and name."""
        files: dict[Path, Source] = dict.fromkeys(others, "path")
        for path, is_mounted in list_models(self._mounted):
            files[path] = "mounted" if is_mounted else "shipped"
        with self._lock:
            self._cached = {path: self._refresh(path, source) for path, source in files.items()}
            return sorted(
                (entry for _, entry in self._cached.values()), key=lambda each: (each.source, each.name)
            )

    def _refresh(self, path: Path, source: Source) -> tuple[object, CatalogEntry]:
        now = file_signature(path)
        before, entry = self._cached.get(path, (None, None))
        if entry is None or before != now:
            entry = _read(path, source)
        return now, entry


def _read(path: Path, source: Source) -> CatalogEntry:
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        return CatalogEntry(path, source, 0, None, f"{path.name} cannot be read ({error.strerror}).")
    try:
        return CatalogEntry(path, source, num_bytes, _read_info(path), None)
    except ModelError as error:  # callers see it: it must not show paths of the machine
        return CatalogEntry(path, source, num_bytes, None, str(error).replace(str(path), path.name))


def _read_info(path: Path) -> ModelInfo | FinderInfo:
    if read_metadata(read_model(path), path).get("part") == "eye_finder":
        return read_finder_info(path)
    return read_model_info(path)

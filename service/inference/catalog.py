"""Catalog of the model files: shipped with the service, mounted in a folder, or named by their path."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from service.errors import ModelError
from service.inference.eye_finder import FinderInfo, read_finder_info
from service.inference.model_files import list_models, read_model
from service.inference.onnx_metadata import read_metadata
from service.inference.synthesizer import ModelInfo, read_model_info
from service.system.file_changes import file_stamp

ModelSource = Literal["shipped", "mounted", "path"]

_MAX_CACHED: Final = 1000


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One file: its metadata, or the problem that keeps it from being used."""

    path: Path
    source: ModelSource
    num_bytes: int
    info: ModelInfo | FinderInfo | None
    problem: str | None

    @property
    def name(self) -> str:
        """The value of EYE2FACE_MODEL that selects it, but for bytes that are no UTF-8."""
        return _readable(self.path.stem)


class Catalog:
    """Lists models and caches their metadata until a file changes; may be shared by threads."""

    def __init__(self, mounted: Path | None) -> None:
        self._mounted = mounted
        self._read = lru_cache(_MAX_CACHED)(_read)
        self._reading = threading.Lock()  # one file is in memory at a time

    def list(self, *others: Path) -> list[CatalogEntry]:
        """Every mounted, shipped and otherwise named model, sorted by source and name."""
        files: dict[Path, ModelSource] = dict.fromkeys(others, "path")
        for path, is_mounted in list_models(self._mounted):
            files[path] = "mounted" if is_mounted else "shipped"
        with self._reading:
            entries = [self._read(path, source, file_stamp(path)) for path, source in files.items()]
        return sorted(entries, key=lambda each: (each.source, each.name))


def _read(path: Path, source: ModelSource, stamp: Hashable) -> CatalogEntry:
    num_bytes = 0
    try:
        num_bytes = path.stat().st_size
        return CatalogEntry(path, source, num_bytes, _read_info(path), None)
    except OSError as error:
        problem = f"{path.name} cannot be read ({error.strerror})."
    except ModelError as error:  # callers see it: it must not show paths of the machine
        problem = str(error).replace(str(path), path.name)
    return CatalogEntry(path, source, num_bytes, None, _readable(problem))


def _readable(text: str) -> str:
    """The text without what stands for bytes of file names that are no UTF-8: JSON cannot hold it."""
    return text.encode(errors="replace").decode()


def _read_info(path: Path) -> ModelInfo | FinderInfo:
    if read_metadata(read_model(path), path).get("part") == "eye_finder":
        return read_finder_info(path)
    return read_model_info(path)

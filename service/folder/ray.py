"""Faces for many photos at once on a Ray cluster: Ray Data hands the photos' names to a worker on every core.

Needs the extra `ray`; nothing else of the service but its command imports this. Every machine of the cluster
reads the photos by the same paths, and has the same model; what is drawn comes back and is written here.
"""

import math
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import ray
import ray.data
from ray.exceptions import RayError

from service.folder.draw import (
    ClusterError,
    DrawnPhoto,
    FolderOptions,
    OutputFolder,
    PhotoOutcome,
    PhotoWorker,
)
from service.settings import Settings

_PHOTOS_AT_ONCE: Final = 8
"""Photos of a block, which a worker takes and gives back as a whole: a kill loses no more of each worker."""
_MAX_BLOCKS: Final = 10_000
_CONNECT_S: Final = 5.0


class _RayWorker:
    """A `PhotoWorker` in a process of Ray's, with a core of its own."""

    def __init__(self, settings: Settings, options: FolderOptions, run: str) -> None:
        cv2.setNumThreads(1)
        self._worker = PhotoWorker(settings, options)
        if self._worker.run != run:
            raise ClusterError(
                f"{ray.util.get_node_ip_address()} has another version of the service or of the model "
                "than this machine: install the same on all."
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"drawn": pickle.dumps(self._worker(pickle.loads(row["task"])))}


def connect(address: str) -> None:
    """Joins a cluster: `HOST:PORT` of its first node, or `auto` for RAY_ADDRESS or that of this machine.

    Raises:
        ClusterError: there is none.
    """
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself asks for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"No Ray cluster answers at {address}: {_last_line(error)}") from error


def draw_on_ray(
    settings: Settings, options: FolderOptions, bulk: OutputFolder, photos: list[Path]
) -> Iterator[PhotoOutcome]:
    """The outcome of each photo, in the order in which they are finished, on all cores of the cluster.

    With EYE2FACE_DEVICE=cuda each worker has a GPU, otherwise a core. Leaves the cluster at the end.

    Raises:
        ClusterError: the cluster cannot do this.
    """
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        needs = {"num_gpus": 1} if settings.device == "cuda" else {"num_cpus": 1}
        num_workers = int(ray.cluster_resources().get("GPU" if "num_gpus" in needs else "CPU", 0))
        if not num_workers:
            raise ClusterError("The cluster has no GPU.")
        blocks = math.ceil(len(photos) / _PHOTOS_AT_ONCE)
        rows = ray.data.from_items(
            [{"task": pickle.dumps(task)} for task in bulk.plan(photos)],
            override_num_blocks=min(blocks, _MAX_BLOCKS),
        ).map(
            _RayWorker,
            fn_constructor_args=(settings, options, bulk.run),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(num_workers, blocks)),
            **needs,
        )
        for row in rows.iter_rows():
            drawn: DrawnPhoto = pickle.loads(row["drawn"])
            bulk.keep(drawn)
            yield bulk.note(drawn)
    except RayError as error:
        raise ClusterError(_last_line(error)) from error
    finally:
        ray.shutdown()


def _last_line(error: Exception) -> str:
    """What a worker said: the last line of what Ray makes of it."""
    return str(error).strip().splitlines()[-1]

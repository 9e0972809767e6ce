"""Faces for many photos on a Ray cluster: Ray Data maps the photos' paths over a worker on every core.

Needs the extra `ray`. Every machine of the cluster reads the photos by the same paths and has the same model;
faces come back and are written here.
"""

import math
import pickle
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import cv2
import ray
import ray.data
from ray.exceptions import RayError

from service.folder.draw import ClusterError, DrawOptions, OutputFolder, PhotoResult, PhotoWorker
from service.settings import Settings

_PHOTOS_PER_BLOCK: Final = 8
"""A worker takes and returns a block as a whole: a kill loses no more of each worker."""
_MAX_BLOCKS: Final = 10_000
_CONNECT_S: Final = 5.0


class _RayWorker:
    """A `PhotoWorker` in a Ray actor with one core."""

    def __init__(self, settings: Settings, options: DrawOptions, run: str) -> None:
        cv2.setNumThreads(1)
        self._worker = PhotoWorker(settings, options)
        if self._worker.run != run:
            raise ClusterError(
                f"{ray.util.get_node_ip_address()} has another version of the service or of the model "
                "than this machine: install the same on all."
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"result": pickle.dumps(self._worker(pickle.loads(row["job"])))}


def connect(address: str) -> None:
    """Joins a cluster: `HOST:PORT` of its first node, or `auto` for RAY_ADDRESS or that of this machine.

    Raises:
        ClusterError: there is none.
    """
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself retries for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"No Ray cluster answers at {address}: {_last_line(error)}") from error


def draw_on_ray(
    settings: Settings, options: DrawOptions, output: OutputFolder, photos: list[Path]
) -> Generator[PhotoResult, None, None]:
    """The result of each photo, in the order of completion, on all cores of the cluster; then leaves it.

    With EYE2FACE_DEVICE=cuda each worker has a GPU, otherwise a core; EYE2FACE_NUM_THREADS limits them.

    Raises:
        ClusterError: the cluster cannot do this.
    """
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        needs = {"num_gpus": 1} if settings.device == "cuda" else {"num_cpus": 1}
        num_workers = int(ray.cluster_resources().get("GPU" if "num_gpus" in needs else "CPU", 0))
        if not num_workers:
            raise ClusterError("The cluster has no GPU.")
        num_workers = min(num_workers, settings.num_threads or num_workers)
        num_blocks = math.ceil(len(photos) / _PHOTOS_PER_BLOCK)
        rows = ray.data.from_items(
            [{"job": pickle.dumps(job)} for job in output.plan(photos)],
            override_num_blocks=min(num_blocks, _MAX_BLOCKS),
        ).map(
            _RayWorker,
            fn_constructor_args=(settings, options, output.run),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(num_workers, num_blocks)),
            **needs,
        )
        for row in rows.iter_rows():
            result: PhotoResult = pickle.loads(row["result"])
            yield output.record(output.write(result))
    except RayError as error:
        raise ClusterError(_last_line(error)) from error
    finally:
        ray.shutdown()


def _last_line(error: Exception) -> str:
    """The worker's own message: the last line of Ray's."""
    return str(error).strip().splitlines()[-1]

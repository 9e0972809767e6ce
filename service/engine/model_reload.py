"""The model in use, and its replacement while requests run.

A request takes `current` once and keeps it to its end, so it never sees two models. The new one is tested in
a process with limits, then loaded beside the old one; if it fails, the old one stays in use, and the log has
the reason.
"""

import asyncio
import logging
import weakref
from _thread import start_new_thread
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from service.decoding.reader import PhotoReader
from service.engine.device_runner import DeviceRunner
from service.engine.worker_pool import attempt_aside
from service.errors import Eye2FaceError
from service.inference.model_files import model_path, read_model
from service.inference.self_test import check_candidate, check_model
from service.inference.synthesizer import Synthesizer
from service.pipeline import Pipeline, quality_thresholds
from service.provenance.marking import Marker
from service.settings import Settings
from service.system.file_changes import file_stamp
from service.system.signals import on_sighup

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LoadedModel:
    """A model that passed its self-test, its device runner, pipeline and marker, and its file's stamp."""

    path: Path
    file_stamp: object
    synthesizer: Synthesizer
    runner: DeviceRunner
    pipeline: Pipeline
    marker: Marker

    @classmethod
    def open(
        cls,
        settings: Settings,
        run_with: Callable[[Synthesizer], DeviceRunner],
        open_reader: Callable[[Synthesizer], PhotoReader],
        *,
        is_candidate: bool = False,
    ) -> Self:
        """The model that the settings name, as its file is now; a candidate has to pass its test elsewhere.

        Raises:
            ModelError: it cannot be used, or fails its self-test.
        """
        path = model_path(settings.model, settings.models_dir)
        as_read = file_stamp(path)  # before reading: what is written meanwhile counts as a change
        content = read_model(path)
        if is_candidate:
            check_candidate(path, content)
        load = partial(_load_tested, path, content, settings)
        synthesizer, error = attempt_aside(load).result()  # a signal may end the wait
        if synthesizer is None:
            raise error or AssertionError
        reader, runner = open_reader(synthesizer), run_with(synthesizer)
        pipeline = Pipeline(reader, synthesizer, thresholds=quality_thresholds(settings), draw=runner.draw)
        marker = Marker.open(settings, synthesizer.info)
        loaded = cls(path, as_read, synthesizer, runner, pipeline, marker)
        # On a GPU it has a thread, which ends when the last request lets go of it. That may be anywhere, also
        # in `threading` itself, whose own start of a thread would then wait for ever.
        weakref.finalize(loaded, start_new_thread, runner.close, ()).atexit = False
        return loaded

    def __str__(self) -> str:
        info = self.synthesizer.info
        return f"{info.name} {info.version} ({info.sha256[:12]}) on {self.synthesizer.device}"


class ReloadableModel:
    """Holds the model in use; `reload` replaces it by the current file."""

    def __init__(
        self,
        loaded: LoadedModel,
        load: Callable[[], LoadedModel],
        announce: Callable[[LoadedModel], None] | None = None,
    ) -> None:
        self.current = loaded
        self._announce = announce
        self.last_failure: str | None = None
        """Why the last reload kept the old model; None if it did not."""
        self._load = load
        self._reloading = asyncio.Lock()

    async def reload(self) -> None:
        """Replaces the model by its file; if that fails it stays, and `last_failure` says why."""
        async with self._reloading:
            loaded, error = await asyncio.wrap_future(attempt_aside(self._load))
            if loaded is None:
                kind = "" if isinstance(error, Eye2FaceError) else f"{type(error).__name__}: "
                self.last_failure = f"{kind}{error}"
                _log.error("cannot reload the model, keeping %s: %s", self.current, self.last_failure)
                return
            _log.warning("reloaded the model: %s replaces %s", loaded, self.current)
            self.current, self.last_failure = loaded, None
            if self._announce is not None:
                self._announce(loaded)

    async def reload_when(self, wanted: asyncio.Event) -> None:
        """Reloads, without end, when the event is set; what sets it during a reload is one more reload."""
        while True:
            await wanted.wait()
            wanted.clear()
            await self.reload()

    async def follow(self, locate: Callable[[], Path], every_s: float) -> None:
        """Reloads, without end, when the model's file has changed and then stayed as it is for `every_s`."""
        tried = self.current.file_stamp
        before = tried
        while True:
            await asyncio.sleep(every_s)
            try:
                now = file_stamp(locate())
            except Eye2FaceError:  # it is gone, or not there yet
                continue
            if now == before and now not in (tried, self.current.file_stamp):
                tried = now
                await self.reload()
            before = now


@asynccontextmanager
async def watch_for_reloads(live: ReloadableModel, settings: Settings) -> AsyncIterator[None]:
    """Within the context, reloads the model on SIGHUP, and if configured when its file changes."""
    wanted = asyncio.Event()
    tasks = [asyncio.create_task(live.reload_when(wanted))]
    if settings.model_watch_s:
        locate = lambda: model_path(settings.model, settings.models_dir)  # noqa: E731
        tasks.append(asyncio.create_task(live.follow(locate, settings.model_watch_s)))
    remove_handler = on_sighup(wanted.set)
    if file_stamp(live.current.path) != live.current.file_stamp:  # it changed during the start
        wanted.set()
    try:
        yield
    finally:
        remove_handler()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _load_tested(path: Path, content: bytes, settings: Settings) -> Synthesizer:
    synthesizer = Synthesizer.load(path, content=content, device=settings.device)
    check_model(synthesizer)
    return synthesizer

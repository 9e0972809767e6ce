"""Time spent on one photo, by stage of its work."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

STAGES: Final = ("decode", "find", "crop", "infer")

StageObserver = Callable[[str, float, float], None]
"""Called after each stage with its name, its duration and how long ago it ended, in milliseconds."""


@dataclass(slots=True)
class StageTimer:
    """Milliseconds by stage; `check` is called before each stage, and may raise to cancel the work."""

    check: Callable[[], None] = lambda: None
    observe: StageObserver | None = None
    spent_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def span(self, stage: str) -> Iterator[None]:
        """Times what runs inside; raises what `check` does."""
        self.check()
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, (time.perf_counter() - begin) * 1000)

    def add(self, stage: str, spent_ms: float, *, ago_ms: float = 0.0) -> None:
        """Adds time that was measured elsewhere and ended `ago_ms` before now."""
        self.spent_ms[stage] = self.spent_ms.get(stage, 0.0) + spent_ms
        if self.observe is not None:
            self.observe(stage, spent_ms, ago_ms)

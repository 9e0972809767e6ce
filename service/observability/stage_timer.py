"""Deadline, cancellation and stage times of the work on one photo."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service.errors import DeadlineExceeded

STAGES: Final = ("decode", "find", "crop", "infer")

StageObserver = Callable[[str, float, float], None]
"""Called after each stage with its name, its duration and how long ago it ended, in milliseconds."""


class CancellationToken:
    """Whether a result is still wanted: its deadline, and a flag that another thread may set."""

    def __init__(self, deadline: float = math.inf) -> None:
        """`deadline` is a time of the monotonic clock."""
        self.created = time.monotonic()
        self.deadline = deadline
        self.is_cancelled = False

    def check(self) -> None:
        """Returns if the result is still wanted.

        Raises:
            DeadlineExceeded: it comes too late, or nobody is there to take it.
        """
        if self.is_cancelled or time.monotonic() > self.deadline:
            raise self.exceeded()

    def exceeded(self) -> DeadlineExceeded:
        """The error for whoever waited in vain."""
        given_ms = (self.deadline - self.created) * 1000
        return DeadlineExceeded(
            f"The photo was not done within the {given_ms:,.0f} ms given to it, counted from the end of its "
            "upload. Send it again later, give it more time (X-Deadline-Ms), or send fewer at once."
        )


class StageTimer(CancellationToken):
    """Milliseconds by stage; each stage begins with a check whether the result is still wanted."""

    def __init__(self, deadline: float = math.inf, observe: StageObserver | None = None) -> None:
        super().__init__(deadline)
        self.observe = observe
        self.spent_ms: dict[str, float] = dict.fromkeys(STAGES, 0.0)

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

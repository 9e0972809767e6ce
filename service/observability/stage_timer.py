"""Deadline, cancellation and stage times of the work on one photo."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from service.errors import DeadlineExceeded

STAGES: Final = ("decode", "find", "crop", "infer")

StageObserver = Callable[[str, float, float], None]
"""Called after each stage with its name, its duration and how long ago it ended, in milliseconds."""


@dataclass(eq=False, slots=True)
class StageTimer:
    """Deadline, cancellation flag and milliseconds by stage of one photo; other threads may cancel it.

    Stages follow one another: each lasts from the end of the last one to the call of `end`. `deadline` and
    `created` are times of the monotonic clock.
    """

    deadline: float = math.inf
    observe: StageObserver | None = None
    created: float = field(default_factory=time.monotonic)
    is_cancelled: bool = False
    queued_ms: float = 0.0
    spent_ms: dict[str, float] = field(default_factory=dict.fromkeys(STAGES, 0.0).copy)
    _begun: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raises DeadlineExceeded after the deadline or the cancellation."""
        if self.is_cancelled or time.monotonic() > self.deadline:
            raise self.exceeded()

    def exceeded(self) -> DeadlineExceeded:
        """The error of work that is past its deadline."""
        given_ms = (self.deadline - self.created) * 1000
        return DeadlineExceeded(
            f"The photo was not done within the {given_ms:,.0f} ms given to it, counted from the end of its "
            "upload. Send it again later, give it more time (X-Deadline-Ms), or send fewer at once."
        )

    def leave_queue(self) -> None:
        """Ends the time in the queue; raises what `check` does."""
        self.queued_ms = (time.monotonic() - self.created) * 1000
        if self.observe is not None:
            self.observe("queue", self.queued_ms, 0.0)
        self.begin()
        self.check()

    def begin(self) -> None:
        """Begins a stage: the time since the last one counts for none."""
        self._begun = time.monotonic()

    def end(self, stage: str) -> None:
        """Ends a stage; raises what `check` does."""
        self.add(stage, (time.monotonic() - self._begun) * 1000)
        self.check()

    def add(self, stage: str, spent_ms: float, *, ago_ms: float = 0.0) -> None:
        """Adds time that was measured elsewhere and ended `ago_ms` before now."""
        self.spent_ms[stage] = self.spent_ms.get(stage, 0.0) + spent_ms
        if self.observe is not None:
            self.observe(stage, spent_ms, ago_ms)
        self.begin()

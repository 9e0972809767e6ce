"""One photo, decoded as little as possible: as the finder wants it, and finer where an eye is small.

Outside of it eyes are in pixels of the upright photo at full size. Knows nothing of models or HTTP.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from service.vision.eyes import Eye, EyeDetections, EyeFinder, crop_eye
from service.vision.images import Image, Reduce, decode, estimate_decode_bytes, halve, overhang, read_header
from service.vision.quality import MEASURED_PX, Quality, measure_quality

if TYPE_CHECKING:  # a process that reads photos traces nothing
    from service.observability.tracing import StageObserver

STAGES: Final = ("decode", "find", "crop", "infer")
_REDUCES: tuple[Reduce, ...] = (8, 4, 2, 1)
_FINER: dict[Reduce, Reduce] = {2: 1, 4: 2, 8: 4}


class Photo:
    """One photo, decoded as little as possible; where it is, eyes are in pixels of its full size."""

    def __init__(self, data: bytes, *, max_pixels: int, timer: "StageTimer | None" = None) -> None:
        self._data = data
        self._header = read_header(data, max_pixels=max_pixels)
        self._decoded: dict[Reduce, Image] = {}
        self.width = self._header.upright_width
        self.height = self._header.upright_height
        self.timer = timer or StageTimer()

    @property
    def num_bytes(self) -> int:
        """The memory that its pixels take at the most."""
        return estimate_decode_bytes(self._header)

    def forget(self) -> None:
        """Lets go of all pixels, whoever still holds the photo, such as an error that is on its way."""
        self._decoded.clear()

    def detect(self, finder: EyeFinder) -> EyeDetections:
        """What the finder sees at the smallest scale that shows it everything."""
        reduce = self.detection_reduce(finder)
        pixels = self._coarse(reduce)
        with self.timer.span("find"):
            seen = finder.detect(pixels)
            below_threshold = seen.below_threshold
            return EyeDetections(
                [self._grown(eye, reduce) for eye in seen.eyes],
                None if below_threshold is None else [self._grown(eye, reduce) for eye in below_threshold],
            )

    def detection_reduce(self, finder: EyeFinder) -> Reduce:
        """The smallest scale that shows the finder everything."""
        return self._smallest(max(self.width, self.height), finder.input_side_px)

    def crop(self, eye: Eye, size: int) -> Image:
        """The eye, size x size x 3, from pixels at least as fine as the crop, where the photo has them."""
        reduce = self._sharp_enough(eye, size)
        pixels = self.pixels(reduce)
        with self.timer.span("crop"):
            return crop_eye(pixels, self.shrunk(eye, reduce), size)

    def measure(self, eye: Eye, size: int = MEASURED_PX) -> Quality:
        """How well the eye is seen, from pixels as fine as a crop of this size needs: it may follow."""
        reduce = self._sharp_enough(eye, size)
        pixels = self.pixels(reduce)
        with self.timer.span("crop"):
            return measure_quality(pixels, self.shrunk(eye, reduce), size_px=eye.size_px)

    def pixels(self, reduce: Reduce) -> Image:
        """The photo decoded at 1/`reduce`, once."""
        if reduce not in self._decoded:
            with self.timer.span("decode"):
                self._decoded[reduce] = decode(self._data, self._header, reduce=reduce)
        return self._decoded[reduce]

    def _coarse(self, reduce: Reduce) -> Image:
        """The photo at 1/`reduce`, shrunk from twice as fine a scale, which is kept for what comes next.

        To read a JPEG's bits is most of the work at any scale: the finer decode takes a third more time at
        most, and a second one, which all but large eyes want, is spared.
        """
        if reduce not in self._decoded and reduce > 1:
            finer = self.pixels(_FINER[reduce])
            with self.timer.span("decode"):
                self._decoded[reduce] = halve(finer, self._header)
        return self.pixels(reduce)

    def shrunk(self, eye: Eye, reduce: Reduce) -> Eye:
        """An eye of the full size in pixels of 1/`reduce`."""
        beyond_x, beyond_y = overhang(self._header, reduce)
        x, y = (eye.x + 0.5 + beyond_x) / reduce - 0.5, (eye.y + 0.5 + beyond_y) / reduce - 0.5
        return replace(eye, x=x, y=y, size_px=eye.size_px / reduce)

    def _grown(self, eye: Eye, reduce: Reduce) -> Eye:
        beyond_x, beyond_y = overhang(self._header, reduce)
        x, y = (eye.x + 0.5) * reduce - 0.5 - beyond_x, (eye.y + 0.5) * reduce - 0.5 - beyond_y
        return replace(eye, x=x, y=y, size_px=eye.size_px * reduce)

    def _sharp_enough(self, eye: Eye, size: float) -> Reduce:
        """The smallest scale at which the eye keeps `size` pixels, or a finer one that is there already."""
        reduce = self._smallest(eye.size_px, size)
        finer = [each for each in self._decoded if each <= reduce]
        return max(finer, default=reduce)

    def _smallest(self, length_px: float, needed_px: float) -> Reduce:
        """The smallest scale at which a length of the full size keeps `needed_px`."""
        if self._header.format != "jpeg":
            return 1
        return next((reduce for reduce in _REDUCES if length_px / reduce >= needed_px), 1)


@dataclass(slots=True)
class StageTimer:
    """Adds up the milliseconds spent under each name; `check` is called before each and may stop the work."""

    check: Callable[[], None] = lambda: None
    follow: "StageObserver | None" = None
    spent_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Counts what runs inside; raises what `check` does."""
        self.check()
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, (time.perf_counter() - begin) * 1000)

    def add(self, name: str, spent_ms: float, *, ago_ms: float = 0.0) -> None:
        """Counts what was spent elsewhere, until some time ago."""
        self.spent_ms[name] = self.spent_ms.get(name, 0.0) + spent_ms
        if self.follow is not None:
            self.follow(name, spent_ms, ago_ms)

"""One photo, decoded at the coarsest sufficient JPEG scale, and finer only for small eyes.

Callers see eyes in pixels of the upright photo at full size; scales stay inside. Source of the scales:
libjpeg decodes at 1/2, 1/4 and 1/8 in the DCT domain.
"""

from collections.abc import Sequence
from dataclasses import replace

from service.observability.stage_timer import StageTimer
from service.vision.eyes import MEASURED_PX, Eye, EyeDetections, EyeFinder, Quality, crop_eye, measure_quality
from service.vision.images import Image, Reduce, decode, estimate_decode_bytes, read_header

_REDUCES: tuple[Reduce, ...] = (8, 4, 2, 1)

_FLIPPED_X, _FLIPPED_Y = (2, 3, 6, 7), (3, 4, 7, 8)
"""EXIF orientations whose first stored column or row becomes the upright last column or row."""


class Photo:
    """One photo of untrusted bytes; each scale is decoded at most once."""

    def __init__(self, data: bytes, *, max_pixels: int, timer: StageTimer | None = None) -> None:
        """Reads the header alone.

        Raises:
            ImageError: the bytes are not a picture that can be used.
        """
        self._data = data
        self._header = read_header(data, max_pixels=max_pixels)
        self.decoded: dict[Reduce, Image] = {}
        self.width = self._header.upright_width
        self.height = self._header.upright_height
        self.num_bytes = estimate_decode_bytes(self._header)
        """Upper bound of the memory that its pixels take."""
        self.timer = timer or StageTimer()

    def detect(self, finder: EyeFinder) -> EyeDetections:
        """What the finder sees at the coarsest scale that has all the pixels it can use."""
        reduce = self.detection_reduce(finder)
        left, top = self._overhang(reduce)

        def at_full_size(eye: Eye) -> Eye:
            eye = eye.scaled(reduce)
            return replace(eye, x=eye.x - left, y=eye.y - top)

        found = finder.detect(self.pixels(reduce))
        below = found.below_threshold
        eyes = [at_full_size(eye) for eye in found.eyes]
        self.timer.end("find")
        return EyeDetections(eyes, below and [at_full_size(eye) for eye in below])

    def detection_reduce(self, finder: EyeFinder) -> Reduce:
        """The scale at which `detect` shows the photo to the finder."""
        return self.coarsest_reduce(finder.input_side_px)

    def crop(self, eye: Eye, size: int) -> Image:
        """The eye, size x size x 3, from pixels at least as fine as the crop, where the photo has them."""
        pixels, eye = self._fine_enough(eye, size)
        crop = crop_eye(pixels, eye, size)
        self.timer.end("crop")
        return crop

    def measure(self, eyes: Sequence[Eye], size: int = MEASURED_PX) -> list[Quality]:
        """Quality of each eye, from pixels as fine as a crop of `size` needs, if one is to follow."""
        seen = [self._fine_enough(eye, size) for eye in eyes]
        return [
            measure_quality(pixels, there, size_px=eye.size_px)
            for eye, (pixels, there) in zip(eyes, seen, strict=True)
        ]

    def pixels(self, reduce: Reduce) -> Image:
        """The photo decoded at 1/`reduce`."""
        if reduce not in self.decoded:
            self.decoded[reduce] = decode(self._data, self._header, reduce=reduce)
            self.timer.end("decode")
        return self.decoded[reduce]

    def at_scale(self, eye: Eye, reduce: Reduce) -> Eye:
        """An eye of the full-size photo in pixels of 1/`reduce`."""
        left, top = self._overhang(reduce)
        return replace(eye, x=eye.x + left, y=eye.y + top).scaled(1 / reduce)

    def _overhang(self, reduce: Reduce) -> tuple[int, int]:
        """Full-size pixels by which the picture at 1/`reduce` begins left of and above the upright photo.

        JPEG scaling averages blocks from the stored top left; where a side does not divide, the last block
        reaches beyond the picture. Orientations that flip an axis put that block first.
        """
        left = -self.width % reduce * (self._header.orientation in _FLIPPED_X)
        return left, -self.height % reduce * (self._header.orientation in _FLIPPED_Y)

    def _fine_enough(self, eye: Eye, size: float) -> tuple[Image, Eye]:
        """The coarsest pixels that give the eye `size` of them, or finer ones at hand; the eye in them."""
        reduce = self._coarsest(eye.size_px, size)
        reduce = max([each for each in self.decoded if each <= reduce], default=reduce)
        return self.pixels(reduce), self.at_scale(eye, reduce)

    def coarsest_reduce(self, long_side_px: float) -> Reduce:
        """The coarsest scale at which the long side keeps so many pixels."""
        return self._coarsest(max(self.width, self.height), long_side_px)

    def _coarsest(self, length_px: float, needed_px: float) -> Reduce:
        """The coarsest scale at which a full-size length keeps `needed_px`; only JPEG has more than one."""
        if self._header.format != "jpeg":
            return 1
        for reduce in _REDUCES:
            if length_px / reduce >= needed_px:
                return reduce
        return 1

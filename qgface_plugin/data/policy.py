"""What is done to an image to make its degraded view: every parameter, and the two published settings.

The steps themselves are in `degrade.py`. Symbols: p a probability; r side ratio; U(a, b) the uniform distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

from qgface_plugin.config import knob
from qgface_plugin.data.own_steps import check_steps
from qgface_plugin.errors import ConfigError
from qgface_plugin.schema import check_fields

FILTERS = ("nearest", "bilinear", "area", "bicubic", "lanczos")
WHERE = "config.qgface.degradation"


@dataclass(frozen=True)
class DegradationPolicy:
    """Parameters of the degraded view; the defaults are the paper's setting E, `OURS`.

    Steps in their order: rescale, JPEG, crop, photometric, rotate, flip. A crop that keeps its place comes first
    instead, so that its black border is rescaled with the face, as AdaFace has it. Own steps come before all of them,
    or between rescale and JPEG. Raises ConfigError naming the
    field and its value when one is out of range.
    """

    rescale_p: float = knob(1.0, "probability of scaling down and up again", low=0.0, high=1.0)
    rescale_ratio: tuple[float, float] = knob((0.1, 0.5), "r ~ U(low, high): small side / side, 0 < low <= high <= 1")
    filters: tuple[str, ...] = knob(FILTERS, "names that the down and the up filter are each drawn from")
    rescale_antialias: bool = knob(
        True, "halve by area while a factor of 2 or more is to go, so that only nearest skips pixels"
    )
    jpeg_p: float = knob(1.0, "probability of JPEG artefacts, at the small size", low=0.0, high=1.0)
    jpeg_quality: int = knob(75, "quality of that JPEG, 1 to 100", low=1, high=100)
    crop_p: float = knob(0.2, "probability of cropping", low=0.0, high=1.0)
    crop_area: tuple[float, float] = knob((0.8, 1.0), "crop's share of the area ~ U(low, high), 0 < low <= high <= 1")
    crop_aspect: tuple[float, float] = knob(
        (3 / 4, 4 / 3), "crop's width / height, log-uniform in [low, high] as far as the crop fits in, 0 < low <= high"
    )
    crop_keeps_place: bool = knob(False, "the crop stays where it was and the rest turns black; else it is enlarged")
    photometric_p: float = knob(0.2, "probability of changing all three of the following", low=0.0, high=1.0)
    brightness: float = knob(0.2, "half width x of the factor U(1 - x, 1 + x)", low=0.0, high=1.0)
    contrast: float = knob(0.2, "half width x of the factor U(1 - x, 1 + x), about the mean grey", low=0.0, high=1.0)
    saturation: float = knob(0.2, "half width x of the factor U(1 - x, 1 + x), about each grey", low=0.0, high=1.0)
    rotation_p: float = knob(0.2, "probability of rotating about the centre", low=0.0, high=1.0)
    rotation_degrees: float = knob(45.0, "angle ~ U(-x, x) in degrees", low=0.0, high=180.0)
    flip_p: float = knob(0.5, "probability of mirroring, drawn for each of the two views", low=0.0, high=1.0)
    steps: tuple[str, ...] = knob((), "further steps by their names, see own_steps.py")

    def __post_init__(self) -> None:
        check_fields(self, WHERE)
        for name in ("rescale_ratio", "crop_area", "crop_aspect", "filters", "steps"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, limit in (("rescale_ratio", 1.0), ("crop_area", 1.0), ("crop_aspect", float("inf"))):
            low, high = getattr(self, name)
            if not (0 < low <= high <= limit and high < float("inf")):
                bound = "" if limit > 1 else " <= 1"
                raise ConfigError(f"{WHERE}.{name} is ({low}, {high}): it must be (low, high), 0 < low <= high{bound}")
        unknown = [name for name in self.filters if name not in FILTERS]
        if unknown or not self.filters:
            raise ConfigError(f"{WHERE}.filters is {self.filters!r}: it must name at least one of {', '.join(FILTERS)}")
        check_steps(self.steps)


OURS = DegradationPolicy()
"""Setting E of the paper (IV-A/B): every degraded view is a small, compressed face."""

ADAFACE = DegradationPolicy(
    rescale_p=0.2,
    rescale_ratio=(0.2, 1.0),
    rescale_antialias=False,
    jpeg_p=0.0,
    crop_area=(0.2, 1.0),
    crop_keeps_place=True,
    brightness=0.5,
    contrast=0.5,
    saturation=0.5,
    rotation_p=0.0,
)
"""Setting A of the paper: AdaFace's augmentation, each step with p = 0.2."""

PRESETS = {"ours": OURS, "adaface": ADAFACE}

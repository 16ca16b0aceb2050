"""Settings of the degraded view: every parameter of its steps, and the two published sets of them.

The steps are in `data/degradation/`. Symbols: p a probability; r side ratio; U(a, b) the uniform distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..utils.errors import ConfigError
from ..utils.registry import DEGRADATION_STEPS
from .schema import as_mapping, check_fields, from_mapping, near_matches, setting

FILTERS = ("nearest", "bilinear", "area", "bicubic", "lanczos")
WHERE = "config.qgface.degradation"
CAMERA = (  # pairs of numbers with what they lie between
    ("motion_length", 1.0, 31.0),
    ("atmosphere_fwhm", 1.0, 16.0),
    ("noise_read", 0.0, 64.0),
    ("noise_shot", 0.0, 64.0),
)


@dataclass(frozen=True)
class DegradationPolicy:
    """Parameters of the degraded view; the defaults are the paper's setting E, `OURS`.

    Steps in their order: misalign, motion, atmosphere, rescale, noise, JPEG, crop, photometric, rotate, flip; the
    published policies have neither of the first three nor noise. A crop that keeps its place comes first
    instead, so that its black border is rescaled with the face, as AdaFace has it. Custom steps come before
    all of them but misalignment, motion and atmosphere, or between noise and JPEG.

    Raises:
        ConfigError: A value is out of range; the message names the field and the value.

    Example:
        >>> from dataclasses import replace
        >>> replace(OURS, jpeg_quality=60).rescale_ratio
        (0.1, 0.5)
    """

    rescale_p: float = setting(1.0, "probability of scaling down and up again", low=0.0, high=1.0)
    rescale_ratio: tuple[float, float] = setting(
        (0.1, 0.5), "r ~ U(low, high): small side / side, 0 < low <= high <= 1"
    )
    filters: tuple[str, ...] = setting(FILTERS, "names that the down and the up filter are each drawn from")
    rescale_antialias: bool = setting(
        True, "halve by area while a factor of 2 or more is to go, so that only nearest skips pixels"
    )
    jpeg_p: float = setting(1.0, "probability of JPEG artefacts, at the small size", low=0.0, high=1.0)
    jpeg_quality: int = setting(75, "quality of that JPEG, 1 to 100", low=1, high=100)
    crop_p: float = setting(0.2, "probability of cropping", low=0.0, high=1.0)
    crop_area: tuple[float, float] = setting(
        (0.8, 1.0), "crop's share of the area ~ U(low, high), 0 < low <= high <= 1"
    )
    crop_aspect: tuple[float, float] = setting(
        (3 / 4, 4 / 3), "crop's width / height, log-uniform in [low, high] as far as the crop fits in, 0 < low <= high"
    )
    crop_keeps_place: bool = setting(False, "the crop stays where it was and the rest turns black; else it is enlarged")
    photometric_p: float = setting(0.2, "probability of changing all three of the following", low=0.0, high=1.0)
    brightness: float = setting(0.2, "half width x of the factor U(1 - x, 1 + x)", low=0.0, high=1.0)
    contrast: float = setting(0.2, "half width x of the factor U(1 - x, 1 + x), about the mean grey", low=0.0, high=1.0)
    saturation: float = setting(0.2, "half width x of the factor U(1 - x, 1 + x), about each grey", low=0.0, high=1.0)
    rotation_p: float = setting(0.2, "probability of rotating about the centre", low=0.0, high=1.0)
    rotation_degrees: float = setting(45.0, "angle ~ U(-x, x) in degrees", low=0.0, high=180.0)
    flip_p: float = setting(0.5, "probability of mirroring, drawn for each of the two views", low=0.0, high=1.0)
    misalign_p: float = setting(
        0.0, "probability of a face out of place: a small shift, scale and turn before all else", low=0.0, high=1.0
    )
    misalign_shift: float = setting(0.05, "shift along each axis ~ U(-x, x), share of the side", low=0.0, high=0.5)
    misalign_scale: float = setting(0.1, "factor of size ~ U(1 - x, 1 + x)", low=0.0, high=0.9)
    misalign_degrees: float = setting(10.0, "angle ~ U(-x, x) in degrees", low=0.0, high=180.0)
    motion_p: float = setting(0.0, "probability of motion blur in a direction ~ U(0, 180) degrees", low=0.0, high=1.0)
    motion_length: tuple[float, float] = setting(
        (3.0, 11.0), "its length ~ U(low, high) in pixels of the full size, 1 <= low <= high <= 31"
    )
    atmosphere_p: float = setting(0.0, "probability of the blur of turbulent air, as at a distance", low=0.0, high=1.0)
    atmosphere_fwhm: tuple[float, float] = setting(
        (1.0, 5.0), "its full width at half maximum ~ U(low, high) in pixels of the full size, 1 <= low <= high <= 16"
    )
    noise_p: float = setting(0.0, "probability of sensor noise, at the small size, before the JPEG", low=0.0, high=1.0)
    noise_read: tuple[float, float] = setting(
        (0.0, 6.0), "its standard deviation in the dark ~ U(low, high) in levels, 0 <= low <= high <= 64"
    )
    noise_shot: tuple[float, float] = setting(
        (0.0, 12.0), "what light adds to it at white ~ U(low, high) in levels, 0 <= low <= high <= 64"
    )
    steps: tuple[str, ...] = setting((), "further steps by the names they are registered under")

    @property
    def like_a_camera(self) -> bool:
        """Whether it has any of misalignment, motion, atmosphere and noise, which take numbers of their own."""
        return any((self.misalign_p, self.motion_p, self.atmosphere_p, self.noise_p))

    def __post_init__(self) -> None:
        check_fields(self, WHERE)
        for name in ("rescale_ratio", "crop_area", "crop_aspect", "filters", "steps", *(name for name, _, _ in CAMERA)):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, limit in (("rescale_ratio", 1.0), ("crop_area", 1.0), ("crop_aspect", float("inf"))):
            low, high = getattr(self, name)
            if not (0 < low <= high <= limit and high < float("inf")):
                bound = "" if limit > 1 else " <= 1"
                raise ConfigError(f"{WHERE}.{name} is ({low}, {high}): it must be (low, high), 0 < low <= high{bound}")
        for name, lowest, highest in CAMERA:
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ConfigError(
                    f"{WHERE}.{name} is ({low}, {high}): it must be (low, high), "
                    f"{lowest:g} <= low <= high <= {highest:g}"
                )
        unknown = [name for name in self.filters if name not in FILTERS]
        if unknown or not self.filters:
            raise ConfigError(f"{WHERE}.filters is {self.filters!r}: it must name at least one of {', '.join(FILTERS)}")
        check_steps(self.steps)


def check_steps(names: Sequence[str], where: str = "config.qgface.degradation.steps") -> None:
    """Check that each custom step has been registered.

    Args:
        names: the steps that the setting `where` names.
        where: that setting, for the message.

    Raises:
        ConfigError: A step is not known; the message names it and those that are.
    """
    if unknown := [name for name in names if name not in DEGRADATION_STEPS]:
        known = f"known are {', '.join(map(repr, DEGRADATION_STEPS))}" if DEGRADATION_STEPS else "none is known"
        raise ConfigError(
            f"{where} names {unknown[0]!r}, and {known}: the recipe must import the file in which it is registered by "
            "@degradation_step"
        )


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


def degradation_policy(value: Any) -> DegradationPolicy | None:
    """The policy of the degraded view from `config.qgface.degradation`.

    Args:
        value: "ours", "adaface", None (single views, no pairs), or a group of settings such as
            `dict(policy="ours", jpeg_quality=60)` that change a preset ("ours" when `policy` is left out).

    Raises:
        ConfigError: The preset or a key is unknown, or a value does not fit.
    """
    where = "config.qgface.degradation"
    if value is None or isinstance(value, DegradationPolicy):
        return value
    if isinstance(value, str):
        value = {"policy": value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}: it must be 'ours', 'adaface', None or a group of settings")
    given = as_mapping(value, where)
    name = given.pop("policy", "ours")
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"{where}.policy is {name!r} and unknown: {near_matches(str(name), PRESETS)}")
    preset = {f.name: getattr(PRESETS[name], f.name) for f in fields(DegradationPolicy)}
    return from_mapping(DegradationPolicy, {**preset, **given}, where, also_known=("policy",))

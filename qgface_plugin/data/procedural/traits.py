"""Traits of a procedural person, and what changes from picture to picture."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

# Trait -> range. Lengths in pixels of the crop, slopes as dy/dx, the rest shares of what is possible.
PERSON = {
    "skin": (0.2, 1.0), "skin_red": (-1.0, 1.0), "hair": (0.0, 0.8), "hair_red": (0.0, 1.0), "iris": (0.0, 1.0),
    "lips": (0.0, 1.0), "cheeks": (0.0, 1.0), "face_width": (35.0, 43.0), "jaw": (0.62, 1.0), "chin": (44.0, 55.0),
    "crown": (44.0, 54.0), "hair_volume": (1.0, 9.0), "hair_length": (28.0, 120.0), "hairline": (15.0, 33.0),
    "parting": (-0.3, 0.3), "hair_arch": (-8.0, 14.0), "bald": (0.0, 1.0), "eye_distance": (15.2, 20.0),
    "eye_width": (5.4, 8.6), "eye_height": (2.4, 4.6), "eye_tilt": (-0.22, 0.22), "iris_size": (2.3, 3.4),
    "brow_height": (8.0, 12.5), "brow_length": (7.0, 11.5), "brow_weight": (0.8, 3.0), "brow_slope": (-0.25, 0.25),
    "brow_arch": (0.0, 3.0), "nose_length": (16.0, 25.0), "nose_width": (4.5, 9.5), "nose_bridge": (1.0, 3.5),
    "mouth_width": (10.0, 18.0), "upper_lip": (1.2, 3.6), "lower_lip": (1.6, 4.8), "mouth_drop": (-2.5, 2.5),
    "ears": (5.0, 11.0), "beard": (0.0, 1.0), "moustache": (0.0, 1.0), "marks": (0.0, 1.0), "mole_x": (-26.0, 26.0),
    "mole_y": (62.0, 84.0), "glasses": (0.0, 1.0), "lens": (0.5, 1.1), "rim": (0.0, 1.0),
}  # fmt: skip

# Pose, expression, what people do with their hair and glasses, light, camera. Angles in radians, lengths in pixels,
# noise in grey levels, the rest shares.
PICTURE = {
    "yaw": (-1.4, 1.4), "roll": (-0.12, 0.12), "scale": (0.93, 1.07), "shift_x": (-3.0, 3.0), "shift_y": (-3.0, 3.0),
    "smile": (-2.0, 4.5), "mouth_open": (-3.0, 5.0), "brow_raise": (-2.0, 3.0), "eye_open": (0.55, 1.1),
    "gaze": (-1.6, 1.6), "comb": (-0.15, 0.15), "fringe": (-4.0, 4.0), "hair_grown": (-14.0, 14.0),
    "glasses_off": (0.0, 1.0), "gain": (0.5, 1.25), "warmth": (-0.2, 0.2), "light": (0.0, 2.0 * np.pi),
    "light_strength": (0.0, 0.6), "haze": (0.0, 0.25), "noise": (2.0, 24.0),
}  # fmt: skip


def draw_person(rng: np.random.Generator) -> SimpleNamespace:
    """The traits of PERSON, and the colours that follow from them: skin_colour, hair_colour (float RGB, 0 to 255)."""
    person = _draw(PERSON, rng)
    person.skin_colour = mix((98, 64, 44), (240, 202, 178), person.skin) + np.multiply((9, -4, -5), person.skin_red)
    dark = mix((28, 22, 20), (120, 56, 26), person.hair_red)
    pale = mix((222, 190, 120), (196, 198, 200), person.hair_red)
    person.hair_colour = mix(dark, pale, person.hair**1.6)
    return person


def draw_picture(rng: np.random.Generator) -> SimpleNamespace:
    """The values of PICTURE for one picture."""
    return _draw(PICTURE, rng)


def mix(first: tuple[float, ...] | np.ndarray, second: tuple[float, ...] | np.ndarray, share: float) -> np.ndarray:
    """Colour between `first` (share 0) and `second` (share 1)."""
    return np.multiply(first, 1.0 - share) + np.multiply(second, share)


def _draw(ranges: dict[str, tuple[float, float]], rng: np.random.Generator) -> SimpleNamespace:
    shares = rng.random(len(ranges)).tolist()
    return SimpleNamespace(
        **{name: low + (high - low) * u for (name, (low, high)), u in zip(ranges.items(), shares, strict=True)}
    )

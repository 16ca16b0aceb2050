"""Procedural faces, drawn: who it is follows from one seed, how the picture was taken from another.

A demonstration and a test bed for the training chain on a machine without data. These are drawings: nothing that is
measured on them says anything about recognising people. Coordinates and colours are those of `procedural_pen.py`;
eyes and mouth lie where the ArcFace template has them.
"""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np

from .pen import CENTRE, COSINE, SIDE, SINE, ZOOM, Pen
from .traits import draw_person, draw_picture, mix

EYES, MOUTH = 51.5, 92.0  # rows of the template
SPAN = np.linspace(-1.0, 1.0, 13)
BOW = 1.0 - SPAN * SPAN
ARC = np.sqrt(BOW)
RAMP = np.linspace(-1.0, 1.0, SIDE, dtype=np.float32)
BALD, BEARD, MOUSTACHE, FRECKLES, MOLE, GLASSES = 0.9, 0.25, 0.22, 0.3, 0.6, 0.25  # thresholds on a person's shares
OFF = 0.4  # how often those who wear glasses do not


def draw_face(identity_seed: int, image_seed: int) -> np.ndarray:
    """A picture of one procedural person.

    Args:
        identity_seed: >= 0; geometry, colours, hair and marks follow from it alone, and who owns glasses.
        image_seed: >= 0; pose, expression, hair dress, light, clothes, background and noise follow from both seeds.

    Returns:
        uint8 (112, 112, 3) RGB; eyes near (38, 51.5) and (73, 51.5), mouth near y = 92.
    """
    person_rng = np.random.default_rng((identity_seed,))
    rng = np.random.default_rng((identity_seed, image_seed))
    person, picture = draw_person(person_rng), draw_picture(rng)
    person.parting += picture.comb
    person.hairline += picture.fringe
    person.hair_length += picture.hair_grown
    pen = Pen(picture.yaw, picture.roll, picture.scale, (picture.shift_x, picture.shift_y))
    _behind(pen, person, rng.uniform(20, 230, 3))
    _head(pen, person)
    _marks(pen, person, person_rng)
    _mouth(pen, person, picture)
    _nose(pen, person)
    for side in (-1, 1):
        _eye(pen, person, picture, side)
        _brow(pen, person, picture, side)
    if person.bald < BALD:
        _hair(pen, person)
    if person.glasses < GLASSES and picture.glasses_off > OFF:
        _glasses(pen, person)
    canvas = _background(rng)
    pen.draw(canvas)
    return _photograph(canvas, picture, rng)


def _background(rng: np.random.Generator) -> np.ndarray:
    """Four colours blended across, with a few large shapes."""
    corners = rng.uniform(20, 230, (2, 2, 1)) + rng.uniform(-60, 60, (2, 2, 3))
    corners = np.clip(corners, 0, 255).astype(np.uint8)
    canvas = cv2.resize(corners, (ZOOM * SIDE, ZOOM * SIDE), interpolation=cv2.INTER_LINEAR)
    for _ in range(int(rng.integers(0, 5))):
        centre, radii = rng.integers(0, ZOOM * SIDE, 2).tolist(), rng.integers(8, 80, 2).tolist()
        colour = (rng.uniform(20, 230) + rng.uniform(-60, 60, 3)).tolist()
        cv2.ellipse(canvas, centre, radii, float(rng.uniform(0, 180)), 0, 360, colour, cv2.FILLED)
    return canvas


def _behind(pen: Pen, person: SimpleNamespace, cloth: np.ndarray) -> None:
    """Long hair, shoulders and neck, ears."""
    width, skin = person.face_width, person.skin_colour
    if person.bald < BALD and person.hair_length > CENTRE:
        reach = width + person.hair_volume
        x = np.append(reach * COSINE[14:], (0.96 * reach, -0.96 * reach))
        y = np.append(CENTRE + (person.crown + person.hair_volume) * SINE[14:], (person.hair_length,) * 2)
        pen.fill(x, y, 0.75 * person.hair_colour, depth=-3.0)
    pen.fill(np.array([-60.0, 60.0, 60.0, -60.0]), np.array([110.0, 110.0, 140.0, 140.0]), cloth, depth=-4.0)
    pen.fill(0.55 * width * np.array([-1.0, 1.0, 1.3, -1.3]), np.array([90.0, 90.0, 122.0, 122.0]), 0.72 * skin, -2.0)
    for side in (-1, 1):
        pen.oval(side * width, CENTRE, 4.5, person.ears, 0.86 * skin, depth=-2.0)


def _head(pen: Pen, person: SimpleNamespace) -> None:
    """The face's outline, cheeks and beard."""
    skin = person.skin_colour
    jaw = 1.0 - (1.0 - person.jaw) * np.clip(SINE, 0.0, 1.0) ** 2
    x = person.face_width * np.sign(COSINE) * np.abs(COSINE) ** 0.75 * jaw
    pen.fill(x, CENTRE + np.where(SINE > 0, person.chin, person.crown) * SINE, skin)
    blush = skin + 16.0 * person.cheeks * np.array((1.0, -0.3, -0.2))
    for side in (-1, 1):
        pen.oval(side * 0.55 * person.face_width, 74.0, 8.0, 6.0, blush, depth=2.0)
    if person.beard < BEARD:
        low = slice(1, 14)  # of the outline: from the right jaw over the chin to the left one
        rim = MOUTH + person.mouth_drop - 8.0 + 4.0 * (2.0 * COSINE[low] ** 2 - 1.0)
        x = np.concatenate([x[low], 0.97 * x[low][::-1]])
        y = np.concatenate([CENTRE + 0.99 * person.chin * SINE[low], rim[::-1]])
        pen.fill(x, y, mix(skin, person.hair_colour, 0.35 + 2.0 * person.beard))


def _marks(pen: Pen, person: SimpleNamespace, rng: np.random.Generator) -> None:
    """Freckles, where the person's own generator puts them, or a mole."""
    if person.marks < FRECKLES:
        for x, y in rng.uniform((-26.0, 58.0), (26.0, 78.0), (22, 2)).tolist():
            pen.oval(x, y, 0.7, 0.7, 0.78 * person.skin_colour, depth=3.0)
    elif person.marks > MOLE:
        pen.oval(person.mole_x, person.mole_y, 1.5, 1.4, 0.45 * person.skin_colour, depth=3.0)


def _mouth(pen: Pen, person: SimpleNamespace, picture: SimpleNamespace) -> None:
    """Moustache, both lips, and teeth when the mouth is open."""
    skin = person.skin_colour
    lips = mix(0.8 * skin, (178, 70, 80), 0.25 + 0.6 * person.lips)
    x = person.mouth_width * (1.0 + 0.03 * picture.smile) * SPAN
    line = MOUTH + person.mouth_drop + picture.smile * (0.4 - SPAN * SPAN)
    opening = max(0.0, picture.mouth_open) * BOW
    if person.moustache < MOUSTACHE:
        _band(pen, x, line - person.upper_lip - 4.5 * ARC, line, mix(skin, person.hair_colour, 0.75), 4.0)
    cupid = person.upper_lip * BOW * (0.75 + 0.25 * np.cos(2.0 * np.pi * SPAN))
    _band(pen, x, line - cupid, line + 0.5, 0.9 * lips, 4.0)
    _band(pen, x, line, line + opening + person.lower_lip * BOW, lips, 4.0)
    if picture.mouth_open > 0.5:
        _band(pen, x, line, line + opening, np.array((70.0, 24.0, 26.0)), 3.5)
        _band(pen, 0.8 * x, line, line + 0.45 * opening, np.array((236.0, 232.0, 222.0)), 3.5)
    else:
        pen.stroke(x, line, 0.5 * lips, 0.5, depth=4.0)


def _nose(pen: Pen, person: SimpleNamespace) -> None:
    """A shaded side, the tip, its lower edge and the nostrils."""
    skin, wing, tip = person.skin_colour, person.nose_width, EYES + person.nose_length
    away = -1.0 if pen.yaw > 0 else 1.0
    pen.fill(away * np.array([person.nose_bridge, wing, 0.0]), np.array([EYES, tip, tip]), 0.85 * skin, depth=7.0)
    pen.oval(0.0, tip - 1.0, 0.6 * wing, 3.4, 1.05 * skin, depth=9.0)
    pen.stroke(wing * SPAN, tip + 2.2 * np.cos(1.4 * SPAN), 0.65 * skin, 0.6, depth=7.5)
    for side in (-1, 1):
        pen.oval(side * 0.52 * wing, tip + 1.2, 0.26 * wing, 1.0, 0.38 * skin, depth=8.0)


def _eye(pen: Pen, person: SimpleNamespace, picture: SimpleNamespace, side: int) -> None:
    """Socket, white, iris, and the lids that cover what is outside; side -1 is the left eye of the picture."""
    skin, centre, half = person.skin_colour, side * person.eye_distance, person.eye_width
    x = centre + half * SPAN
    tilted = EYES + side * person.eye_tilt * half * SPAN
    height = person.eye_height * picture.eye_open * ARC
    upper, lower = tilted - height, tilted + 0.7 * height
    pen.oval(centre, EYES - 1.0, half + 2.5, person.eye_height + 3.0, 0.9 * skin, depth=3.0)
    _band(pen, x, upper, lower, np.array((238.0, 236.0, 230.0)), 3.0)
    pupil, iris = centre + picture.gaze, person.iris_size
    pen.oval(pupil, EYES - 0.2, iris, iris, mix((60, 36, 20), (110, 150, 170), person.iris), depth=3.5)
    pen.oval(pupil, EYES - 0.2, 0.45 * iris, 0.45 * iris, np.zeros(3), depth=3.5)
    _band(pen, x, upper, upper - 3.0 * ARC, 0.9 * skin, 3.0)
    _band(pen, x, lower, lower + 2.5 * ARC, 0.9 * skin, 3.0)
    pen.stroke(x, upper, 0.3 * skin, 0.8, depth=3.0)


def _brow(pen: Pen, person: SimpleNamespace, picture: SimpleNamespace, side: int) -> None:
    x = side * (person.eye_distance + 1.0) + person.brow_length * SPAN
    y = EYES - person.brow_height - picture.brow_raise - person.brow_arch * BOW
    y = y + side * person.brow_slope * person.brow_length * SPAN
    half = 0.5 * person.brow_weight * (1.1 - side * 0.5 * SPAN)
    _band(pen, x, y - half, y + half, mix(0.75 * person.hair_colour, 0.5 * person.skin_colour, 0.3), 3.0)


def _hair(pen: Pen, person: SimpleNamespace) -> None:
    """From the crown to the hairline, down the temples, and a few strands."""
    reach, top = person.face_width + person.hair_volume, person.crown + person.hair_volume
    x = reach * np.append(COSINE[14:], 1.0)  # left temple, crown, right temple
    crown = CENTRE + top * np.append(SINE[14:], 0.0)
    line = person.hairline + person.parting * x + person.hair_arch * (x / reach) ** 2
    temple = np.where(np.abs(x) > 0.9 * person.face_width, min(person.hair_length, CENTRE + 2.0), line)
    edge = np.maximum(temple, crown + 2.0)
    _band(pen, x, crown, edge, person.hair_colour, 1.0)
    for column in (4, 6, 9, 11):
        strand = np.linspace(0.15, 0.8, 5) * (edge[column] - crown[column]) + crown[column]
        pen.stroke(x[column] * np.linspace(0.9, 1.0, 5), strand, 1.15 * person.hair_colour + 6.0, 0.6, depth=1.0)


def _glasses(pen: Pen, person: SimpleNamespace) -> None:
    rim = mix((24, 22, 24), (170, 120, 60), person.rim)
    lens_x = np.append(12.0 * np.sign(COSINE) * np.abs(COSINE) ** person.lens, 12.0)
    lens_y = np.append(8.5 * np.sign(SINE) * np.abs(SINE) ** person.lens, 0.0)
    for side in (-1, 1):
        pen.stroke(side * (person.eye_distance + 0.5) + lens_x, EYES + 1.0 + lens_y, rim, 1.1, depth=5.0)
        temple = side * np.array([person.eye_distance + 12.0, person.face_width])
        pen.stroke(temple, np.array([50.0, 52.0]), rim, 1.0, depth=3.0)
    pen.stroke(np.array([-6.0, 6.0]), np.array([50.5, 50.5]), rim, 1.0, depth=6.0)


def _band(pen: Pen, x: np.ndarray, top: np.ndarray, bottom: np.ndarray, colour: np.ndarray, depth: float) -> None:
    """What lies between two lines over the same columns."""
    pen.fill(np.concatenate([x, x[::-1]]), np.concatenate([top, bottom[::-1]]), colour, depth)


def _photograph(canvas: np.ndarray, picture: SimpleNamespace, rng: np.random.Generator) -> np.ndarray:
    """Shrink, light from one side, colour of the light, haze and sensor noise."""
    image = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    ramp = np.float32(np.cos(picture.light)) * RAMP[None, :] + np.float32(np.sin(picture.light)) * RAMP[:, None]
    tint = picture.gain * (1.0 - picture.haze) * np.array((1.0 + picture.warmth, 1.0, 1.0 - picture.warmth))
    image *= (1.0 + np.float32(picture.light_strength) * ramp)[:, :, None] * tint.astype(np.float32)
    noise = rng.random(image.shape, dtype=np.float32)
    noise *= 2.0 * picture.noise
    image += noise
    lift = 200.0 * picture.haze - picture.noise
    return cv2.add(image, np.array((lift, lift, lift, 0.0)), dtype=cv2.CV_8U)

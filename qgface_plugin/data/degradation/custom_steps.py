"""Custom steps of degradation that a recipe brings along, such as the motion blur or the noise of a certain camera.

A step is a function in a file that the recipe imports, made known by `degradation_step` and named in
`config.qgface.degradation.steps`. Steps run on the CPU, in the data workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...config.degradation import check_steps
from ...utils.errors import ConfigError
from ...utils.registry import DEGRADATION_STEPS

# image uint8 (h, w, 3) RGB, which it may write to, and the only source of randomness -> the image after the step, of
# the same shape, and by how many octaves of lost resolution it is worse (see `params.strength`; 0 where nobody can say)
StepFunction = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, float]]


class CustomStep(NamedTuple):
    """A registered step.

    Attributes:
        function: what it does to an image.
        at_small_size: after the shrinking and before the JPEG, where a sensor's noise arises; else it comes before
            everything else, as the blur of a lens does.
    """

    function: StepFunction
    at_small_size: bool


def degradation_step(name: str, *, at_small_size: bool = False) -> Callable[[StepFunction], StepFunction]:
    """Decorator that makes a step known; a recipe that is loaded again replaces its own.

    Args:
        name: by which `steps` names it.
        at_small_size: see `CustomStep`.

    Example:
        >>> @degradation_step("darker")
        ... def darker(image, rng):
        ...     return image // 2, 0.5
        >>> steps = CustomSteps(["darker"], np.random.default_rng(0))
        >>> int(steps.run(np.full((112, 112, 3), 200, np.uint8), at_small_size=False).max()), steps.strength
        (100, 0.5)
    """

    def register(function: StepFunction) -> StepFunction:
        DEGRADATION_STEPS.add(name, CustomStep(function, at_small_size))
        return function

    return register


class CustomSteps:
    """The custom steps for one image.

    Args:
        names: of the steps, in their order.
        rng: the only source of randomness; the pair's, so a function of (seed, epoch, index).

    Attributes:
        strength: sum of what the steps that have run have said, in octaves.

    Raises:
        ConfigError: a step that is not known; names it.
    """

    def __init__(self, names: Sequence[str], rng: np.random.Generator) -> None:
        check_steps(names)
        self.steps = [(name, DEGRADATION_STEPS[name]) for name in names]
        self.rng, self.strength = rng, 0.0

    def run(self, image: np.ndarray, at_small_size: bool) -> np.ndarray:
        """The image after the steps before the shrinking, or after those at the small size.

        Args:
            image: uint8 (h, w, 3) RGB; not changed.
            at_small_size: which of the two.

        Raises:
            ConfigError: a step that returned something else than such an image and a number; names it.
        """
        for name, step in self.steps:
            if step.at_small_size == at_small_size:
                image = self._one(name, step.function, image)
        return image

    def _one(self, name: str, function: StepFunction, image: np.ndarray) -> np.ndarray:
        result = function(image.copy(), self.rng)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], np.ndarray):
            raise ConfigError(
                f"degradation step {name!r} returned {type(result).__name__}: it must be (image, strength), the "
                "strength in octaves, 0.0 where nobody can say"
            )
        after, strength = result
        if after.dtype != np.uint8 or after.shape != image.shape:
            raise ConfigError(
                f"degradation step {name!r} returned {after.dtype} {after.shape}: it must be uint8 {image.shape}, as "
                "the image that it got"
            )
        self.strength += float(strength)
        return np.ascontiguousarray(after)

# my_step.py
import cv2
import numpy as np
from easydict import EasyDict as edict

from qgface_plugin.data.own_steps import degradation_step
from qgface_plugin.recipe import load_config


@degradation_step("motion_blur")
def motion_blur(image, rng):
    """The camera or the person moves while the shutter is open."""
    length = int(rng.integers(1, 10))  # pixels
    x, y = length * np.cos(angle := rng.uniform(0, np.pi)) / 2, length * np.sin(angle) / 2
    kernel = np.zeros((11, 11), np.float32)
    cv2.line(kernel, (round(5 - x), round(5 - y)), (round(5 + x), round(5 + y)), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum()), float(np.log2(length))


@degradation_step("sensor_noise", at_small_size=True)
def sensor_noise(image, rng):
    """Noise of a dark scene; nobody can say how many octaves it costs."""
    return np.clip(image + rng.normal(0.0, 8.0, image.shape), 0, 255).astype(np.uint8), 0.0


config = load_config(__file__, "lfw_mbf.py")
config.qgface.degradation = edict(policy="ours", steps=("motion_blur", "sensor_noise"))

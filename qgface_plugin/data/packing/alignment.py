"""Alignment to the ArcFace template: a similarity transform of five landmarks, as InsightFace warps its faces."""

from __future__ import annotations

import cv2
import numpy as np

from ...utils.errors import ConfigError, DataError

# Eyes, nose tip, corners of the mouth, each pair from the image's left to its right; x, y in pixels of 112 x 112.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    dtype=np.float32,
)


def template(size: int = 112) -> np.ndarray:
    """The five points that landmarks are moved to, float32 (5, 2), x and y in pixels.

    A size that is a multiple of 112 scales the template. A multiple of 128 keeps the face as large as it is in 112 and
    adds a margin of 8 pixels of 128 on its left and right, as InsightFace does.

    Raises:
        ConfigError: a size that is neither.
    """
    if size >= 112 and size % 112 == 0:
        return TEMPLATE * (size / 112.0)
    if size >= 128 and size % 128 == 0:
        ratio = size / 128.0
        return TEMPLATE * ratio + np.array([8.0 * ratio, 0.0], dtype=np.float32)
    raise ConfigError(f"size is {size}: aligned images have sides of 112 or 128 pixels, or a multiple of these")


def similarity(landmarks: np.ndarray, size: int = 112, target: np.ndarray | None = None) -> np.ndarray:
    """The rotation, scale and shift that bring landmarks nearest to the template, float64 (2, 3) (Umeyama 1991).

    Args:
        landmarks: (5, 2), x and y in pixels, in the template's order.
        size: side of the aligned image in pixels.
        target: float32 (5, 2), where the landmarks go instead of `template(size)`.

    Raises:
        ConfigError: an impossible size; scikit-image is not installed.
        DataError: not five points, not finite, or all at one point.
    """
    transform_class = _similarity_transform()
    target = template(size) if target is None else target
    points = np.asarray(landmarks)
    if points.shape != (5, 2) or points.dtype.kind not in "fiu":
        raise DataError(f"landmarks of shape {points.shape} are not five points x, y")
    if not np.isfinite(points).all():
        raise DataError(f"landmarks {points.ravel().tolist()} are not all finite")
    if np.ptp(points, axis=0).max() == 0:
        raise DataError(f"landmarks all lie at {points[0].tolist()}: no face can be aligned by them")
    if hasattr(transform_class, "from_estimate"):  # scikit-image 0.26; `estimate` is on its way out
        transform = transform_class.from_estimate(points, target)
    else:
        transform = transform_class()
        transform.estimate(points, target)
    matrix = np.asarray(transform.params[:2]) if transform else np.full((2, 3), np.nan)
    if not np.isfinite(matrix).all():
        raise DataError(f"landmarks {points.ravel().tolist()} determine no similarity transform")
    return matrix


def align(image_rgb: np.ndarray, landmarks: np.ndarray, size: int = 112) -> np.ndarray:
    """Warp a face to the ArcFace template, bilinearly; what lies outside the image is black.

    Equal to `insightface.utils.face_align.norm_crop` on the same image and landmarks, bit for bit.

    Args:
        image_rgb: uint8 (h, w, 3); the order of the channels does not matter and is kept.
        landmarks: (5, 2), x and y in pixels: left eye, right eye, nose tip, left and right corner of the mouth,
            where left is the image's left.
        size: side of the result in pixels: 112, 128 or a multiple of these.

    Returns:
        uint8 (size, size, 3).

    Raises:
        ConfigError, DataError: see `similarity`.
    """
    return cv2.warpAffine(image_rgb, similarity(landmarks, size), (size, size), borderValue=0.0)


def _similarity_transform() -> type:
    try:
        from skimage.transform import SimilarityTransform
    except ImportError as error:
        raise ConfigError(
            "aligning faces needs scikit-image, which is not installed: pip install scikit-image"
        ) from error
    return SimilarityTransform

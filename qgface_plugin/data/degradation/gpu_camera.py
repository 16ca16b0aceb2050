"""Steps of `camera.py` for a batch on the device that the images are on, by the same drawn numbers.

Images are whole numbers 0 to 255 in float32, (B, 3, h, w).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config.degradation import DegradationPolicy
from .camera import FWHM_STEPS, ROW, air_kernel, air_reach
from .params import ViewParams


class CameraBatch:
    """The steps of one policy on one device.

    Attributes:
        reach: pixels from the centre of the motion's kernel to its edge.
        first: of the kernels of the air, in FWHM_STEPS per pixel.
        air: float32 (kernels + 1, k, k), of which the first one changes nothing.
    """

    def __init__(self, policy: DegradationPolicy, device: torch.device) -> None:
        self.policy = policy
        self.reach = math.ceil((policy.motion_length[1] - 1) / 2)
        self.first, last = (round(fwhm * FWHM_STEPS) for fwhm in policy.atmosphere_fwhm)
        reach = air_reach(last / FWHM_STEPS)
        self.air = torch.zeros(last - self.first + 2, 2 * reach + 1, 2 * reach + 1)
        self.air[0, reach, reach] = 1
        for step in range(self.first, last + 1) if policy.atmosphere_p else ():
            kernel = torch.from_numpy(air_kernel(step).copy())
            edge = reach - len(kernel) // 2
            self.air[1 + step - self.first] = F.pad(kernel, (edge, edge, edge, edge))
        self.air = self.air.to(device)

    def before_shrinking(self, x: Tensor, params: ViewParams) -> Tensor:
        """Misalignment, motion and air, as far as the policy has them."""
        if self.policy.misalign_p:
            x = misalign(x, params)
        if self.policy.motion_p:
            x = blur(x, motion_kernels(params.motion_length, params.motion_degrees, self.reach))
        if self.policy.atmosphere_p:
            step = (params.atmosphere * FWHM_STEPS).round().long()
            x = blur(x, self.air[torch.where(step > 0, 1 + step - self.first, step)])
        return x

    def noise(self, x: Tensor, params: ViewParams, sides: Tensor) -> Tensor:
        """Noise on images of n_i = `sides` pixels, int64 (B,), that repeat row and column n_i - 1 beyond."""
        if not self.policy.noise_p:
            return x
        read, shot = (value[:, None, None, None] for value in (params.noise_read, params.noise_shot))
        deviation = (read.square() + shot.square() * x / 255).sqrt()
        return _levels(x + deviation * normal(x.shape[2], sides, params.noise_seed))


def misalign(x: Tensor, params: ViewParams) -> Tensor:
    """A similarity about the centre of square images, bilinear, with the edge going on beyond them."""
    angle, half = torch.deg2rad(params.tilt), (x.shape[2] - 1) / 2
    cosine, sine = angle.cos() / params.zoom, angle.sin() / params.zoom
    right, down = params.shift_x / half, params.shift_y / half
    rows = [
        torch.stack([cosine, -sine, sine * down - cosine * right], dim=1),
        torch.stack([sine, cosine, -sine * right - cosine * down], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=True)
    return _levels(F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True))


def blur(x: Tensor, kernels: Tensor) -> Tensor:
    """Each image correlated with its kernel, (B, k, k), the edge going on beyond it."""
    count, channels, height, width = x.shape
    edge = kernels.shape[1] // 2
    padded = F.pad(x, (edge, edge, edge, edge), mode="replicate").reshape(1, count * channels, *[
        side + 2 * edge for side in (height, width)
    ])  # fmt: skip
    weights = kernels.repeat_interleave(channels, dim=0)[:, None]
    return _levels(F.conv2d(padded, weights, groups=count * channels).view_as(x))


def motion_kernels(length: Tensor, degrees: Tensor, reach: int) -> Tensor:
    """`camera.motion_kernel` for B images, (B, 2 reach + 1, 2 reach + 1)."""
    offset = torch.arange(-reach, reach + 1, device=length.device, dtype=torch.float32)
    x, y = offset[None, None, :], offset[None, :, None]
    angle, half = torch.deg2rad(degrees)[:, None, None], ((length - 1).clamp(min=0) / 2)[:, None, None]
    across, down = angle.cos(), -angle.sin()
    along = (x * across + y * down).clamp(min=-half, max=half)
    weights = (1 - torch.hypot(x - along * across, y - along * down)).clamp(min=0)
    return weights / weights.sum(dim=(1, 2), keepdim=True)


def normal(size: int, sides: Tensor, seeds: Tensor) -> Tensor:
    """`camera.normal` of B images of n_i = `sides` pixels: (B, 3, size, size), row and column n_i - 1 repeated."""
    place = torch.minimum(torch.arange(size, device=sides.device), sides[:, None] - 1)  # (B, size)
    channel = torch.arange(3, device=sides.device)[None, :, None, None]
    count = ((place[:, None, :, None] * ROW + place[:, None, None, :]) * 3 + channel) * 2
    start = _mixed(seeds.long())[:, None, None, None]
    first, second = (_mixed((count + k + start) & _MASK) >> 8 for k in (0, 1))
    radius = (-2 * ((first.float() + 0.5) / 2**24).log()).sqrt()
    return radius * (second.float() * (2 * math.pi / 2**24)).cos()


_MASK = 0xFFFFFFFF


def _mixed(h: Tensor) -> Tensor:
    """`camera._mixed`; products wrap in 64 bits, whose lower 32 are right."""
    h = (h * 0x9E3779B9 + 0x7F4A7C15) & _MASK
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & _MASK
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _MASK
    return h ^ (h >> 16)


def _levels(x: Tensor) -> Tensor:
    return x.round_().clamp_(0, 255)

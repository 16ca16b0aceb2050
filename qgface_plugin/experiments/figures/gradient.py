"""Fig. 2 of the paper: the gradient scaling term g of AdaFace over angle and quality (eqs. 11-12)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from ...config.method import QGFaceConfig
from ...evaluation.report.canvas import new_figure, save
from ...loss import functional as F
from ...loss.heads import ClassifiedRows
from ...loss.margin import QGFaceMargin, apply_rule

OTHERS = 8630  # classes beside the own one, as many as VGGFace2 has


def closed_form(theta: Tensor, zhat: Tensor, config: QGFaceConfig) -> Tensor:
    """g of eqs. 11-12 for AdaFace, without the gate.

    P_y is the own class's probability where every other class centre is at a right angle.

    Args:
        theta: angles to the own class centre, radians.
        zhat: quality in [-1, 1], of the same shape.
        config: s and m.

    Returns:
        g, of the same shape; it is negative.
    """
    own = F.adaface_target(theta.cos(), zhat, config.m) * config.s
    probability = torch.sigmoid(own - math.log(OTHERS))
    return F.gradient_scale(probability, theta.cos(), zhat, config.m)


def measured(theta: Tensor, zhat: Tensor, config: QGFaceConfig) -> Tensor:
    """The same by autograd on the criterion's margin head and softmax, rows gated out at 0: (dL / dcos) / s."""
    margin = QGFaceMargin.from_config(config).double()
    cosine = theta.cos().flatten().double().requires_grad_()
    z = zhat.flatten().double()
    others = torch.zeros(len(cosine), 1, dtype=torch.float64)
    column = torch.zeros(len(cosine), dtype=torch.long)
    logits = apply_rule(margin.rule(ClassifiedRows(z)), torch.cat([cosine.unsqueeze(1), others], dim=1), column)
    weight = torch.tensor([0.0, math.log(OTHERS)], dtype=torch.float64)  # one column stands for all other classes
    lse, target = F.logsumexp_and_target(logits + weight, column)
    ((lse - target) * margin.gate(z)).sum().backward()
    assert cosine.grad is not None
    return (cosine.grad / config.s).reshape(theta.shape).to(theta.dtype)


def draw_gradient(folder: Path, config: QGFaceConfig | None = None, name: str = "fig2_gradient") -> list[Path]:
    """Two panels over angle and quality: the closed form, and what autograd gives with the quality gate.

    The title says by how much both differ where the gate is open and the modified angle is not clipped: the formula
    has no clip.

    Args:
        folder: where the files go.
        config: of the margin; None: the default.
        name: of the files.

    Returns:
        The PDF and the PNG.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: the files cannot be written.
    """
    config = config or QGFaceConfig()
    theta, zhat = torch.meshgrid(
        torch.linspace(0.02, math.pi / 2, 240, dtype=torch.float64),
        torch.linspace(-1, 1, 161, dtype=torch.float64),
        indexing="xy",
    )
    by_formula, by_autograd = closed_form(theta, zhat, config), measured(theta, zhat, config)
    shifted = theta - config.m * zhat
    inside = (shifted > F.ANGLE_MARGIN) & (shifted < math.pi - F.ANGLE_MARGIN)
    shared = inside & F.classification_gate(F.unit_scale(zhat), config.b)
    difference = float((by_formula - by_autograd)[shared].abs().max())
    figure = new_figure(7.2, 3.3)
    panels = figure.subplots(1, 2, sharey=True)
    top = float((-by_formula).max())
    titles = "eqs. 11-12", f"autograd, gated (largest difference {difference:.0e})"
    for panel, values, title in zip(panels, (by_formula, by_autograd), titles, strict=True):
        mesh = panel.pcolormesh(
            theta.rad2deg().numpy(),
            zhat.numpy(),
            -values.numpy(),
            vmin=0,
            vmax=top,
            cmap="viridis",
            rasterized=True,
            shading="nearest",
        )
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(r"angle $\theta_y$ to the own class centre (°)", fontsize=9)
        panel.axhline(2 * config.b - 1, color="white", lw=1, ls="--")
        panel.text(4, 2 * config.b - 1 + 0.03, f"u = b = {config.b:g}", color="white", fontsize=8)
    panels[0].set_ylabel(r"quality $\hat z$ (norm)")
    figure.colorbar(mesh, ax=panels, label="$-g$")
    return save(figure, folder, name)

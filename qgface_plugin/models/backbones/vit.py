"""Vision transformers (Dosovitskiy et al. 2021) in the sizes of InsightFace's arcface_torch.

Parameter names, shapes and order are those of arcface_torch, so that model.pt moves both ways. Patches of 9 x 9 pixels
without a class token: all 12 x 12 of them are joined into the feature. Shapes: B images, L = 144 patches, D the width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .common import body_autocast, checkpointed, freeze_bias, full_precision

PATCH, PATCHES, HEADS = 9, 144, 8
# width, blocks, share of the residual branches that are dropped at the last block, share of patches that are hidden;
# the last two in training only
SIZES: dict[str, tuple[int, int, float, float]] = {
    "vit_t": (256, 12, 0.1, 0.1),
    "vit_t_dp005_mask0": (256, 12, 0.05, 0.0),
    "vit_s": (512, 12, 0.1, 0.1),
    "vit_s_dp005_mask_0": (512, 12, 0.05, 0.0),
    "vit_b": (512, 24, 0.1, 0.1),
    "vit_b_dp005_mask_005": (512, 24, 0.05, 0.05),
    "vit_l_dp005_mask_005": (768, 24, 0.05, 0.05),
    "vit_h": (1024, 48, 0.1, 0.0),
}


class Attention(nn.Module):
    """Self-attention of HEADS heads; its products and softmax run in float32 always."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, L, D) -> (B, L, D)
        batch, patches, width = x.shape
        parts = self.qkv(x).reshape(batch, patches, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        with full_precision(x):
            query, key, value = parts.float().unbind(0)  # each (B, heads, L, D / heads)
            weights = (query @ key.transpose(-2, -1) * (width // HEADS) ** -0.5).softmax(-1)
            mixed = (weights @ value).transpose(1, 2).reshape(batch, patches, width)
        return self.proj(mixed)


class Mlp(nn.Module):
    """Two linear layers with ReLU6 between them, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.relu6(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Attention and MLP, each behind a LayerNorm and added to what they get.

    Args:
        width: D.
        dropped: probability that a branch of an image is left out in training (stochastic depth, Huang et al. 2016).
    """

    def __init__(self, width: int, dropped: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.attn = Attention(width)
        self.mlp = Mlp(width)
        self.dropped = dropped

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._kept(self.attn(self.norm1(x)))
        return x + self._kept(self.mlp(self.norm2(x)))

    def _kept(self, branch: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.dropped
        return branch * kept / (1 - self.dropped)


class PatchEmbedding(nn.Module):
    """Patches as vectors: images (B, 3, 112, 112) -> (B, L, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Images (B, 3, 112, 112) float, normalised to [-1, 1] -> raw features (B, d) float32, before l2 normalisation.

    Args:
        width: D.
        depth: number of blocks.
        dropped: probability of stochastic depth at the last block; it grows from 0 at the first one.
        hidden: share of the patches that are left out in training; a learnt vector takes their place at the end.
        num_features: d.
        fp16: run up to the last LayerNorm under float16 autocast on CUDA; the rest runs in float32 always.
        features_bias: False fixes the last BatchNorm's bias at zero (its key stays).

    Attributes:
        checkpoint_activations: compute each block again in the backward pass, in the place of keeping its activations.

    Example:
        >>> VisionTransformer(64, 2, 0.1, 0.1, num_features=16)(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        width: int,
        depth: int,
        dropped: float,
        hidden: float,
        num_features: int = 512,
        fp16: bool = False,
        features_bias: bool = True,
    ) -> None:
        super().__init__()
        self.fp16, self.kept = fp16, int(PATCHES * (1 - hidden))
        self.checkpoint_activations = False
        self.pos_embed = nn.Parameter(torch.zeros(1, PATCHES, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = PatchEmbedding(width)
        rates = torch.linspace(0, dropped, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(TransformerBlock(width, rate) for rate in rates)
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(width * PATCHES, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, num_features, bias=False),
            nn.BatchNorm1d(num_features, eps=2e-5),
        )
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.kept == PATCHES:  # nothing would reach it, and DistributedDataParallel would wait for its gradient
            self.mask_token.requires_grad_(False)
        if not features_bias:
            last = self.feature[-1]
            assert isinstance(last, nn.BatchNorm1d)
            freeze_bias(last)

    def forward(self, images: Tensor) -> Tensor:
        places = None
        with body_autocast(images, self.fp16):
            x = self.patch_embed(images) + self.pos_embed  # (B, L, D)
            if self.training and self.kept < PATCHES:
                order = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, : self.kept]
                places = order.unsqueeze(2).expand(-1, -1, x.shape[2])
                x = x.gather(1, places)
            saving = self.checkpoint_activations and self.training and torch.is_grad_enabled()
            for block in self.blocks:
                x = checkpointed(block, block, x) if saving else block(x)
        with full_precision(x):
            x = self.norm(x.float())
            if places is not None:
                x = self.mask_token.expand(len(x), PATCHES, -1).scatter(1, places, x)
            return self.feature(x.flatten(1))  # (B, d)

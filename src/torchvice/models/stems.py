"""Patch embeddings that timm does not have, chosen by name with `model.arguments.embed_layer`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from timm.layers import PatchEmbed  # type: ignore[attr-defined]
from torch import nn

__all__ = ["STEMS", "ConvStem"]


class ConvStem(PatchEmbed):
    """Replace patches of 16 by four convolutions of stride 2 with BatchNorm and ReLU, and a 1 x 1 convolution.

    Its authors use one transformer block less with it: depth 11, and 12 heads.

    References:
        Xiao et al., Early Convolutions Help Transformers See Better, 2021; as in Chen, Xie & He, An Empirical Study of
        Training Self-Supervised Vision Transformers, 2021.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] | None = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        **further: Any,
    ) -> None:
        if patch_size not in (16, (16, 16)) or embed_dim % 8:
            raise ValueError(
                f"conv_stem needs patches of 16 and a width divisible by 8, but is given {patch_size} and {embed_dim}"
            )
        super().__init__(img_size, 16, in_chans, embed_dim, **further)
        widths = [in_chans, *(embed_dim // part for part in (8, 4, 2, 1))]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.proj = nn.Sequential(*layers, nn.Conv2d(embed_dim, embed_dim, 1))  # type: ignore[assignment]


STEMS: Mapping[str, type[nn.Module]] = {"conv_stem": ConvStem}

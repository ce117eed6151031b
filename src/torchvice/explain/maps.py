"""Maps: resize and normalise signed low-resolution maps to [0, 1], and report maps without information."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch.nn import functional

from torchvice.errors import ViceError

__all__ = ["Normalisation", "map_status", "normalise", "upsample"]

Normalisation = Literal["max", "minmax", "percentile", "paper", "none"]
_PAPER_EPS = 1e-5
_PERCENTILE = 99


def map_status(maps: torch.Tensor) -> tuple[str, ...]:
    """Status of every map (P, h, w) after its ReLU: "ok", "zero", "constant" (but not zero) or "nan".

    Example:
        >>> map_status(torch.tensor([[[-1.0, 2.0]], [[-1.0, -2.0]], [[3.0, 3.0]]]))
        ('ok', 'zero', 'constant')
    """
    if not maps.shape[0]:
        return ()
    flat = maps.flatten(1).float()
    positive = flat.clamp(min=0)
    broken = ~torch.isfinite(flat).all(1)
    zero = (positive == 0).all(1)
    constant = positive.amax(1) == positive.amin(1)
    code = torch.where(broken, 3, torch.where(zero, 1, torch.where(constant, 2, 0)))
    return tuple(("ok", "zero", "constant", "nan")[i] for i in code.tolist())


def upsample(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize maps (P, h, w) to (P, H, W), bilinear with align_corners=False, in float32."""
    if not maps.shape[0]:
        return maps.new_zeros((0, *size), dtype=torch.float32)
    return functional.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]


def normalise(maps: torch.Tensor, how: Normalisation) -> torch.Tensor:
    """Scale each map (P, H, W) separately.

    Args:
        maps: after ReLU and resizing.
        how: "max" divides by the maximum: 0 stays "no evidence". "minmax" also moves the minimum to 0.
            "percentile" divides by the 99th percentile and cuts at 1, so that one hot pixel does not set the scale (by
            the maximum, where that percentile is 0). "paper": values below min + 1e-5 become 0, then
            (v - min - 1e-5) / (max - min + 1e-5), so that a dead map becomes -1 everywhere. "none" leaves the map.

    Returns:
        (P, H, W); a map without any spread stays 0 under "minmax", one of zeros stays 0 under "max".

    Raises:
        ViceError: an unknown normalisation.
    """
    if how not in get_args(Normalisation):
        known = ", ".join(get_args(Normalisation))
        raise ViceError(f"`normalisation` must be one of {known}, but is {how!r}.")
    if how == "none" or not maps.shape[0]:
        return maps
    high = maps.amax((1, 2), keepdim=True)
    if how == "max":
        return maps / torch.where(high > 0, high, torch.ones_like(high))
    if how == "percentile":
        most = maps.flatten(1).quantile(_PERCENTILE / 100, dim=1)[:, None, None]
        most = torch.where(most > 0, most, high)
        return (maps / torch.where(most > 0, most, torch.ones_like(most))).clamp(max=1)
    low = maps.amin((1, 2), keepdim=True)
    if how == "minmax":
        spread = high - low
        return (maps - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
    kept = torch.where(maps < low + _PAPER_EPS, torch.zeros_like(maps), maps)
    return (kept - low - _PAPER_EPS) / (high - low + _PAPER_EPS)

"""Filling: replace pixels of an image so that nothing of what they showed is left but their outline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch.nn import functional

from torchvice.errors import ViceError, did_you_mean, names_and_values

__all__ = ["TREATMENTS", "Filling", "InterventionChoices", "VoidOf", "dilated", "filled"]

Filling = Literal["blur", "mean", "noise", "background"]
VoidOf = Literal["nearest", "touching"]  # see torchvice.assessment.region.Region.object_of
TREATMENTS = ("object", "background", "patch", "noise")


@dataclass(frozen=True)
class InterventionChoices:
    """Which parts of an image are replaced to see whether the model still finds the label; kept in the manifest.

    Args:
        treatments: one or more of TREATMENTS. "object": the object of the class, and a hole of an object's shape
            elsewhere; "background": everything but the object; "patch": the place outside the object where the map is
            highest; "noise": Gaussian noise is added to the object, and to the background (see
            `torchvice.metrics.interventions.relative_foreground_sensitivity`).
        filling: what replaces pixels, see `filled`.
        dilation: pixels of the network's input by which an object is enlarged before it is replaced.
        sigma: standard deviation of the added noise, for images on [0, 1].
        seed: seed of noise and of random places.
        void: which void of the mask is replaced with an object: "nearest", what touches it and is nearer to it than to
            any other object; "touching", all that touches it, and so the rim of an object beside it, too.

    Raises:
        ViceError: any other value.
    """

    treatments: tuple[str, ...] = ("object", "background", "patch")
    filling: Filling = "blur"
    dilation: int = 5
    sigma: float = 0.25
    seed: int = 0
    void: VoidOf = "nearest"

    def __post_init__(self) -> None:
        unknown = next((name for name in self.treatments if name not in TREATMENTS), None)
        if unknown is not None or not self.treatments:
            given = "empty" if unknown is None else repr(unknown)
            message = f"`without` must be one or more of {', '.join(TREATMENTS)}, but is {given}."
            raise ViceError(message, did_you_mean(unknown or "", TREATMENTS))
        for name, known in {"filling": get_args(Filling), "void": get_args(VoidOf)}.items():
            if (value := getattr(self, name)) not in known:
                message = f"`{name}` must be one of {', '.join(known)}, but is {value!r}."
                raise ViceError(message, did_you_mean(str(value), known))
        if self.dilation < 0 or not 0 < self.sigma < math.inf:
            raise ViceError(
                f"`dilation` must be at least 0 (pixels) and `sigma` a finite number above 0, but they are "
                f"{self.dilation} and {self.sigma:g}."
            )

    @classmethod
    def parse(cls, texts: Sequence[str]) -> InterventionChoices:
        """Choices from names of treatments and from NAME=VALUE texts, such as "object" and "filling=mean".

        Raises:
            ViceError: an unknown name, or a value that does not fit.

        Example:
            >>> InterventionChoices.parse(["object", "filling=mean"]).treatments
            ('object',)
        """
        kinds: dict[str, Callable[[str], Any]] = {
            "filling": str,
            "void": str,
            "dilation": int,
            "sigma": float,
            "seed": int,
        }
        treatments, values = names_and_values(texts, kinds, "without")
        return cls(**(values | {"treatments": treatments} if treatments else values))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def filled(
    images: torch.Tensor,
    gone: torch.Tensor,
    how: Filling = "blur",
    *,
    noise: torch.Tensor | None = None,
    other: torch.Tensor | None = None,
    shown: torch.Tensor | None = None,
) -> torch.Tensor:
    """Replace pixels; the result does not depend on what they were.

    Args:
        images: (N, D, H, W).
        gone: (N, 1, H, W) bool, the pixels to replace.
        how: "blur": the pixels that are left, continued smoothly into the gap (push-pull interpolation, Gortler et al.,
            SIGGRAPH 1996); "mean": their mean colour; "noise": Gaussian noise with their mean and standard deviation;
            "background": the pixels of `other` at the same place. Where no pixel is left, 0.
        noise: (N, D, H, W) standard normal numbers, for "noise".
        other: (N, D, H, W) other images, for "background".
        shown: (N, 1, H, W) bool, the pixels that are image and not padding, whose colours never count; None: all.

    Returns:
        (N, D, H, W); pixels outside `gone` keep their value to the bit.

    Example:
        >>> filled(torch.tensor([[[[1.0, 9.0, 3.0]]]]), torch.tensor([[[[False, True, False]]]]), "mean").tolist()
        [[[[1.0, 2.0, 3.0]]]]
    """
    if how == "background":
        assert other is not None
        return torch.where(gone, other, images)
    kept = ~gone if shown is None else shown & ~gone
    keep, left = kept.to(images.dtype), torch.where(kept, images, 0)
    if how == "blur":
        return torch.where(gone, _push_pull(left, keep), images)
    count = keep.sum((2, 3), keepdim=True).clamp(min=1)
    mean = left.sum((2, 3), keepdim=True) / count
    if how == "mean":
        return torch.where(gone, mean, images)
    assert noise is not None
    spread = (keep * (left - mean) ** 2).sum((2, 3), keepdim=True).div(count).sqrt()
    return torch.where(gone, mean + spread * noise, images)


def _push_pull(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Colours everywhere from those with a weight: averaged to ever coarser grids, and taken from there where needed.

    `images` (N, D, H, W) are 0 where `weight` (N, 1, H, W), in [0, 1], is 0.
    """
    height, width = images.shape[2:]
    if height == 1 and width == 1:
        return images
    padded = [functional.pad(part, (0, width % 2, 0, height % 2)) for part in (images * weight, weight)]
    total, share = (functional.avg_pool2d(part, 2) * 4 for part in padded)
    coarse = _push_pull(total / share.clamp(min=1e-12), share.clamp(max=1))
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear")
    return weight * images + (1 - weight) * smooth


def dilated(mask: torch.Tensor, pixels: int) -> torch.Tensor:
    """Enlarge masks (N, 1, H, W) bool by a square of `pixels` in every direction.

    Example:
        >>> dilated(torch.tensor([[[[False, False, True, False]]]]), 1).tolist()
        [[[[False, True, True, True]]]]
    """
    if not pixels:
        return mask
    pixels = min(pixels, max(mask.shape[-2:]))  # more would cover nothing more, and takes hours
    side = 2 * pixels + 1
    tall = functional.max_pool2d(mask.float(), (side, 1), 1, (pixels, 0))  # rows and columns apart: twice as fast
    return functional.max_pool2d(tall, (1, side), 1, (0, pixels)) > 0

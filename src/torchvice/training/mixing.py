"""Mixup and CutMix for images with any number of labels."""

from __future__ import annotations

import torch

from torchvice.config.sections import RegularisationSettings

__all__ = ["Mixing"]


class Mixing:
    """torchvision's MixUp or CutMix of a batch with itself shifted by one image; one draw per batch.

    The targets are mixed like the images: a label has the weight of its image, and a label of both images has weight 1.
    Randomness comes from torch's global generator.

    Args:
        settings: reads mixup, cutmix and mix_probability. With both on, each batch gets one of them, with probability
            1/2 each.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> mixing = Mixing(RegularisationSettings(mixup=1.0))
        >>> images, targets = mixing(torch.zeros(2, 3, 4, 4), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        >>> targets[:, 0]  # both have the first label
        tensor([1., 1.])

    References:
        Zhang et al., mixup: Beyond empirical risk minimization, 2018; Yun et al., CutMix, 2019.
    """

    def __init__(self, settings: RegularisationSettings) -> None:
        from torchvision.transforms.v2 import CutMix, MixUp  # type: ignore[import-untyped]

        kinds = ((MixUp, settings.mixup), (CutMix, settings.cutmix))
        # Built here, since Lightning's precision bf16-true would let them draw from a Beta distribution in bfloat16,
        # which torch does not have.
        self.kinds = [kind(alpha=alpha) for kind, alpha in kinds if alpha > 0]
        self.probability = settings.mix_probability

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix images (N, 3, H, W) and targets (N, C) in [0, 1]; the inputs are not written to."""
        if not self.kinds or float(torch.rand(())) >= self.probability:
            return images, targets
        mix = self.kinds[int(torch.randint(len(self.kinds), ()))]
        mix.num_classes = n = len(images)
        # Each image gets its own class index, so that the mixed one-hot labels are the shares of the images.
        images, shares = mix(images, torch.arange(n, device=images.device))
        with torch.autocast(images.device.type, enabled=False):  # it would round the targets to half precision
            return images, shares.to(targets.dtype) @ targets

"""Transforms from images to the input of a network: normalised, cropped or warped, at random for training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from torchvice.data.dataset import Dataset as ImageDataset
from torchvice.data.images import Least
from torchvice.data.resized_crop import Box, random_box, resized_box
from torchvice.data.warping import check_interpolation, check_unit, checked_pixels, warp
from torchvice.errors import ViceError, did_you_mean

__all__ = [
    "LabelledImages",
    "TrainTransform",
    "ValidationTransform",
    "center_crop",
    "normalise",
    "uncrop",
]

VIEWS = ("crop", "warp", "resized_crop")


def _channels(name: str, values: Sequence[float]) -> torch.Tensor:
    if len(values) != 3 or not all(math.isfinite(value) for value in values):
        same = f"The same for all: {values[0]:g},{values[0]:g},{values[0]:g}." if len(values) == 1 else ""
        raise ViceError(f"`{name}` must be three numbers, one a channel, but is {values!r}.", same)
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(image / 255 - mean) / std, channels first.

    Args:
        image: (H, W, 3) uint8, RGB.
        mean: of the three channels, in [0, 1].
        std: of the three channels, above 0.

    Returns:
        (3, H, W) float32.

    Raises:
        ViceError: another shape or type of image; a mean or std that is not three numbers, a std not above 0.

    Example:
        >>> image = np.full((1, 1, 3), 255, dtype=np.uint8)
        >>> normalise(image, (0.5, 0.5, 0.5), (0.5, 0.25, 0.125)).flatten().tolist()
        [1.0, 2.0, 4.0]
    """
    centre, scale = _channels("mean", mean), _channels("std", std)
    check_unit(mean, std)
    # A copy: from_numpy shares memory, and refuses arrays with a negative stride.
    pixels = torch.from_numpy(checked_pixels(image).transpose(2, 0, 1).copy())
    return pixels.to(torch.float32).div_(255).sub_(centre).div_(scale)


def center_crop(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """Crop the `size` x `size` centre of the last two dimensions, with zeros where the tensor is smaller.

    The offset of the crop, and that of the tensor in its padding, is half the difference rounded to the even
    number (Python's `round`), as in the original's preprocessing.

    Args:
        tensor: (..., H, W).
        size: pixels.

    Returns:
        (..., size, size), of the tensor's type.

    Raises:
        ViceError: fewer than two dimensions, or a size below 1.

    Example:
        >>> center_crop(torch.tensor([[1, 2, 3, 4, 5]]), 2)
        tensor([[3, 4],
                [0, 0]])
    """
    if tensor.ndim < 2 or size < 1:
        raise ViceError(
            f"A centre crop needs (..., H, W) and a size of 1 or more, but got {tuple(tensor.shape)} and {size}."
        )
    offsets = [round((length - size) / 2) for length in tensor.shape[-2:]]
    return _cropped(tensor, offsets[0], offsets[1], size)


def uncrop(tensor: torch.Tensor, size: tuple[int, int], at: tuple[int, int] | None = None) -> torch.Tensor:
    """Put a crop (..., h, w) back to its place in (..., H, W), with zeros elsewhere.

    `at`: its top and left, negative where it lies beyond (..., H, W); None: the centre, where `center_crop` took it.

    Example:
        >>> uncrop(torch.tensor([[3, 4], [0, 0]]), (1, 5))
        tensor([[0, 0, 3, 4, 0]])
    """
    height, width = tensor.shape[-2:]
    top, left = at or (round((size[0] - height) / 2), round((size[1] - width) / 2))
    padding = (left, size[1] - width - left, top, size[0] - height - top)  # negative where the crop was padded
    return functional.pad(tensor, padding).contiguous()


def _cropped(tensor: torch.Tensor, top: int, left: int, size: int) -> torch.Tensor:
    """Cut the `size` x `size` window at (top, left), with zeros outside the tensor."""
    height, width = tensor.shape[-2:]
    inside = tensor[..., max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)]
    padding = (max(0, -left), max(0, left + size - width), max(0, -top), max(0, top + size - height))
    return functional.pad(inside, padding).contiguous()


def _check_view(view: str, crop: int, interpolation: str) -> None:
    if view not in VIEWS:
        raise ViceError(f"`view` must be one of {', '.join(VIEWS)}, but is {view!r}.", did_you_mean(view, VIEWS))
    if not isinstance(crop, int) or crop < 1:
        raise ViceError(f"`crop` must be at least 1 pixel, but is {crop!r}.")
    check_interpolation(interpolation)


@dataclass(frozen=True)
class TrainTransform:
    """Random transform of an image to an input: resized, mirrored, colours jittered, normalised, cropped.

    View `crop`, the paper's: the long side is resized to a random length of `resize`, the image mirrored half of
    the time, jittered, normalised, and a window of `crop` pixels cut out at random; an image that is smaller
    than the window lies in it at random, with zeros around it (after normalisation: zero is the mean colour).
    View `warp`: the whole image is resized to `crop` x `crop`, mirrored, jittered and normalised.
    View `resized_crop`: a random box of the image is resized to `crop` x `crop`, see `torchvice.data.resized_crop`, and
    mirrored, jittered and normalised.

    Randomness comes from torch's global generator, which each worker of a loader has seeded. Resizing is `warp`'s.

    Args:
        crop: pixels of the input's sides.
        resize: (low, high), both included, of the long side in pixels; None keeps its length. View `crop` only.
        area, ratio: of the box of the view `resized_crop`, see `random_box`.
        flip: whether to mirror left and right at random; not for digits, where a mirrored 3 is no digit.
        jitter: (brightness, contrast, saturation, hue), as torchvision's ColorJitter; None for none.
        mean, std: see `normalise`.
        view: `crop`, `warp` or `resized_crop`.
        interpolation: of resizing, see `warp`.
        randaugment: (operations, magnitude of 30) of torchvision's RandAugment on the window that was cut out; what its
            shifts uncover has the mean colour. None for none.
        erase: the chance that a random box, 2 to 33 % of the input, becomes zero: torchvision's RandomErasing.

    Raises:
        ViceError: an argument out of range; when called, another shape or type of image.

    References:
        More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022).
    """

    crop: int
    resize: tuple[int, int] | None = None
    flip: bool = True
    jitter: tuple[float, float, float, float] | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    view: str = "crop"
    randaugment: tuple[int, int] | None = None
    erase: float = 0.0
    area: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        _check_view(self.view, self.crop, self.interpolation)
        normalise(np.zeros((1, 1, 3), dtype=np.uint8), self.mean, self.std)
        if not 0 <= self.erase <= 1:
            raise ViceError(f"`erase` must be a probability, but is {self.erase!r}.")
        if self.randaugment is not None and not (self.randaugment[0] >= 1 and 0 <= self.randaugment[1] <= 30):
            raise ViceError(f"`randaugment` must be (1 or more, 0 to 30), but is {self.randaugment!r}.")
        if self.resize is not None and self.view != "crop":
            raise ViceError(
                f"`resize` must be None in the view `{self.view}`, which resizes to `crop`.", "Leave it out."
            )
        if not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ViceError(
                f"`area` must be (low, high) in (0, 1] and `ratio` (low, high) above 0, but they are {self.area!r} and "
                f"{self.ratio!r}."
            )
        if self.resize is not None and (len(self.resize) != 2 or not 1 <= self.resize[0] <= self.resize[1]):
            raise ViceError(f"`resize` must be (low, high) with 1 <= low <= high, but is {self.resize!r}.")
        if self.jitter is not None:
            self._jitter()

    def __call__(self, image: np.ndarray, box: Box | None = None) -> torch.Tensor:
        """(H, W, 3) uint8 to (3, crop, crop) float32; `box`: None draws it."""
        pixels = checked_pixels(image)
        if self.view == "warp":
            pixels = warp(pixels, self.crop, self.interpolation)
        elif self.view == "resized_crop":
            box = box or random_box((pixels.shape[0], pixels.shape[1]), self.area, self.ratio)
            pixels = resized_box(pixels, box, self.crop, self.interpolation)
        elif self.resize is not None:
            long = _random_int(self.resize[0], self.resize[1])
            scale = long / max(pixels.shape[:2])
            size = max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale))
            pixels = warp(pixels, size, self.interpolation)
        if self.flip and _random_int(0, 1):
            pixels = pixels[:, ::-1]
        if self.jitter is not None:
            tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
            pixels = self._jitter()(tensor).permute(1, 2, 0).numpy()
        top, left = (_random_offset(length, self.crop) for length in pixels.shape[:2])
        # Cutting before normalising gives the same numbers for a fraction of the work.
        inside = pixels[max(0, top) : max(0, top) + self.crop, max(0, left) : max(0, left) + self.crop]
        if self.randaugment is not None:
            inside = self._augmented(inside)
        window = _cropped(normalise(inside, self.mean, self.std), min(0, top), min(0, left), self.crop)
        return self._erased(window) if self.erase else window

    def _augmented(self, pixels: np.ndarray) -> np.ndarray:
        from torchvision.transforms.v2 import RandAugment  # type: ignore[import-untyped]

        assert self.randaugment is not None
        operations, magnitude = self.randaugment
        fill = [round(255 * value) for value in self.mean]
        augment = RandAugment(operations, magnitude, fill=fill)
        changed: np.ndarray = augment(torch.from_numpy(pixels.transpose(2, 0, 1).copy())).permute(1, 2, 0).numpy()
        return changed

    def _erased(self, window: torch.Tensor) -> torch.Tensor:
        from torchvision.transforms.v2 import RandomErasing

        erased: torch.Tensor = RandomErasing(p=self.erase)(window)
        return erased

    def _jitter(self) -> Callable[[torch.Tensor], torch.Tensor]:
        from torchvision.transforms.v2 import ColorJitter

        assert self.jitter is not None
        try:
            brightness, contrast, saturation, hue = self.jitter
            jitter: Callable[[torch.Tensor], torch.Tensor] = ColorJitter(brightness, contrast, saturation, hue)
            return jitter
        except (ValueError, TypeError) as error:
            raise ViceError(
                f"`jitter` must be (brightness, contrast, saturation, hue), not negative, hue up to 0.5, "
                f"but is {self.jitter!r}: {error}."
            ) from None


def _random_int(low: int, high: int) -> int:
    """Draw a whole number from `low` to `high`, both included, from torch's global generator."""
    return int(torch.randint(low, high + 1, ()))


def _random_offset(length: int, window: int) -> int:
    """Draw the start of a window along a side: inside if it fits, else so that it covers the whole side."""
    spare = length - window
    return _random_int(0, spare) if spare >= 0 else -_random_int(0, -spare)


@dataclass(frozen=True)
class ValidationTransform:
    """Fixed transform of an image to an input: normalised and cropped to its centre, or warped and normalised.

    View `crop` is the paper's; views `warp` and `resized_crop` show the network the whole image, resized.

    Args:
        crop: pixels of the input's sides.
        mean, std: see `normalise`.
        view: `crop`, `warp` or `resized_crop`.
        interpolation: of resizing, see `warp`.

    Raises:
        ViceError: an argument out of range; when called, another shape or type of image.
    """

    crop: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    view: str = "crop"
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        _check_view(self.view, self.crop, self.interpolation)
        normalise(np.zeros((1, 1, 3), dtype=np.uint8), self.mean, self.std)

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """(H, W, 3) uint8 to (3, crop, crop) float32."""
        if self.view != "crop":
            return normalise(warp(image, self.crop, self.interpolation), self.mean, self.std)
        return center_crop(normalise(image, self.mean, self.std), self.crop)


class LabelledImages(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A dataset for torch's loaders: (input, targets) by index.

    Args:
        dataset: images and targets. Where it has `reduced_image`, as a split on disk has, the view `resized_crop` of
            training reads JPEGs no larger than it needs them.
        transform: (H, W, 3) uint8 to (3, S, S) float32, such as TrainTransform or ValidationTransform.

    Item i is `(transform(dataset.image(i)), targets[i])`, targets (C,) float32 of zeros and ones.

    Raises:
        IndexError: beyond the last image, as Python's iteration asks for.
        ViceError: a damaged image, when it is read.
    """

    def __init__(self, dataset: ImageDataset, transform: Callable[[np.ndarray], torch.Tensor]) -> None:
        self.dataset = dataset
        self.transform = transform
        self.targets = torch.from_numpy(dataset.targets.astype(np.float32))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"The index must be 0 to {len(self) - 1}, but is {index}.")
        reads_reduced = getattr(self.dataset, "reduced_image", None)
        if isinstance(self.transform, TrainTransform) and self.transform.view == "resized_crop" and reads_reduced:
            return self.transform(*_with_box(self.transform, partial(reads_reduced, index))), self.targets[index]
        return self.transform(self.dataset.image(index)), self.targets[index]


def _with_box(transform: TrainTransform, read: Callable[[Least], np.ndarray]) -> tuple[np.ndarray, Box | None]:
    """An image, decoded at no more than the size that a random box of it needs, and that box."""
    drawn: list[tuple[tuple[int, int], Box]] = []

    def least(size: tuple[int, int]) -> tuple[int, int]:
        left, top, right, bottom = box = random_box(size, transform.area, transform.ratio)
        drawn.append((size, box))
        scale = min(1.0, transform.crop / min(right - left, bottom - top))
        return math.ceil(size[0] * scale), math.ceil(size[1] * scale)

    image = read(least)
    (height, width), (left, top, right, bottom) = drawn[0]
    down, across = image.shape[0] / height, image.shape[1] / width
    return image, (left * across, top * down, right * across, bottom * down)

"""Faithfulness: how a class's probability changes when the pixels that its map ranks highest are added or removed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.nn import functional

from torchvice.errors import ViceError, did_you_mean, names_and_values
from torchvice.explain.imputation import impute
from torchvice.explain.maps import upsample
from torchvice.explain.memory import halve_on_oom

__all__ = ["MEASURES", "Faithfulness", "FaithfulnessChoices", "MapRequest", "faithfulness"]

MEASURES = ("insertion", "deletion", "road")
Baseline = Literal["mean", "blur"]
# RISE's kernel is 11 x 11 pixels with a standard deviation of 5, for images of 224; both grow with larger images.
_SIGMA, _SIDE = 5, 224


@dataclass(frozen=True)
class FaithfulnessChoices:
    """Which measures of faithfulness are taken, and how; kept in the manifest of a table.

    Args:
        measures: one or more of "insertion", "deletion" and "road".
        steps: number of equal parts of the pixels; a curve has steps + 1 points.
        canvas: the start of insertion: "blur", the image behind RISE's Gaussian, or "mean".
        blank: the end of deletion: "mean", the mean colour of the normalisation (0 in the network's input), or "blur".
            ROAD is normalised by its probability too.
        shares: the shares of pixels that ROAD removes, each above 0 and below 1.
        noise: standard deviation of the noise that ROAD adds to imputed pixels, in the network's input.
        orders: number of random orders; their mean is the level of chance.
        seed: seed of these orders, of ties and of the noise.

    Raises:
        ViceError: any other value.
    """

    measures: tuple[str, ...] = MEASURES
    steps: int = 20
    canvas: Baseline = "blur"
    blank: Baseline = "mean"
    shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    noise: float = 0.01
    orders: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = next((name for name in self.measures if name not in MEASURES), None)
        if unknown is not None or not self.measures:
            given = "empty" if unknown is None else repr(unknown)
            message = f"`faithfulness` must be one or more of {', '.join(MEASURES)}, but is {given}."
            raise ViceError(message, did_you_mean(unknown or "", MEASURES))
        for name in ("canvas", "blank"):
            if getattr(self, name) not in get_args(Baseline):
                raise ViceError(f"`{name}` must be mean or blur, but is {getattr(self, name)!r}.")
        if self.steps < 2 or self.orders < 1 or not 0 <= self.noise < math.inf:
            raise ViceError(
                "`steps` must be at least 2, `orders` at least 1 and `noise` a finite number from 0, but they are "
                f"{self.steps}, {self.orders} and {self.noise}."
            )
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ViceError(f"`shares` must be one or more numbers between 0 and 1, but is {self.shares}.")

    @classmethod
    def parse(cls, texts: Sequence[str]) -> FaithfulnessChoices:
        """Choices from names of measures and from NAME=VALUE texts, such as "deletion" and "steps=10".

        Raises:
            ViceError: an unknown name, or a value that does not fit.

        Example:
            >>> FaithfulnessChoices.parse(["insertion", "road", "canvas=mean"]).measures
            ('insertion', 'road')
        """
        kinds: dict[str, Callable[[str], Any]] = {"canvas": str, "blank": str, "noise": float}
        kinds |= dict.fromkeys(("steps", "orders", "seed"), int)
        kinds["shares"] = lambda value: tuple(float(share) for share in value.split("+"))
        measures, values = names_and_values(texts, kinds, "faithfulness")
        return cls(**(values | {"measures": measures} if measures else values))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class MapRequest:
    """A map to evaluate: the index of its `image` in the batch, its class `label`, the `map` (H, W) at the image's
    size, and the `grid` (h, w) of the low-resolution map before resizing."""

    image: int
    label: int
    map: torch.Tensor
    grid: tuple[int, int]


@dataclass(frozen=True)
class Faithfulness:
    """One value for each of P maps, (P,) float64, NaN where it was not requested.

    `insertion`, `deletion`: the area under the curve of p, in [0, 1]; `road`: the mean of p(least first) - p(most
    first), in [-1, 1]. `..._random`: their mean over random orders. `p_full`, `p_canvas`, `p_blank`: p of the image,
    of the first image of insertion and of the last image of deletion, which is passed for ROAD too.
    """

    insertion: np.ndarray
    deletion: np.ndarray
    road: np.ndarray
    insertion_random: np.ndarray
    deletion_random: np.ndarray
    road_random: np.ndarray
    p_full: np.ndarray
    p_canvas: np.ndarray
    p_blank: np.ndarray


def faithfulness(
    logits: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    requests: Sequence[MapRequest],
    choices: FaithfulnessChoices | None = None,
    *,
    exclusive: bool = False,
    batch_size: int = 32,
) -> Faithfulness:
    """Insertion, deletion and ROAD of maps, each together with its level for random orders.

    A random order ranks noise on the map's grid, resized like the map: noise per pixel would also leave finer patterns
    of the image than a map does. A further random order breaks ties, so that an empty map is one more random order. The
    orders of an image depend only on the seed and its pixels, and serve all its maps of one grid.

    Args:
        logits: from images (B, 3, H, W) to the data's logits (B, C), such as `Explainer.logits`.
        images: (N, 3, H, W), normalised, on the model's device; the maps explain them.
        requests: P maps.
        choices: None: the defaults.
        exclusive: whether p is a softmax over the classes instead of a sigmoid.
        batch_size: images per pass; all maps and steps share full batches, halved when memory runs out.

    Raises:
        ViceError: a map of another size than the images, a label beyond the logits, or too little memory for one image.

    References:
        Petsiuk et al., RISE, BMVC 2018. Rong et al., A consistent and efficient evaluation strategy for attribution
        methods, ICML 2022.

    Example:
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> image[..., :4] = 1.0
        >>> logits = lambda x: 20 * x[:, 0, :, :4].mean((1, 2))[:, None] - 10
        >>> choices = FaithfulnessChoices(("deletion",), steps=4)
        >>> result = faithfulness(logits, image, [MapRequest(0, 0, image[0, 0], (2, 2))], choices)
        >>> result.deletion.round(2), result.p_full.round(2), bool(result.deletion < result.deletion_random)
        (array([0.25]), array([1.]), True)
    """
    choices = choices or FaithfulnessChoices()
    for one in requests:
        if one.map.shape != images.shape[2:]:
            expected, came = tuple(images.shape[2:]), tuple(one.map.shape)
            raise ViceError(f"A map must have the size of the images, {expected}, but has {came}.")
    if not requests:
        return Faithfulness(*np.full((len(Faithfulness.__dataclass_fields__), 0), np.nan))
    with torch.no_grad():
        orders, probabilities = _PixelOrders(images, requests, choices), _Probabilities(logits, exclusive, batch_size)
        by_part = {name: probabilities(chunks) for name, chunks in orders.edited_images().items()}
    return _columns(orders, requests, by_part)


class _PixelOrders:
    """The orders in which pixels are added or removed, and the edited images."""

    def __init__(self, images: torch.Tensor, requests: Sequence[MapRequest], choices: FaithfulnessChoices) -> None:
        self.images, self.choices = images, choices
        self.ranks: list[torch.Tensor] = []  # (H, W) each: 0 for the pixel that the map ranks highest
        self.image_of: list[int] = []
        self.random_of: dict[tuple[int, tuple[int, int]], list[int]] = {}
        self.seeds = [_seed(choices.seed, image) for image in images]
        ties = {}
        for key in dict.fromkeys((one.image, one.grid) for one in requests):
            *noises, ties[key] = _noise(self.seeds[key[0]], choices.orders + 1, key[1], images)
            self.random_of[key] = [self._add(key[0], noise, noise) for noise in noises]
        self.order_of = [self._add(one.image, one.map, ties[one.image, one.grid]) for one in requests]

    def _add(self, image: int, values: torch.Tensor, ties: torch.Tensor) -> int:
        """Append the order of an image's pixels by descending value, then by `ties`; return its index."""
        first = ties.flatten().argsort(descending=True, stable=True)
        order = first[values.to(ties.device).flatten()[first].argsort(descending=True, stable=True)]
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order), device=order.device)
        self.ranks.append(ranks.view(values.shape))
        self.image_of.append(image)
        return len(self.ranks) - 1

    def edited_images(self) -> dict[str, Iterator[torch.Tensor]]:
        """Images of each measure and of the ends of the curves, in chunks."""
        parts: dict[str, Iterator[torch.Tensor]] = {"full": iter([self.images])}
        if "insertion" in self.choices.measures:
            parts["canvas"] = iter([self._baseline(self.choices.canvas)])
            parts["insertion"] = self._curves(self._baseline(self.choices.canvas), insert=True)
        if {"deletion", "road"} & set(self.choices.measures):
            parts["blank"] = iter([self._baseline(self.choices.blank)])
        if "deletion" in self.choices.measures:
            parts["deletion"] = self._curves(self._baseline(self.choices.blank), insert=False)
        if "road" in self.choices.measures:
            parts["road"] = self._imputed()
        return parts

    def _baseline(self, name: str) -> torch.Tensor:
        return _blurred(self.images) if name == "blur" else torch.zeros_like(self.images)

    def _curves(self, baseline: torch.Tensor, insert: bool) -> Iterator[torch.Tensor]:
        """Yield for every order the images (steps - 1, 3, H, W) between the two ends of its curve."""
        pixels, steps = self.ranks[0].numel(), self.choices.steps
        counts = torch.tensor([round(pixels * step / steps) for step in range(1, steps)], device=self.images.device)
        for rank, image in zip(self.ranks, self.image_of, strict=True):
            first = (rank < counts[:, None, None])[:, None]
            yield torch.where(first == insert, self.images[image], baseline[image])

    def _imputed(self) -> Iterator[torch.Tensor]:
        """Yield per order and share two images (2, 3, H, W): without the lowest and without the highest pixels."""
        pixels = self.ranks[0].numel()
        for rank, image in zip(self.ranks, self.image_of, strict=True):
            generator = np.random.default_rng(self.seeds[image])
            original, ranks = self.images[image].float().cpu().numpy(), rank.cpu().numpy()
            for share in self.choices.shares:
                count = min(max(1, round(pixels * share)), pixels - 1)
                noise = self.choices.noise * generator.standard_normal(original.shape)
                pair = [impute(original, missing, noise) for missing in (ranks >= pixels - count, ranks < count)]
                yield torch.from_numpy(np.stack(pair)).to(self.images)


class _Probabilities:
    """Probabilities (B, C) of images in chunks of any size, computed in full batches."""

    def __init__(self, logits: Callable[[torch.Tensor], torch.Tensor], exclusive: bool, batch_size: int) -> None:
        self.logits, self.exclusive, self.batch_size = logits, exclusive, batch_size

    def __call__(self, chunks: Iterator[torch.Tensor]) -> np.ndarray:
        """Compute (all images, C) float64."""
        rows: list[np.ndarray] = []
        waiting = torch.empty(0)
        for chunk in chunks:
            waiting = torch.cat([waiting, chunk]) if len(waiting) else chunk
            while len(waiting) >= self.batch_size:
                size = self.batch_size
                rows += self._pass(waiting[:size])
                waiting = waiting[size:]
        if len(waiting):
            rows += self._pass(waiting)
        return np.stack(rows)

    def _pass(self, batch: torch.Tensor) -> list[np.ndarray]:
        def work(part: Sequence[int]) -> list[np.ndarray]:
            logits = self.logits(batch[part[0] : part[-1] + 1]).double()
            return list((logits.softmax(1) if self.exclusive else logits.sigmoid()).cpu().numpy())

        return halve_on_oom(range(len(batch)), work, self._shrink)

    def _shrink(self, size: int) -> None:
        self.batch_size = min(self.batch_size, size)


def _columns(orders: _PixelOrders, requests: Sequence[MapRequest], by_part: dict[str, np.ndarray]) -> Faithfulness:
    """Compute the columns from the probabilities of all images, by part."""
    choices, classes = orders.choices, by_part["full"].shape[1]
    labels = np.array([one.label for one in requests])
    if labels.min() < 0 or labels.max() >= classes:
        raise ViceError(f"Labels must be 0 to {classes - 1}, but are {sorted(set(labels.tolist()))}.")
    rows, image_of = np.array([one.image for one in requests]), np.array(orders.image_of)
    values: dict[str, np.ndarray] = {}  # of each measure, for every order and class
    for name, start, end in (("insertion", "canvas", "full"), ("deletion", "full", "blank")):
        if name in by_part:
            between = by_part[name].reshape(len(image_of), choices.steps - 1, classes)
            ends = (by_part[start][image_of] + by_part[end][image_of]) / 2
            values[name] = (between.sum(axis=1) + ends) / choices.steps
    if "road" in by_part:
        least, most = (
            by_part["road"].reshape(len(image_of), len(choices.shares), 2, classes).mean(axis=1).swapaxes(0, 1)
        )
        values["road"] = least - most
    columns = {name: np.full(len(requests), np.nan) for name in Faithfulness.__dataclass_fields__}
    for name, value in values.items():
        columns[name] = value[orders.order_of, labels]
        randoms = [orders.random_of[one.image, one.grid] for one in requests]
        columns[f"{name}_random"] = value[np.array(randoms), labels[:, None]].mean(axis=1)
    for name in ("full", "canvas", "blank"):
        if name in by_part:
            columns[f"p_{name}"] = by_part[name][rows, labels]
    return Faithfulness(**columns)


def _seed(seed: int, image: torch.Tensor) -> int:
    """Seed of an image's random stream. It depends on the given seed and the pixels, not on the batch."""
    pixels = image.detach().float().cpu().contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(f"{seed} ".encode() + pixels).digest()[:8], "big") >> 1


def _noise(seed: int, count: int, grid: tuple[int, int], images: torch.Tensor) -> torch.Tensor:
    """Draw noise (count, H, W) on the grid, resized to the images' size."""
    noise = torch.rand((count, *grid), generator=torch.Generator().manual_seed(seed))
    return upsample(noise, (images.shape[2], images.shape[3])).to(images.device)


def _blurred(images: torch.Tensor) -> torch.Tensor:
    """Blur images with RISE's Gaussian; border pixels are repeated outside."""
    sigma = _SIGMA * max(1.0, float(np.sqrt(images.shape[2] * images.shape[3])) / _SIDE)
    reach = round(sigma)
    weight = torch.exp(-(torch.arange(-reach, reach + 1, device=images.device) ** 2) / (2 * sigma**2)).to(images)
    kernel = torch.outer(weight, weight) / weight.sum() ** 2
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    return functional.conv2d(padded, kernel.expand(images.shape[1], 1, -1, -1), groups=images.shape[1])

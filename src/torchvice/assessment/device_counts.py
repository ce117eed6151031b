"""Maps of many images counted where they lie, on a GPU: the integers that torchvice.metrics counts with numpy.

A pixel is compared with the same float32 numbers in the same order as there, so every count is the same. Only the two
energies, sums in float64, are added in another order. The pixels of all images lie in one row: a histogram counts them
all in one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchvice.metrics.overlap import VOID, Overlap, overlap_from_histogram
from torchvice.metrics.own_map import OTSU_BINS, ROUNDING, OwnMaps, otsu_from_counts
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, as_cuts
from torchvice.samples import HISTOGRAM_BINS

if TYPE_CHECKING:
    from torchvice.assessment.finished import ViewOutput
    from torchvice.assessment.images import Read

__all__ = ["Counts", "counted_on", "counts_of", "with_counts"]

# Pixels of maps that are counted at once: about 30 of VOC's size, which takes some 700 MB.
AT_ONCE = 2**23
# What is made of an image: its position in the batch, its output, and columns that were measured.
Made = tuple[int, "ViewOutput", Any]


@dataclass(frozen=True)
class Counts:
    """What is counted of the maps of an image: `overlap`, and per map (M, B) histograms and `OwnMaps`."""

    overlap: Overlap
    inside: np.ndarray
    outside: np.ndarray
    own: OwnMaps


def counted_on(device: torch.device) -> bool:
    """Whether maps are counted on their device: CUDA's; on a CPU numpy is faster, and others lack float64."""
    return device.type == "cuda"


def with_counts(
    made: Iterable[Made], reads: Sequence[Read], wanted: bool = True
) -> Iterator[tuple[Made, Counts | None]]:
    """What is made of images, with the counts of maps that lie on a GPU; None where numpy counts.

    Args:
        made: the outputs of a view.
        reads: the images of the batch, by position.
        wanted: whether maps are counted together at all.
    """
    waiting: list[Made] = []
    pixels = 0
    for one in made:
        waiting.append(one)
        pixels += len(one[1].classes) * reads[one[0]].image[..., 0].size
        if not wanted or one[1].on_device is None or pixels >= AT_ONCE:
            yield from zip(waiting, _together(waiting, reads, wanted), strict=True)
            waiting, pixels = [], 0
    yield from zip(waiting, _together(waiting, reads, wanted), strict=True)


def _together(made: Sequence[Made], reads: Sequence[Read], wanted: bool) -> list[Counts | None]:
    """The counts of each; None where they cannot be made on a GPU."""
    maps: dict[int, torch.Tensor] = {}
    masks: dict[int, np.ndarray] = {}
    all_counts: list[Counts | None] = [None] * len(made)
    try:
        for place, (position, output, _) in enumerate(made):
            region = reads[position].region
            mask = None if region is None or region.boxes is not None or region.void != VOID else region.mask
            if not wanted or mask is None or output.on_device is None or mask.dtype != np.uint8:
                continue
            maps[place], masks[place] = output.on_device(mask.shape), mask
        if not maps:
            return all_counts
        found = counts_of(
            list(maps.values()), [made[place][1].classes for place in maps], list(masks.values()), HISTOGRAM_BINS
        )
    except torch.OutOfMemoryError:
        return all_counts
    for place, counts in zip(maps, found or (), strict=found is not None):
        all_counts[place] = counts
    return all_counts


def counts_of(
    maps: Sequence[torch.Tensor], classes: Sequence[Sequence[int]], masks: Sequence[np.ndarray], bins: int
) -> list[Counts] | None:
    """Count the maps of some images, as `competing_overlap`, `own_histograms` and `own_maps` do.

    Args:
        maps: (M, H, W) float32 of every image, on one device.
        classes: (M,) of every image, without duplicates.
        masks: (H, W) uint8 of every image, 255 = void.
        bins: of the histograms.

    Returns:
        Counts of every image; None if a value is not finite: numpy's functions have rules for those.
    """
    device = maps[0].device
    orders = [sorted(range(len(own)), key=own.__getitem__) for own in classes]
    maps = [planes if order == sorted(order) else planes[order] for planes, order in zip(maps, orders, strict=True)]
    planes = _Planes.of(maps, [sorted(own) for own in classes], masks, device)
    if planes.count and not bool(torch.isfinite(planes.value).all()):
        return None
    competing = _competing(maps, planes)
    histograms = _histograms(planes, bins)
    scores = _scores(maps, planes)
    found, first = [], 0
    for number, order in enumerate(orders):
        rows = np.argsort(order) + first
        first += len(order)
        overlap = overlap_from_histogram(
            [classes[number][place] for place in order], competing[number][:, : max(1, len(order))]
        )
        own = OwnMaps(*(scores[field.name][rows] for field in fields(OwnMaps)))
        found.append(Counts(overlap, histograms[rows, 1], histograms[rows, 0], own))
    return found


@dataclass(frozen=True)
class _Planes:
    """The pixels of all maps in one row, image after image; S pixels of images, R of maps.

    `mask` (S,) of the images; `sizes` pixels of each image; of each map its number of pixels `lengths` (P,), and per
    pixel (R,) `value`, `row` (the map's number), `inside` (in the object of its class) and `hidden` (void).
    """

    mask: torch.Tensor
    sizes: list[int]
    lengths: torch.Tensor
    value: torch.Tensor
    row: torch.Tensor
    inside: torch.Tensor
    hidden: torch.Tensor

    @property
    def count(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(
        cls,
        maps: Sequence[torch.Tensor],
        classes: Sequence[Sequence[int]],
        masks: Sequence[np.ndarray],
        device: torch.device,
    ) -> _Planes:
        """Lay out maps (M, H, W) whose classes increase."""
        sizes = [mask.size for mask in masks]
        mask = torch.from_numpy(np.concatenate([one.reshape(-1) for one in masks])).to(device)
        parts = mask.split(sizes)
        lengths = [size for size, own in zip(sizes, classes, strict=True) for _ in own]
        labels = [c + 1 if c + 1 != VOID else -1 for own in classes for c in own]
        if not lengths:
            empty = mask[:0]
            return cls(
                mask, sizes, torch.zeros(0, dtype=torch.int64), empty.float(), empty.long(), empty.bool(), empty.bool()
            )
        of_map = torch.cat([part.repeat(len(own)) for part, own in zip(parts, classes, strict=True)])
        length = torch.tensor(lengths, device=device)
        row = torch.repeat_interleave(length, output_size=sum(lengths))
        label = torch.tensor(labels, dtype=torch.int16, device=device)
        value = torch.cat([planes.reshape(-1) for planes in maps])
        return cls(mask, sizes, length, value, row, of_map == label[row], of_map == VOID)

    def histogram(self, code: torch.Tensor, values: int) -> np.ndarray:
        """Count the codes (R,) 0..values - 1 of every map, (P, values)."""
        if not self.count:
            return np.zeros((0, values), np.int64)
        counts = torch.bincount(self.row * values + code, minlength=self.count * values)
        return counts.cpu().numpy().reshape(self.count, values)


def _competing(maps: Sequence[torch.Tensor], planes: _Planes) -> np.ndarray:
    """The histogram of each image that `overlap_from_histogram` takes, (N, 256, most maps, T + 1)."""
    scores, winners = [], []
    for own in maps:
        flat = own.reshape(len(own), -1)
        score = flat[0] if len(own) else flat.new_full((flat.shape[1],), -np.inf)
        winner = torch.zeros(len(score), dtype=torch.uint8, device=score.device)
        for place, plane in enumerate(flat[1:], 1):
            winner = torch.where(plane > score, torch.full_like(winner, place), winner)
            score = torch.maximum(score, plane)
        scores.append(score)
        winners.append(winner)
    size = torch.tensor(planes.sizes, device=planes.mask.device)
    image = torch.repeat_interleave(size, output_size=sum(planes.sizes))
    shape = (len(maps), 256, max(1, *(len(own) for own in maps)), len(PAPER_THRESHOLDS) + 1)
    code = (planes.mask + 1).long() + 256 * image  # uint8: 255 becomes 0
    code = (code * shape[2] + torch.cat(winners)) * shape[3] + _below(torch.cat(scores))
    counts: np.ndarray = torch.bincount(code, minlength=int(np.prod(shape))).int().cpu().numpy()
    return counts.reshape(shape)


def _below(score: torch.Tensor) -> torch.Tensor:
    """The number of thresholds strictly below each score, as `torchvice.metrics.thresholds.count_below`."""
    cuts = as_cuts(PAPER_THRESHOLDS)
    table = torch.from_numpy(cuts.table).to(score.device)
    return torch.searchsorted(table, score)


def _histograms(planes: _Planes, bins: int) -> np.ndarray:
    """Pixels of each map by its value, outside and inside its object, (P, 2, bins)."""
    position = (planes.value * bins).clamp(0, bins - 1).long()
    code = torch.where(planes.hidden, 2 * bins, position + planes.inside * bins)
    return planes.histogram(code, 2 * bins + 1)[:, :-1].reshape(-1, 2, bins)


def _scores(maps: Sequence[torch.Tensor], planes: _Planes) -> dict[str, np.ndarray]:
    """The columns of `OwnMaps`."""
    names = [field.name for field in fields(OwnMaps)]
    if not planes.count:
        return {name: np.zeros(0) for name in names}
    seen = torch.where(planes.hidden, -torch.inf, planes.value)
    unseen = torch.where(planes.hidden, torch.inf, planes.value)
    positive = planes.value.clamp(min=0).double()
    inside, outside = planes.inside & ~planes.hidden, ~planes.inside & ~planes.hidden
    lows, highs = (_reduced(planes.value, planes, how).double() for how in ("min", "max"))
    lowest, highest = _reduced(unseen, planes, "min").double(), _reduced(seen, planes, "max").double()
    energies = [_reduced(positive * part, planes, "sum").cpu().numpy() for part in (inside, outside)]
    threshold = torch.from_numpy(_otsu(planes, lows, highs)).to(planes.value.device)
    top = (highest - ROUNDING * torch.maximum(highest.abs(), lowest.abs())).float()
    code = inside.long() + 2 * (planes.value >= top[planes.row]) + 4 * (planes.value > threshold[planes.row])
    counts = planes.histogram(torch.where(planes.hidden, 8, code), 9)[:, :8].reshape(-1, 2, 2, 2)
    visible = counts.sum((1, 2, 3)) > 0
    tops, above = counts[:, :, 1].sum(1), counts[:, 1].sum(1)
    split = ~np.isnan(threshold.cpu().numpy())
    with np.errstate(invalid="ignore"):
        pointing = tops[:, 1] / tops.sum(1)
    columns = [*energies, pointing, np.where(split, above.sum(1), np.nan), np.where(split, above[:, 1], np.nan)]
    return {name: np.where(visible, column, np.nan) for name, column in zip(names, columns, strict=True)}


def _reduced(values: torch.Tensor, planes: _Planes, how: str) -> torch.Tensor:
    """The sum, the minimum or the maximum of the values (R,) of each map, (P,)."""
    return torch.segment_reduce(values, how, lengths=planes.lengths, unsafe=True)


def _otsu(planes: _Planes, lows: torch.Tensor, highs: torch.Tensor) -> np.ndarray:
    """Otsu's threshold of each map, float32 (P,); NaN for a constant one, see `otsu_threshold`."""
    width = (highs - lows) / OTSU_BINS
    varied = (highs - lows > ROUNDING * torch.maximum(lows.abs(), highs.abs())) & torch.isfinite(width)
    scale = torch.where(varied, 1 / width, 0).float()
    index = ((planes.value - lows.float()[planes.row]) * scale[planes.row]).clamp(max=OTSU_BINS - 1).long()
    counts = planes.histogram(index, OTSU_BINS)
    given = zip(counts, lows.tolist(), width.tolist(), varied.tolist(), strict=True)
    found = [otsu_from_counts(own, low, step) if use else np.nan for own, low, step, use in given]
    return np.array(found, np.float32)

"""Faithfulness of the maps of a view, for the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.samples import Regions

if TYPE_CHECKING:
    from torchvice.assessment.views import View, ViewOutput
    from torchvice.explain import FaithfulnessChoices

__all__ = ["ByClass", "faithful_maps", "filled", "lacks", "with_faithfulness"]

# By class, the columns of the table.
ByClass = dict[int, dict[str, float]]


def with_faithfulness(
    view: View | None,
    images: Sequence[np.ndarray],
    looked: Iterator[tuple[int, ViewOutput]],
    choices: FaithfulnessChoices | None,
) -> Iterator[tuple[int, ViewOutput, ByClass]]:
    """What a view saw, and with it the faithfulness of its maps, where it is asked for; see `faithful_maps`."""
    if choices is None or view is None:
        yield from ((position, seen, {}) for position, seen in looked)
        return
    every = dict(looked)
    for position, mine in faithful_maps(view, images, every, choices):
        yield position, every[position], mine


def faithful_maps(
    view: View,
    images: Sequence[np.ndarray],
    seen: Mapping[int, ViewOutput],
    choices: FaithfulnessChoices,
) -> Iterator[tuple[int, ByClass]]:
    """Insertion, deletion and ROAD, as asked, of every map that a view saw, on the pixels that it was shown.

    Args:
        view: what was shown, and to whom.
        images: (H, W, 3) uint8 each.
        seen: by position in `images`.
        choices: what is asked.

    Yields:
        Every position that was seen, batch by batch, and what was found; nothing where there is no map.
    """
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, one in seen.items():
        if one.classes:
            by_size[view.shown_size(images[position])].append(position)
        else:
            yield position, {}
    for (height, width), same in by_size.items():
        # No more pixels at once than a batch of square views.
        some = max(1, view.batch_size * view.side**2 // (height * width))
        for start in range(0, len(same), some):
            part = same[start : start + some]
            yield from _of_batch(
                view, images, {position: seen[position] for position in part}, (height, width), choices
            )


def _of_batch(
    view: View,
    images: Sequence[np.ndarray],
    seen: Mapping[int, ViewOutput],
    size: tuple[int, int],
    choices: FaithfulnessChoices,
) -> Iterator[tuple[int, ByClass]]:
    """`faithful_maps` of images that are shown at one size, and that go through the network together."""
    import torch

    from torchvice.explain import MapRequest, faithfulness

    batch = torch.stack([view.pixels(images[position]) for position in seen]).to(view.device)
    asked: list[MapRequest] = []
    found: dict[int, ByClass] = {position: {} for position in seen}
    for place, one in enumerate(seen.values()):
        for row, full in enumerate(torch.from_numpy(one.full(size))):
            grid = one.maps[row].shape
            # The maps of a mirror image are mirrored back, the pixels that were shown are not.
            asked.append(
                MapRequest(place, one.classes[row], full.flip(-1) if view.flipped else full, (grid[0], grid[1]))
            )
    most = max(1, view.batch_size * view.side**2 // (size[0] * size[1]))
    logits = view.explainer.logits
    columns = vars(faithfulness(logits, batch, asked, choices, exclusive=view.exclusive, batch_size=most))
    keys = ((position, c) for position, one in seen.items() for c in one.classes)
    for row, (position, c) in enumerate(keys):
        found[position][c] = {name: float(column[row]) for name, column in columns.items()}
    yield from found.items()


def lacks(regions: Regions, explanation: str) -> bool:
    """Whether the maps of an explanation have not been asked for their faithfulness."""
    mine = (regions.explanation == explanation) & (regions.status != "none")
    return bool(mine.any() and np.isnan(regions.p_full[mine]).all())


def filled(regions: Regions, explanation: str, image_ids: Sequence[str], found: Mapping[int, ByClass]) -> Regions:
    """The rows with the faithfulness of an explanation's maps in their place."""
    row_of: dict[tuple[str, int], int] = {}
    for row in np.flatnonzero(regions.explanation == explanation).tolist():
        row_of[regions.image_id[row], int(regions.label[row])] = row
    columns: dict[str, Any] = {}
    for position, by_class in found.items():
        for c, values in by_class.items():
            for name, value in values.items():
                if name not in columns:
                    columns[name] = getattr(regions, name).copy()
                columns[name][row_of[image_ids[position], c + 1]] = value
    return Regions(**{**vars(regions), **columns})

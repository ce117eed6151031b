"""Faithfulness of the maps of a view, for the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.samples import Regions

if TYPE_CHECKING:
    from torchvice.assessment.views import View, ViewOutput
    from torchvice.explain import FaithfulnessChoices

__all__ = [
    "ByClass",
    "faithfulness_of",
    "joined",
    "lacks_blank",
    "lacks_faithfulness",
    "with_columns",
    "with_faithfulness",
]

# By class, the columns of the table.
ByClass = dict[int, dict[str, Any]]


def with_faithfulness(
    view: View | None,
    images: Sequence[np.ndarray],
    outputs: Iterator[tuple[int, ViewOutput]],
    choices: FaithfulnessChoices | None,
) -> Iterator[tuple[int, ViewOutput, ByClass]]:
    """The outputs of a view with the faithfulness of its maps, if `choices` are given; see `faithfulness_of`."""
    if choices is None or view is None:
        yield from ((position, output, {}) for position, output in outputs)
        return
    by_position = dict(outputs)
    for position, columns in faithfulness_of(view, images, by_position, choices):
        yield position, by_position[position], columns


def faithfulness_of(
    view: View,
    images: Sequence[np.ndarray],
    outputs: Mapping[int, ViewOutput],
    choices: FaithfulnessChoices,
) -> Iterator[tuple[int, ByClass]]:
    """Insertion, deletion and ROAD of every map of a view, on the pixels that the network was shown.

    Args:
        view: the view that gave the maps.
        images: (H, W, 3) uint8 each.
        outputs: the view's outputs by position in `images`.
        choices: which measures, and how.

    Yields:
        Every position of `outputs`, batch by batch, with its columns by class; empty where there is no map.
    """
    yield from ((position, {}) for position, one in outputs.items() if not one.classes)
    explained = [position for position, one in outputs.items() if one.classes]
    for size, group, most in view.shown_groups(images, explained):
        yield from _of_batch(view, images, {position: outputs[position] for position in group}, size, most, choices)


def _of_batch(
    view: View,
    images: Sequence[np.ndarray],
    outputs: Mapping[int, ViewOutput],
    size: tuple[int, int],
    most: int,
    choices: FaithfulnessChoices,
) -> Iterator[tuple[int, ByClass]]:
    """`faithfulness_of` of images that are shown at one size, and that go through the network together."""
    import torch

    from torchvice.explain import MapRequest, faithfulness

    batch = torch.stack([view.pixels(images[position]) for position in outputs]).to(view.device)
    requests: list[MapRequest] = []
    by_position: dict[int, ByClass] = {position: {} for position in outputs}
    for place, one in enumerate(outputs.values()):
        for row, full in enumerate(torch.from_numpy(one.full(size, False))):
            grid = one.maps[row].shape
            # The maps of a mirror image are mirrored back, the pixels that were shown are not.
            full = full.flip(-1) if view.flipped else full
            requests.append(MapRequest(place, one.classes[row], full, (grid[0], grid[1])))
    logits = view.explainer.logits
    columns = vars(faithfulness(logits, batch, requests, choices, exclusive=view.exclusive, batch_size=most))
    keys = ((position, c) for position, one in outputs.items() for c in one.classes)
    for row, (position, c) in enumerate(keys):
        by_position[position][c] = {name: float(column[row]) for name, column in columns.items()}
    yield from by_position.items()


def joined(first: ByClass, second: ByClass) -> ByClass:
    """The columns of both, class by class."""
    return {c: first.get(c, {}) | second.get(c, {}) for c in {**first, **second}}


def lacks_faithfulness(regions: Regions, explanation: str) -> bool:
    """Whether an explanation has maps, and the faithfulness of none of them is measured."""
    mine = (regions.explanation == explanation) & (regions.status != "none")
    return bool(mine.any() and np.isnan(regions.p_full[mine]).all())


def lacks_blank(regions: Regions, explanation: str) -> bool:
    """Whether ROAD of an explanation's maps is measured, but not the blank images' p: of tables of earlier versions."""
    mine = (regions.explanation == explanation) & (regions.status != "none")
    return bool((~np.isnan(regions.road[mine])).any() and np.isnan(regions.p_blank[mine]).all())


def with_columns(
    regions: Regions, explanation: str, image_ids: Sequence[str], measured: Mapping[int, ByClass]
) -> Regions:
    """The rows with the measured columns of an explanation's maps."""
    row_of: dict[tuple[str, int], int] = {}
    for row in np.flatnonzero(regions.explanation == explanation).tolist():
        row_of[regions.image_id[row], int(regions.label[row])] = row
    columns: dict[str, Any] = {}
    for position, by_class in measured.items():
        for c, values in by_class.items():
            for name, value in values.items():
                if name not in columns:
                    columns[name] = getattr(regions, name).copy()
                columns[name][row_of[image_ids[position], c + 1]] = value
    return Regions(**{**regions.columns(), **columns})

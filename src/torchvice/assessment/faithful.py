"""Faithfulness of the maps of a view, for the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.samples import Regions

if TYPE_CHECKING:
    from torchvice.explain import FaithfulnessChoices
    from torchvice.views import Seen, View

__all__ = ["Found", "faithful_maps", "filled", "lacks"]

# By position of the image and class, the columns of the table.
Found = dict[int, dict[int, dict[str, float]]]


def faithful_maps(
    view: View,
    images: Sequence[np.ndarray],
    seen: Mapping[int, Seen],
    choices: FaithfulnessChoices,
) -> Found:
    """Insertion, deletion and ROAD, as asked, of every map that a view saw, on the pixels that it was shown.

    Args:
        view: what was shown, and to whom.
        images: (H, W, 3) uint8 each.
        seen: by position in `images`; positions without a map are left out.
        choices: what is asked.
    """
    import torch

    from torchvice.explain import Asked, faithfulness

    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position, one in seen.items():
        if one.classes:
            by_size[view.shown_size(images[position])].append(position)
    found: Found = {}
    for (height, width), same in by_size.items():
        # No more pixels at once than a batch of square views.
        some = max(1, view.batch_size * view.side**2 // (height * width))
        for start in range(0, len(same), some):
            part = same[start : start + some]
            batch = torch.stack([view.pixels(images[position]) for position in part]).to(view.device)
            asked, keys = [], []
            for place, position in enumerate(part):
                one = seen[position]
                for row, full in enumerate(torch.from_numpy(one.full((height, width)))):
                    grid = one.maps[row].shape
                    # The maps of a mirror image are mirrored back, the pixels that were shown are not.
                    shown = full.flip(-1) if view.flipped else full
                    asked.append(Asked(place, one.classes[row], shown, (grid[0], grid[1])))
                    keys.append((position, one.classes[row]))
            columns = vars(
                faithfulness(view.explainer.logits, batch, asked, choices, exclusive=view.exclusive, batch_size=some)
            )
            for row, (position, c) in enumerate(keys):
                found.setdefault(position, {})[c] = {name: float(column[row]) for name, column in columns.items()}
    return found


def lacks(regions: Regions, explanation: str) -> bool:
    """Whether the maps of an explanation have not been asked for their faithfulness."""
    mine = (regions.explanation == explanation) & (regions.status != "none")
    return bool(mine.any() and np.isnan(regions.p_full[mine]).all())


def filled(regions: Regions, explanation: str, image_ids: Sequence[str], found: Found) -> Regions:
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

"""Cases: images of the dataset with their maps from the table, ready to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchvice.errors import ViceError, check_kind, did_you_mean
from torchvice.interop import bilinear
from torchvice.metrics.overlap import void_of
from torchvice.samples.placing import box_of, whole_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from torchvice.assessment import Dataset
    from torchvice.measures import Pairs
    from torchvice.report import Case
    from torchvice.samples import Samples

__all__ = ["case_of", "show_case"]

NAMED = 20  # of up to this number of images a message names all


def show_case(
    samples: Samples, dataset: Dataset, image_id: str, label: str | int, *, axes: Axes | None = None
) -> Figure:
    """Draw one image with the map of one label, its mask, and the model's output.

    Args:
        samples: the table; the maps of `strict` are shown.
        dataset: the dataset that it was made from.
        image_id: an image with a mask.
        label: a class's name, or its value in the masks, 1..C.
        axes: matplotlib Axes to draw in the place of.

    Returns:
        matplotlib Figure, see `torchvice.report.case_panel`.

    Raises:
        ViceError: an unknown image or class, a label without a map in this image, or a table without `strict`.
    """
    from torchvice.data.dataset import check_opened
    from torchvice.report.cases import case_panel
    from torchvice.samples import Samples

    check_kind("samples", samples, Samples, "a table", "Read it from its folder: torchvice.Samples.load(FOLDER).")
    check_opened(dataset)
    return case_panel(case_of(samples, dataset, image_id, label), axes=axes)


def case_of(
    samples: Samples,
    dataset: Dataset,
    image_id: str,
    label: str | int,
    *,
    pairs: Pairs | None = None,
    kind: str = "",
) -> Case:
    """A case with its pixels: image and mask from the dataset, the map from the table. Raises as `show_case`.

    Without a mask where the table's objects are boxes.

    Args:
        samples, dataset, image_id, label: as for `show_case`.
        pairs: the table's pairs, if known already.
        kind: what the case is an example of; may be empty.
    """
    from torchvice.measures.pairs import true_pairs
    from torchvice.report.cases import Case

    strict, names = samples.of_protocol("strict"), samples.classes
    value, index = _value_of(label, names), _index_of(dataset, image_id)
    images = strict.images
    if image_id not in images.image_id:
        raise ViceError(
            f"`image_id` must be an image of the table, but is {image_id!r}, which only the dataset has.",
            "Open the split that the table was made of.",
        )
    low, status = _map_of(samples, strict.explanation, image_id, value)
    row = int(np.flatnonzero(images.image_id == image_id)[0])
    picture = dataset.image(index)
    low, view = np.nan_to_num(np.maximum(low, 0)), str(strict.settings.get("view", ""))
    size = (picture.shape[0], picture.shape[1])
    full = bilinear(low[None], size)[0] if box_of(view, size) is None else whole_map(low, view, size, size)
    pairs = true_pairs(samples) if pairs is None else pairs
    here = np.flatnonzero((pairs.image_id == image_id) & (pairs.class_index == value - 1))
    return Case(
        image=picture,
        map=full / full.max() if full.max() > 0 else full,
        mask=None if samples.of_boxes else dataset.mask(index),
        class_name=names[value - 1],
        label=value,
        ji=None if np.isnan(images.ji[row]) else float(images.ji[row]),
        iou=float(pairs.quality[here[0]]) if len(here) else None,
        confidence=float(strict.probabilities[row, value - 1]),
        labels=tuple(names[c] for c in np.flatnonzero(images.targets[row])),
        prediction=tuple(names[c] for c in np.flatnonzero(strict.predicted[row])),
        image_id=image_id,
        status=status,
        kind=kind,
        void=void_of(len(names)),
    )


def _value_of(label: str | int, names: tuple[str, ...]) -> int:
    """The label's value in the masks."""
    if isinstance(label, str):
        if label not in names:
            raise ViceError(f"`label` must be a class of the table, but is {label!r}.", did_you_mean(label, names))
        return names.index(label) + 1
    if not 1 <= label <= len(names):
        raise ViceError(f"`label` must be a class's name or 1 to {len(names)}, but is {label!r}.")
    return int(label)


def _index_of(dataset: Dataset, image_id: str) -> int:
    ids = [record.image_id for record in dataset.records]
    if image_id not in ids:
        raise ViceError(f"`image_id` must be an image of the dataset, but is {image_id!r}.", _near(image_id, ids))
    return ids.index(image_id)


def _near(image_id: str, ids: list[str]) -> str:
    """The closest id, or all of them if they are few: a dataset may have a million."""
    way_out = did_you_mean(image_id, ids)
    few = len(ids) <= NAMED or not way_out.startswith("Known:")
    return way_out if few else f"It has {len(ids)} images, such as {', '.join(ids[:3])}."


def _map_of(samples: Samples, explanation: str, image_id: str, value: int) -> tuple[np.ndarray, str]:
    """The low-resolution map, (h, w), and its status."""
    maps, regions = samples.maps, samples.regions
    mine = (maps.image_id == image_id) & (maps.explanation == explanation)
    rows = np.flatnonzero(mine & (maps.label == value))
    if not len(rows):
        known = ", ".join(samples.classes[v - 1] for v in sorted(maps.label[mine].tolist()))
        way_out = f"It has maps of: {known}." if known else "No maps: images without a mask are not explained."
        raise ViceError(f"`{image_id}` has no map of `{samples.classes[value - 1]}`.", way_out)
    at = (regions.image_id == image_id) & (regions.explanation == explanation) & (regions.label == value)
    return maps.map[rows[0]].astype(np.float32), str(regions.status[np.flatnonzero(at)[0]])

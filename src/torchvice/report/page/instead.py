"""What classes are found by instead of the object: for each group of peaks a strip of crops."""

from __future__ import annotations

import base64
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from torchvice.report.page.pixels import thumbnail

__all__ = ["CROPS", "Crop", "Strip", "strips_of"]

CROPS = 8  # of a group
CROP_SIDE = 0.4  # of the image's shorter side, at least
PATCH_SIDE = 0.125  # of a patch, where the group does not say it
AROUND = 1.6  # patches that fit side by side into a crop, at least
ROOM_OF_CROP = 6_000  # bytes of one crop, before base64
MOST_STRIPS = 40  # with crops; the strips after them show places only

Reader = Callable[[str], tuple[np.ndarray, np.ndarray | None] | None]


@dataclass(frozen=True)
class Crop:
    """A square crop around a peak: `source`, a data address; `box`, left, top, width and height of the patch in it, %;
    `image` id; `link` to its case, empty without a case or if the id cannot stand in an address."""

    source: str
    box: tuple[float, float, float, float]
    image: str
    link: str


@dataclass(frozen=True)
class Strip:
    """A group of peaks: its `sentence`, its `crops`, and `dots`, the places (x, y) of all its peaks, % of the image."""

    sentence: str
    count: int
    crops: tuple[Crop, ...]
    dots: tuple[tuple[float, float], ...]


def strips_of(
    stands_out: Iterable[Mapping[str, Any]],
    reader: Reader | None,
    model: str = "",
    images: Container[str] | None = None,
) -> list[tuple[str, list[Strip]]]:
    """The strips of each class that stands out, in the order of the rows; a class has one entry.

    Args:
        stands_out: rows of the verdict, {class, looks_at}; `looks_at` as `torchvice.measures.looked_at.Group.to_json`
            makes it.
        reader: image id -> image (H, W, 3) uint8 and mask; None: no crops.
        model: name of the model in the links to cases; empty for the first.
        images: ids of the images in the case browser, which crops can link to; None: all.
    """
    groups: dict[str, Sequence[Mapping[str, Any]]] = {}
    for row in stands_out:
        groups[row["class"]] = groups.get(row["class"]) or row["looks_at"]
    strips: dict[str, list[Strip]] = {name: [] for name in groups}
    for place, (name, group) in enumerate((name, group) for name, listed in groups.items() for group in listed):
        strips[name].append(_strip(name, group, reader if place < MOST_STRIPS else None, model, images))
    return list(strips.items())


def _strip(
    name: str, group: Mapping[str, Any], reader: Reader | None, model: str, linked: Container[str] | None
) -> Strip:
    """Crops of at most CROPS images, evenly from the most to the least typical."""
    images, peaks = group["images"], group["peaks"]
    chosen = np.unique(np.linspace(0, len(images) - 1, CROPS).round().astype(int)).tolist() if images else []
    crops = []
    for row in chosen if reader is not None else ():
        content = reader(images[row]) if reader is not None else None
        if content is not None:
            known = linked is None or images[row] in linked
            link = _link(case=images[row], label=name, model=model) if known else ""
            crops.append(_crop(content[0], peaks[row], group.get("side") or PATCH_SIDE, images[row], link))
    dots = tuple((round(100 * x, 1), round(100 * y, 1)) for y, x in peaks)
    return Strip(group["sentence"].replace(" %", "\u00a0%"), len(images), tuple(crops), dots)


def _crop(image: np.ndarray, peak: Sequence[float], patch: float, image_id: str, link: str) -> Crop:
    """The crop around (y, x) in [0, 1], with the patch, a share of each side; at the border it is moved inside."""
    height, width = image.shape[:2]
    side = max(1, min(height, width, round(max(CROP_SIDE, AROUND * patch) * min(height, width))))
    top, patch_top, tall = _span(peak[0], height, side, patch)
    left, patch_left, wide = _span(peak[1], width, side, patch)
    content, kind = thumbnail(np.ascontiguousarray(image[top : top + side, left : left + side]), ROOM_OF_CROP)
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Crop(source, (patch_left, patch_top, wide, tall), image_id, link)


def _span(peak: float, length: int, side: int, share: float) -> tuple[int, float, float]:
    """Along one axis: where the crop begins, pixels; begin and length of the patch in the crop, %."""
    start = min(max(round(peak * length - side / 2), 0), length - side)
    patch = share * length
    first = min(max(peak * length - patch / 2, 0), length - patch)
    return start, round(100 * (first - start) / side, 1), round(100 * patch / side, 1)


def _link(**parts: str) -> str:
    """The address of a case on the page, as its scripts read it."""
    try:
        return "#" + "&".join(f"{name}={quote(text, safe='')}" for name, text in parts.items() if text)
    except UnicodeEncodeError:  # half of a surrogate pair
        return ""

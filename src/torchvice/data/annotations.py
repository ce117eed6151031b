"""Read annotations in VOC's XML: the names of the objects and the boxes around them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from torchvice.errors import ViceError, did_you_mean
from torchvice.files import existing_file

__all__ = ["VocObject", "class_indices", "object_boxes", "read_annotation"]

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """An object of an annotation: `name`; `difficult`; `box` as in the file, or None."""

    name: str
    difficult: bool
    box: tuple[float, float, float, float] | None


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds a tree, and refuses a document type, which is where entities are declared."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type, which an annotation does not need")


def read_annotation(file: str | os.PathLike[str]) -> list[VocObject]:
    """Read the objects of a VOC annotation in their order, `difficult` ones included, parts of objects left out.

    Nothing in the file is expanded or downloaded: a document type, and with it every entity, is refused.

    Raises:
        ViceError: the file is missing or not XML, has a document type, or a box without four numbers.
    """
    file = existing_file(file, "The annotation")
    try:
        root = ElementTree.parse(file, ElementTree.XMLParser(target=_NoDoctype())).getroot()
        return [_object(entry) for entry in root.findall("object")]
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise ViceError(
            f"The annotation {file} must be XML as VOC writes it, but cannot be read: {error}.",
            "Write it again, or remove it.",
        ) from None


def _object(entry: ElementTree.Element) -> VocObject:
    name = (entry.findtext("name") or "").strip()
    place = entry.find("bndbox")
    box = None
    if place is not None:
        texts = [place.findtext(corner) or "nothing" for corner in _CORNERS]
        try:
            left, top, right, bottom = (float(text) for text in texts)
        except ValueError:
            raise ValueError(f"the box of `{name}` has {', '.join(texts)} for {', '.join(_CORNERS)}") from None
        box = left, top, right, bottom
    return VocObject(name, (entry.findtext("difficult") or "0").strip() == "1", box)


def class_indices(objects: Sequence[VocObject], known: Mapping[str, int], file: Path) -> list[int]:
    """Return the class index of every object.

    Raises:
        ViceError: an unknown class name.
    """
    unknown = next((one.name for one in objects if one.name not in known), None)
    if unknown is not None:
        message = f"The annotation {file} must name known classes, but has {unknown!r}."
        raise ViceError(message, did_you_mean(unknown, known))
    return [known[one.name] for one in objects]


def object_boxes(objects: Sequence[VocObject], size: tuple[int, int], file: Path) -> np.ndarray | None:
    """Return the boxes of the objects, (B, 4) float64: left, top, right, bottom, from 0, right and bottom exclusive.

    VOC's corners count pixels from 1 and include the last one; they become xmin - 1, ymin - 1, xmax, ymax.

    Args:
        objects: those of one annotation.
        size: (H, W) of the image as stored.
        file: the annotation, for the message.

    Returns:
        None if no object has a box: the annotation gives class labels only.

    Raises:
        ViceError: only some objects have a box, or a box is empty or exceeds the image.
    """
    lacking = [one.name for one in objects if one.box is None]
    if len(lacking) == len(objects):
        return None
    if lacking:
        raise ViceError(
            f"The annotation {file} must give every object a box, but `{lacking[0]}` has none.",
            "Add xmin, ymin, xmax and ymax in a bndbox, or remove the object.",
        )
    height, width = size
    for one in objects:
        assert one.box is not None
        left, top, right, bottom = one.box
        if not (1 <= left <= right <= width and 1 <= top <= bottom <= height):
            raise ViceError(
                f"The boxes in {file} must lie in the image of {height} x {width} (H x W), but that of `{one.name}` "
                f"is xmin {left:g}, ymin {top:g}, xmax {right:g}, ymax {bottom:g}.",
                "VOC counts pixels from 1 and includes the last one; boxes are drawn before any EXIF rotation.",
            )
    return np.array([one.box for one in objects]) - (1, 1, 0, 0)

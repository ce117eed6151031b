"""The schema of COCO's instances: every name, number and bound is checked before pycocotools sees one of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import PurePosixPath
from typing import IO, Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from torchvice.data.description import is_no_object
from torchvice.data.finder import composed
from torchvice.data.lists import IMAGE_SUFFIXES, is_listed_as_name
from torchvice.errors import ViceError
from torchvice.metrics.overlap import MOST_CLASSES

__all__ = ["check_polygon", "read_instances", "runs_of"]

MOST_BYTES = 200  # of a file name, which gets another suffix for its mask
MOST_PIXELS = 1 << 28
FAR = 1e5  # pixels; pycocotools walks along every edge of a polygon, so that a distant corner takes all memory


def check_polygon(polygon: list[float]) -> list[float]:
    """Return a polygon [x, y, ...] that pycocotools can draw.

    Raises:
        ValueError: fewer than three corners, or a corner that is not finite or far outside any image.
    """
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon needs x and y of three corners or more, but has {len(polygon)} numbers")
    if not all(math.isfinite(value) and abs(value) <= FAR for value in polygon):
        raise ValueError(f"the corners of a polygon must be finite and within {FAR:g} pixels")
    return polygon


def _file_name(name: str) -> str:
    name = name.replace("\\", "/")  # written on Windows
    path = PurePosixPath(name)
    if not _is_line(name) or not path.name:
        raise ValueError("a file name must not be empty nor hold control characters")
    if path.suffix.lower() not in IMAGE_SUFFIXES or len(path.name.encode()) > MOST_BYTES:
        raise ValueError(f"a file name must end in {', '.join(IMAGE_SUFFIXES)} and have {MOST_BYTES} bytes at most")
    if not is_listed_as_name(path.stem):
        raise ValueError(f"a list of images cannot name {path.stem!r}: rename the file")
    return name


def _class_name(name: str) -> str:
    name = name.strip()
    if not _is_line(name):
        raise ValueError("a category's name must not be empty nor hold control characters")
    if is_no_object(name):
        raise ValueError("the background is no category, nor is void: it is what no annotation covers")
    return name


def _is_line(name: str) -> bool:
    return name.splitlines() == [name] and not any(ord(letter) < 32 for letter in name)


Id = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Side = Annotated[int, Field(strict=True, ge=1, le=1 << 16)]
Polygon = Annotated[list[float], AfterValidator(check_polygon)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=True)


class _Category(_Entry):
    id: Id
    name: Annotated[str, AfterValidator(_class_name)]


class _Image(_Entry):
    id: Id
    file_name: Annotated[str, AfterValidator(_file_name)]
    height: Side
    width: Side


class _Rle(_Entry):
    size: tuple[Side, Side]
    counts: list[Annotated[int, Field(strict=True, ge=0, le=MOST_PIXELS)]] | str


class _Annotation(_Entry):
    id: Id | None = None
    image_id: Id
    category_id: Id
    iscrowd: bool = False
    segmentation: Annotated[list[Polygon], Field(min_length=1)] | _Rle


_SECTIONS: dict[str, TypeAdapter[Any]] = {
    "categories": TypeAdapter(list[_Category]),
    "images": TypeAdapter(list[_Image]),
    "annotations": TypeAdapter(list[_Annotation]),
}


def read_instances(file: IO[bytes], name: str) -> dict[str, list[dict[str, Any]]]:
    """Read `images`, `annotations` and `categories` of a JSON file in COCO's format, checked.

    Args:
        file: the JSON text.
        name: of the file, for the messages.

    Returns:
        The three lists, with the fields that masks are drawn from and no others.

    Raises:
        ViceError: not JSON; an entry that lacks a field or has one of another type or out of range; an id or a name
            twice; an annotation of an image or category that is not listed.
    """
    try:
        content = json.load(file)
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8, and integers of thousands of digits
        raise ViceError(
            f"{name} must be JSON, but is not: {error}.", "Export it again; it may have been cut off."
        ) from None
    if not isinstance(content, dict):
        raise ViceError(
            f"{name} must hold a JSON object, but holds a {type(content).__name__}.",
            "Give a file like COCO's instances_val2017.json.",
        )
    for section in ("images", "annotations", "categories"):
        if section not in content:
            raise ViceError(
                f"{name} must have `{section}`, like COCO's instances, but has not.",
                "Give a file like COCO's instances_val2017.json.",
            )
    read = {}
    for section, adapter in _SECTIONS.items():
        try:
            entries = adapter.validate_python(content[section])
        except ValidationError as error:
            raise _refusal(error, name, section, content[section]) from None
        read[section] = [entry.model_dump() for entry in entries]
    _check_references(read, name)
    _refuse_shares(read, name)
    return read


def _refuse_shares(read: dict[str, list[dict[str, Any]]], name: str) -> None:
    """Refuse corners that are shares of the image's sides, as in YOLO's files: they would all lie in one pixel."""
    polygons = [
        polygon
        for annotation in read["annotations"]
        if isinstance(annotation["segmentation"], list)
        for polygon in annotation["segmentation"]
    ]
    if polygons and all(min(polygon) >= 0 and max(polygon) <= 1 for polygon in polygons):
        raise ViceError(
            f"The corners of polygons in {name} must be in pixels, but all of them lie between 0 and 1.",
            "Multiply x by the width of the image, and y by its height.",
        )


def _refusal(error: ValidationError, name: str, section: str, entries: Any) -> ViceError:
    """The first mistake of a section, with the id of its entry."""
    first = error.errors(include_url=False, include_input=False)[0]
    place, *fields = first["loc"] or ("",)
    entry = entries[place] if isinstance(place, int) else None
    known = entry.get("id") if isinstance(entry, dict) else None
    which = f"[{place}]" if isinstance(place, int) else ""
    which += "" if known is None else f" (id {known!r:.40})"
    field = ".".join(str(part) for part in fields if not isinstance(part, str) or part.isidentifier())
    message = first["msg"].removeprefix("Value error, ")
    return ViceError(
        f"{name}: `{section}`{which}{f' `{field}`' if field else ''} is wrong: {message}.", _way_out(field)
    )


def _way_out(field: str) -> str:
    """What a wrong field must be; "" for those whose message says it."""
    if field.startswith("segmentation"):
        return (
            "An object needs polygons, [[x, y, x, y, x, y, ...], ...] in pixels, or an RLE. A box may be drawn as the "
            "polygon of its four corners."
        )
    return "Ids must be integers, without quotation marks." if field.endswith("id") else ""


def _check_references(read: dict[str, list[dict[str, Any]]], name: str) -> None:
    """Ids and names are unique, and what annotations refer to is listed."""
    if not 1 <= len(read["categories"]) <= MOST_CLASSES:
        raise ViceError(
            f"{name} must have 1 to {MOST_CLASSES} categories, but has {len(read['categories'])}.",
            "A mask has 16 bits a pixel: keep the categories that you measure, and remove the others."
            if read["categories"]
            else "List the classes of the annotations in `categories`.",
        )
    stems = [composed(PurePosixPath(image["file_name"]).stem) for image in read["images"]]
    for what, values in (
        ("the category id", [entry["id"] for entry in read["categories"]]),
        ("the category name", [entry["name"] for entry in read["categories"]]),
        ("the image id", [entry["id"] for entry in read["images"]]),
        ("the image name (without folder and suffix)", stems),
    ):
        double = [value for value, count in Counter(values).items() if count > 1]
        if double:
            raise ViceError(
                f"{name} must have {what} {double[0]!r} once, but has it {values.count(double[0])} times.",
                "Remove or rename all but one, and give their annotations the id of the one that stays.",
            )
    for section, field in (("images", "image_id"), ("categories", "category_id")):
        listed = {entry["id"] for entry in read[section]}
        for annotation in read["annotations"]:
            if annotation[field] not in listed:
                raise ViceError(
                    f"{name}: the annotation {annotation['id']} has `{field}` {annotation[field]}, which is not among "
                    f"the {section}.",
                    f"Add its entry to `{section}`, or remove its annotations.",
                )


def runs_of(counts: list[int] | str, pixels: int) -> np.ndarray:
    """Decode the run lengths of an RLE: (R,) int64, background and object in turn, column by column.

    Args:
        counts: COCO's uncompressed list, or its compressed text (LEB128 of 5 bits a character, each from the third on
            as the difference from the one before the last).
        pixels: H x W, which the runs must add up to.

    Raises:
        ViceError: another sum, a negative run, or a text that ends in the middle of a number.

    References:
        rleToString and rleFrString of the COCO API.

    Example:
        >>> runs_of("01202", 8).tolist()
        [0, 1, 2, 1, 4]
    """
    runs: list[int] = list(counts) if isinstance(counts, list) else []
    if isinstance(counts, str):
        value, shift = 0, 0
        for letter in counts:
            digit = ord(letter) - 48
            if not 0 <= digit < 64 or shift > 60:
                raise ViceError(f"A compressed RLE must be COCO's text, but holds {letter!r}.")
            value |= (digit & 31) << shift
            shift += 5
            if not digit & 32:
                if digit & 16:
                    value -= 1 << shift
                runs.append(value + (runs[-2] if len(runs) > 2 else 0))
                value, shift = 0, 0
        if shift:
            raise ViceError("A compressed RLE must be whole, but ends in the middle of a number.")
    if any(run < 0 for run in runs) or sum(runs) != pixels:
        raise ViceError(
            f"The runs of an RLE must be 0 or more and add up to {pixels} pixels, but add up to {sum(runs)}."
        )
    return np.array(runs, dtype=np.int64)

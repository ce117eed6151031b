"""Write COCO 2017 in the layout of VOC 2012, its instances merged into masks of 80 classes."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torchvice.data.archives import Progress, Room, Source, fetch_all, reading, safe_name
from torchvice.data.building import building
from torchvice.data.coco_schema import check_polygon, read_instances, runs_of
from torchvice.data.images import stored_size, voc_palette
from torchvice.data.written import read_written
from torchvice.errors import ViceError, did_you_mean
from torchvice.files import write_json, write_npy_dict, write_text
from torchvice.metrics.overlap import void_of

__all__ = [
    "COCO_SPLITS",
    "CocoSet",
    "annotations_by_image",
    "categories_of",
    "class_mask",
    "coco_sources",
    "label_vector",
    "labels_of",
    "write_class_mask",
    "write_coco",
]

COCO_SPLITS = ("train", "val")


@dataclass(frozen=True)
class CocoSet:
    """The number of classes, of images of each list, and of annotations that are crowds."""

    classes: int
    images: dict[str, int]
    crowds: int


def coco_sources(address: str | None = None, splits: Sequence[str] = COCO_SPLITS) -> dict[str, Source]:
    """Return the archives of COCO 2017 by name, with addresses below `address` if it is given.

    torchvision has neither their addresses nor checksums; a zip has a checksum of each member, which is checked.
    """
    names = {split: f"{split}2017.zip" for split in splits} | {"annotations": "annotations_trainval2017.zip"}
    below = None if address is None else address.rstrip("/")
    return {name: Source(below and f"{below}/{file}", file, None) for name, file in names.items()}


def write_coco(
    root: str | os.PathLike[str],
    archives: str | os.PathLike[str] | None = None,
    *,
    address: str | None = None,
    splits: Sequence[str] = COCO_SPLITS,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> CocoSet:
    """Write COCO 2017 into `root`: JPEGImages/, SegmentationClass/, classes.txt, train.txt, val.txt, cls_labels.npy.

    Label c + 1 of a mask is the category at place c, by ascending id. Crowds are void; where objects overlap, the
    smaller one is on top. An image has the label of every category annotated in it, crowds included. Images without
    objects stay in the lists. The dataset is written completely or not at all; an existing one is left unchanged.

    Args:
        root: the dataset's folder.
        archives: the folder of train2017.zip, val2017.zip and annotations_trainval2017.zip; None: archives/ in `root`.
        address: where missing archives are downloaded from.
        splits: `train`, `val`, or both.
        progress: called in each step with the work so far and its total.
        tell: called with a sentence at the start of each step.

    Raises:
        ViceError: pycocotools is not installed; an archive that is missing, damaged or has another structure; too
            little disk space; a folder that holds something else.

    References:
        Microsoft COCO: Common Objects in Context (2014).
    """
    root = Path(root)
    for split in splits:
        if split not in COCO_SPLITS:
            raise ViceError(
                f"`splits` (--only) must be train or val, but has {split!r}.", did_you_mean(split, COCO_SPLITS)
            )
    if (root / "coco.json").is_file():
        return _existing(root, splits)
    _tools()
    folder = root / "archives" if archives is None else Path(archives)
    say = tell or (lambda sentence: None)
    files = fetch_all(coco_sources(address, splits), folder, root, dict.fromkeys(splits, 1.1), progress, say)
    lists = tuple(f"{split}.txt" for split in splits)
    names = ("JPEGImages", "SegmentationClass", "classes.txt", *lists, "cls_labels.npy", "coco.json")
    with building(root, names) as part:
        for name in names[:2]:
            (part / name).mkdir()
        written = _write_set(part, files, splits, progress, say)
        write_json(part / "coco.json", asdict(written))
    return written


def _existing(root: Path, splits: Sequence[str]) -> CocoSet:
    def lengths(written: CocoSet) -> dict[str, int]:
        lists = {f"{split}.txt": written.images[split] for split in COCO_SPLITS if split in written.images}
        return {"classes.txt": written.classes, **lists}

    existing = read_written(root / "coco.json", CocoSet, lengths)
    if set(existing.images) != set(splits):
        raise ViceError(
            f"{root} already holds COCO's {' and '.join(existing.images)}, not {' and '.join(splits)}.",
            "Give another folder, or remove this one.",
        )
    return existing


def _tools() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise ViceError(
            "COCO's masks need pycocotools, which is not installed.", "pip install 'torchvice[coco]'"
        ) from None
    return mask


def _write_set(
    part: Path, files: Mapping[str, Path], splits: Sequence[str], progress: Progress | None, say: Callable[[str], None]
) -> CocoSet:
    categories: list[tuple[int, str]] = []
    labels: dict[str, np.ndarray] = {}
    images, crowds = {}, 0
    for split in splits:
        say(f"Reading the annotations of {split}2017")
        content = _annotations(files["annotations"], f"annotations/instances_{split}2017.json")
        own = categories_of(content)
        if categories and own != categories:
            raise ViceError(
                f"The categories of {split}2017 in {files['annotations']} must be those of {splits[0]}2017."
            )
        categories = own
        say(f"Writing the images and masks of {split}2017")
        label_of = labels_of(categories)
        vectors = _write_split(part, files[split], content, label_of, progress)
        labels |= vectors
        write_text(part / f"{split}.txt", "".join(f"{name}\n" for name in vectors))
        images[split] = len(vectors)
        crowds += sum(bool(entry.get("iscrowd")) for entry in content["annotations"])
    write_text(part / "classes.txt", "".join(f"{name}\n" for _, name in categories))
    write_npy_dict(part / "cls_labels.npy", labels)
    return CocoSet(len(categories), images, crowds)


def categories_of(content: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return the id and name of every category, by ascending id."""
    return sorted((int(entry["id"]), str(entry["name"])) for entry in content["categories"])


def labels_of(categories: Sequence[tuple[int, str]]) -> dict[int, int]:
    """Return the mask value of each category id: c + 1 at place c."""
    return {category: place + 1 for place, (category, _) in enumerate(categories)}


def annotations_by_image(content: Mapping[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """Return the annotations of every image id that has some."""
    by_image: dict[int, list[dict[str, Any]]] = {}
    for entry in content["annotations"]:
        by_image.setdefault(entry["image_id"], []).append(entry)
    return by_image


def label_vector(annotations: Sequence[Mapping[str, Any]], label_of: Mapping[int, int]) -> np.ndarray:
    """Return (C,) float32, 1 for the class of every annotation, crowds included."""
    vector = np.zeros(len(label_of), dtype=np.float32)
    vector[[label_of[found["category_id"]] - 1 for found in annotations]] = 1
    return vector


def check_listed_sizes(file: str, images: Sequence[tuple[Mapping[str, Any], tuple[int, int]]]) -> None:
    """Check that images have the size that their annotations state.

    Args:
        file: what holds the annotations, for the message.
        images: the entry of each image, and the size (H, W) that it has.

    Raises:
        ViceError: an image of another size.
    """
    wrong = [(entry, size) for entry, size in images if (entry["height"], entry["width"]) != size]
    if wrong:
        entry, (height, width) = wrong[0]
        raise ViceError(
            f"{file} must state the size of every image, but gives {entry['file_name']} as {entry['width']} x "
            f"{entry['height']} (width x height), and the image has {width} x {height}"
            f"{f'; {len(wrong)} of {len(images)} images differ' if len(images) > 1 else ''}.",
            "Give the images that were annotated, or scale the annotations. Pixels count as they are stored, before any"
            " EXIF rotation.",
        )


def write_class_mask(
    path: Path, annotations: Sequence[Mapping[str, Any]], size: tuple[int, int], label_of: Mapping[int, int]
) -> None:
    """Write the mask of an image, see `class_mask`, as a palette PNG, or as a grey one of 16 bits."""
    picture = Image.fromarray(class_mask(annotations, size, label_of))
    if picture.mode == "L":
        picture.putpalette(voc_palette())
    picture.save(path)


def _annotations(archive: Path, member: str) -> dict[str, Any]:
    with reading(archive), zipfile.ZipFile(archive) as opened:
        if member not in opened.namelist():
            raise ViceError(f"The archive {archive} must hold {member}, but does not.")
        with opened.open(Room(archive).take(opened.getinfo(member))) as file:
            return read_instances(file, f"{member} in {archive}")


def _write_split(
    part: Path,
    archive: Path,
    content: Mapping[str, Any],
    label_of: Mapping[int, int],
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """Write images and masks of a split; return its labels, {image id: (C,) float32} in the order of the ids."""
    by_image = annotations_by_image(content)
    vectors: dict[str, np.ndarray] = {}
    entries = sorted(content["images"], key=lambda entry: entry["id"])
    with reading(archive), zipfile.ZipFile(archive) as opened:
        members, room = _members(opened, archive), Room(archive)
        for entry in entries:
            member = _member(members, entry["file_name"], archive)
            name = Path(entry["file_name"]).name
            image, stem = part / "JPEGImages" / name, Path(name).stem
            with opened.open(room.take(member)) as source, image.open("wb") as file:
                shutil.copyfileobj(source, file)
            own, size = by_image.get(entry["id"], []), (entry["height"], entry["width"])
            drawn = part / "SegmentationClass" / f"{stem}.png"
            check_listed_sizes(f"The annotations of {archive.name}", [(entry, stored_size(image))])
            write_class_mask(drawn, own, size, label_of)
            vectors[stem] = label_vector(own, label_of)
            if progress:
                progress(len(vectors), len(entries))
    return vectors


def _members(opened: zipfile.ZipFile, archive: Path) -> dict[str, list[zipfile.ZipInfo]]:
    """The files of an archive by their name without folder."""
    members: dict[str, list[zipfile.ZipInfo]] = {}
    for info in opened.infolist():
        if not info.is_dir():
            members.setdefault(safe_name(info.filename, archive).name, []).append(info)
    return members


def _member(members: Mapping[str, list[zipfile.ZipInfo]], file_name: str, archive: Path) -> zipfile.ZipInfo:
    """The file of an image; of several in different folders, the one whose path ends with `file_name`."""
    named = members.get(Path(file_name).name, [])
    if len(named) > 1:
        named = [info for info in named if f"/{info.filename}".endswith(f"/{file_name}")]
    if len(named) != 1:
        which = "has several" if named else "does not"
        raise ViceError(f"The archive {archive} must hold {file_name}, which is in the annotations, but {which}.")
    return named[0]


def class_mask(
    annotations: Sequence[Mapping[str, Any]], size: tuple[int, int], label_of: Mapping[int, int]
) -> np.ndarray:
    """Draw the instances of an image into one mask: first crowds as void, then objects, large before small.

    Args:
        annotations: each with `segmentation` (polygons, or RLE, compressed or not), `category_id`, `iscrowd`.
        size: (H, W).
        label_of: the mask's value for each category id.

    Returns:
        (H, W) uint8: 0 background, 255 void; uint16 with 65535 as void for more than 254 categories.

    Raises:
        ViceError: an unknown category, or a segmentation that cannot be read.

    Example:
        >>> square = {"segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]], "category_id": 9, "iscrowd": 0, "id": 1}
        >>> class_mask([square], (2, 3), {9: 1}).tolist()
        [[1, 1, 0], [1, 1, 0]]
    """
    tools = _tools()
    void = void_of(len(label_of))
    mask = np.zeros(size, dtype=np.min_scalar_type(void))
    layers = []
    for entry in annotations:
        if entry["category_id"] not in label_of:
            raise ViceError(f"The annotation {entry.get('id')} has a category that is not listed: "
                            f"{entry['category_id']}.")  # fmt: skip
        region = _region(tools, entry, size)
        crowd = bool(entry.get("iscrowd"))
        layers.append((not crowd, -int(region.sum()), region, void if crowd else label_of[entry["category_id"]]))
    for *_, region, label in sorted(layers, key=lambda layer: layer[:2]):
        mask[region] = label
    return mask


def _region(tools: Any, entry: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Decode an instance to (H, W) bool; pycocotools draws polygons only, after their corners are checked."""
    shape = entry["segmentation"]
    try:
        if not isinstance(shape, list):
            if tuple(shape["size"]) != size:
                raise ValueError(f"its size is {shape['size']}")
            runs = runs_of(shape["counts"], size[0] * size[1])
            return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")
        if not shape:
            raise ValueError("it has no polygon")
        polygons = [check_polygon(polygon) for polygon in shape]
        return np.asarray(tools.decode(tools.merge(tools.frPyObjects(polygons, *size))), dtype=bool)
    except (ValueError, TypeError, KeyError) as error:
        reason = error.message.rstrip(".") if isinstance(error, ViceError) else error
        raise ViceError(
            f"The annotation {entry.get('id')} must be polygons or RLE in an image of {size[0]} x {size[1]} (H x W): "
            f"{reason}."
        ) from None

"""Maps of other tools on disk: found for every image of a dataset, read, and surveyed before they are counted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.assessment.region import image_of, region_of
from torchvice.data.dataset import Dataset
from torchvice.data.finder import Finder, composed, existing, existing_folder
from torchvice.data.images import DAMAGE, MANY, stored_size
from torchvice.data.pairing import files_below
from torchvice.errors import ViceError
from torchvice.files import sha256
from torchvice.interop import read_maps

__all__ = ["ForeignMaps", "Survey"]

SUFFIXES = (".npz", ".npy", ".png")
ROUNDING = 1e-6  # above 1 and below 0
FORMS = (
    "Save ID.npz or ID.npy with `keys` and `maps`, or np.save of {class: map}; or one map a file in a folder of its "
    "class, CLASS/ID.npy or .png."
)


@dataclass(frozen=True)
class Survey:
    """What the files of maps hold; each is the ids of the images that it concerns.

    Attributes:
        resized: a map has another size than its image.
        negative: a value is below 0; it counts as 0.
        not_finite: a map holds NaN or an infinite value; it counts as a miss.
        above_one: a value is above 1; `largest` is the largest of all.
        surplus: maps of classes that the image does not have; they are left out.
        digest: SHA-256 of the files, in the order of the dataset.
        unknown: names of files that belong to no image of the dataset.
    """

    resized: tuple[str, ...]
    negative: tuple[str, ...]
    not_finite: tuple[str, ...]
    above_one: tuple[str, ...]
    surplus: tuple[str, ...]
    largest: float
    digest: str
    unknown: tuple[str, ...]

    def to_dict(self) -> dict[str, int]:
        """The number of images of each kind, for a manifest."""
        names = ("resized", "negative", "not_finite", "above_one", "surplus", "unknown")
        return {name: len(getattr(self, name)) for name in names}


class ForeignMaps:
    """The maps of a folder, one file an image or one an image and class.

    Args:
        folder: ID.npz or ID.npy as `torchvice.interop.read_maps` takes them; an array (C, h, w) of all classes; or, for
            images of one label, an array (h, w) or a grey PNG. Images in sub-folders have their files in the same ones.
            Or folders called like the classes with such single maps, CLASS/ID.npy or CLASS/ID.png.
        dataset: see `Dataset`. Its true classes need a map where the image has a mask or boxes.

    Raises:
        ViceError: no such folder, several files of an image, or images with labels that have no file.
    """

    def __init__(self, folder: str | os.PathLike[str], dataset: Dataset) -> None:
        self.folder, self.dataset = Path(folder), dataset
        if not self.folder.is_dir():
            raise ViceError(
                f"The folder of the maps must exist, but {self.folder} does not.",
                "Give the folder that the other tool wrote: --maps DIR.",
            )
        self.targets = np.asarray(dataset.targets) > 0
        inside = self._in_sub_folders()
        own = {} if inside else self._of_classes()
        top = Finder(self.folder, SUFFIXES)
        if own and top.files:
            name, first = next(iter(top.files.values()))[0], next(iter(own))
            raise ViceError(
                f"{self.folder} must hold files of images or folders of classes, but holds both: {name} and {first}/.",
                "Move those of one kind to another folder.",
            )
        self.by_class = bool(own)
        folders = {None: top} if not own else {name: Finder(place, SUFFIXES) for name, place in own.items()}
        self._places = [self._located(index, folders) for index in range(len(dataset.records))]
        self._check_missing(folders)
        known = {composed(str(record.image_id)) for record in dataset.records}
        names = [file for found in folders.values() for stem, files in found.files.items() for file in files]
        names += inside
        self.unknown = tuple(sorted({name for name in names if composed(os.path.splitext(name)[0]) not in known}))

    def _in_sub_folders(self) -> list[str]:
        """The files of a folder that has the sub-folders of the images: cat/1.npy for the image cat/1; else none.

        Raises:
            ViceError: the files of the image cat/1 may be cat/1.npy and, in a folder of its class, cat/cat/1.npy.
        """
        ids = [str(record.image_id) for record in self.dataset.records if "/" in str(record.image_id)]
        own = next((file for name in ids for file in self._files(self.folder, name)), None)
        if own is None:
            return []
        classes = self._of_classes().values()
        of_class = next((file for name in ids for folder in classes for file in self._files(folder, name)), None)
        if of_class is not None:
            raise ViceError(
                f"{self.folder} must hold files of images or folders of classes, but holds both: {own} and {of_class}.",
                "Move those of one kind to another folder.",
            )
        found = files_below(self.folder, SUFFIXES)
        return [path.relative_to(self.folder).as_posix() for paths in found.values() for path in paths]

    def _of_classes(self) -> dict[str, Path]:
        """The folders that are called like classes."""
        places = {name: existing_folder(self.folder / name) for name in self.dataset.classes}
        return {name: place for name, place in places.items() if place is not None}

    @staticmethod
    def _files(folder: Path, image_id: str) -> list[Path]:
        return [path for suffix in SUFFIXES for path in existing(folder / f"{image_id}{suffix}")]

    def _located(self, index: int, folders: dict[Any, Finder]) -> dict[str | None, Path]:
        """The files of an image: {None: file of all classes} or {class: file}."""
        found: dict[str | None, Path] = {}
        image_id = str(self.dataset.records[index].image_id)
        for name, finder in folders.items():
            files = {path.name: path for path in (*finder.all(image_id), *self._files(finder.folder, image_id))}
            if len(files) > 1:
                raise ViceError(
                    f"An image must have one file of maps, but `{image_id}` has {' and '.join(sorted(files))} in "
                    f"{finder.folder}.",
                    "Move those of one kind to another folder.",
                )
            if files:
                found[name] = next(iter(files.values()))
        return found

    def _check_missing(self, folders: dict[Any, Finder]) -> None:
        ids = [str(record.image_id) for record in self.dataset.records]
        without = [i for i, places in enumerate(self._places) if not places]
        if missing := [ids[i] for i in without if self.targets[i].any() and self._counted(i)]:
            below = (path for paths in files_below(self.folder, SUFFIXES).values() for path in paths)
            held = next((path.relative_to(self.folder) for path in below), None)
            holds = f"the folder holds files such as {held}" if held else "the folder holds no .npz, .npy or .png"
            raise ViceError(
                f"{len(missing)} of {len(ids)} images have no maps in {self.folder}, such as `{missing[0]}`; {holds}.",
                "Files are called like the image without its suffix; to assess a part of the images: --split FILE, a "
                "list, or --images DIR, a folder of them.",
            )

    def _counted(self, index: int) -> bool:
        """Whether maps of the image are counted: it has a mask, which its record may name, or boxes."""
        record = self.dataset.records[index]
        if getattr(self.dataset, "regions", "masks") != "boxes" and hasattr(record, "mask"):
            return record.mask is not None
        return region_of(self.dataset, index) is not None

    def read(self, index: int, size: tuple[int, int] | None = None) -> dict[int, np.ndarray]:
        """Read the maps of an image: {true class: (h, w) float32}; empty without labels or a file.

        Args:
            index: of the image.
            size: (H, W) of the image; None: it is read.

        Raises:
            ViceError: a damaged file, classes that do not exist, a true class without a map, a label map or a coloured
                picture, or a map that is transposed.
        """
        return self._kept(index, self._all(index), size)

    def _all(self, index: int) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        true = np.flatnonzero(self.targets[index]).tolist()
        for name, path in self._places[index].items():
            single = self._single(path, len(true))
            if name is not None and single is not None and single.ndim == 2:
                found[self.dataset.classes.index(name)] = single
            elif name is not None:
                raise ViceError(f"{path}, in the folder of a class, must be one map (h, w).", FORMS)
            elif single is None:
                classes, planes = read_maps(path)
                found = {int(c): np.asarray(plane, np.float32) for c, plane in zip(classes, planes, strict=True)}
            elif single.ndim == 3 and len(single) == len(self.dataset.classes):
                found = dict(enumerate(single))
            elif single.ndim == 2 and len(true) <= 1:
                found = dict.fromkeys(true, single)
            else:
                many = f"the image has {len(true)} labels" if single.ndim == 2 else f"has shape {single.shape}"
                raise ViceError(f"{path} must say which class each map is of, but is one array, and {many}.", FORMS)
        if wrong := [c for c in found if not 0 <= c < len(self.dataset.classes)]:
            raise ViceError(
                f"The maps in {next(iter(self._places[index].values()))} must be of classes 0 to "
                f"{len(self.dataset.classes) - 1}, but one is of {wrong[0]}.",
                "Number the classes from 0, without background: class c is label c + 1 of the masks.",
            )
        return found

    def _single(self, path: Path, true: int) -> np.ndarray | None:
        """An array without classes, from PNG or a plain .npy; None for a file that names its classes."""
        if path.suffix.lower() == ".png":
            return self._grey(path, true)
        if path.suffix.lower() != ".npy":
            return None
        try:
            with open(path, "rb") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                kind = read(file)[2].kind
            if kind == "O":
                return None
            return np.asarray(np.load(path, allow_pickle=False), np.float32)
        except Exception as error:  # a damaged header may raise anything: numpy reads it as Python's literals
            raise ViceError(
                f"The file of maps {path} must be an .npy of numbers, but cannot be read: {error}.",
                "Write it again as numbers: numpy.save(file, map.astype('float32')).",
            ) from None

    def _grey(self, path: Path, true: int) -> np.ndarray:
        """The map of a grey PNG, in [0, 1]; `true` is the number of labels of its image."""
        from PIL import Image

        try:
            with Image.open(path, formats=("PNG",)) as picture:
                mode, values = picture.mode, np.array(picture)
        except DAMAGE as error:
            raise ViceError(
                f"The map {path} must be a PNG, but cannot be read: {error}.", "Write it again as a PNG, or as an .npy."
            ) from None
        if mode not in ("L", "I", "I;16", "I;16B"):
            held = "label map" if mode == "P" else f"{mode} picture"
            raise ViceError(
                f"The map {path} must be a grey PNG of 8 or 16 bits, but is a {held}.",
                "Save the values of the map. Label maps: vice evaluate --type png.",
            )
        labels = set(np.unique(values).tolist()) - {0, 255}
        # With 254 classes and more, all greys of 8 bits may be labels: there are few of them in one image.
        if labels and max(labels) <= len(self.dataset.classes) and len(labels) <= MANY + true:
            raise ViceError(
                f"The map {path} must hold grey values, but holds only the labels {sorted(labels)[:3]}.",
                "Scale it to 0 to 255, or save it divided by 255 as .npy. Label maps: vice evaluate --type png.",
            )
        return values.astype(np.float32) / (255 if values.dtype == np.uint8 else 65535)

    def _kept(self, index: int, found: dict[int, np.ndarray], size: tuple[int, int] | None) -> dict[int, np.ndarray]:
        """The maps of the true classes, each there and not transposed."""
        true = np.flatnonzero(self.targets[index]).tolist()
        image_id = self.dataset.records[index].image_id
        if found and (lacking := [c for c in true if c not in found]):
            raise ViceError(
                f"The maps of `{image_id}` must hold every class of the image, but lack "
                f"`{self.dataset.classes[lacking[0]]}`.",
                "Save a map of zeros where a method finds nothing.",
            )
        height, width = size or self.size(index)
        for c in (c for c in true if c in found):
            if found[c].shape == (width, height) != (height, width):
                raise ViceError(
                    f"The maps of `{image_id}` must be (h, w) of its {height} x {width} pixels (H x W), but are "
                    f"{width} x {height}: they look transposed.",
                    "Save map.T.",
                )
        return {c: found[c] for c in true if c in found}

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image, from the header of its file where its record names one."""
        file = getattr(self.dataset.records[index], "image", None)
        if isinstance(file, Path):
            return stored_size(file)
        shape = image_of(self.dataset, index).shape
        return int(shape[0]), int(shape[1])

    def survey(self, workers: int) -> Survey:
        """Read every file once, before the first is counted.

        Raises:
            ViceError: as `read`; of several wrong images the first, with their number.
        """
        lists: dict[str, list[str]] = {name: [] for name in ("resized", "negative", "not_finite", "above_one")}
        surplus, largest, digest = list[str](), 0.0, hashlib.sha256()
        errors: list[ViceError] = []
        for index, seen in enumerate(self._seen(workers)):
            if isinstance(seen, ViceError):
                errors.append(seen)
                continue
            image_id = str(self.dataset.records[index].image_id)
            digest.update(f"{index} {seen['digest']}".encode())
            for name, ids in lists.items():
                ids += [image_id] if seen[name] else []
            surplus += [image_id] if seen["surplus"] else []
            largest = max(largest, seen["largest"])
        if errors:
            more = f" {len(errors)} images in all have such maps." if len(errors) > 1 else ""
            raise ViceError(f"{errors[0].message}{more}", errors[0].way_out)
        kinds = {name: tuple(ids) for name, ids in lists.items()}
        return Survey(**kinds, surplus=tuple(surplus), largest=largest, digest=digest.hexdigest(), unknown=self.unknown)

    def _seen(self, workers: int) -> Iterator[dict[str, Any] | ViceError]:
        with ThreadPoolExecutor(max(1, workers)) as pool:
            yield from pool.map(self._look, range(len(self.dataset.records)))

    def _look(self, index: int) -> dict[str, Any] | ViceError:
        """What the files of one image hold, or why they cannot be used."""
        try:
            found, size = self._all(index), self.size(index)
            planes = list(self._kept(index, found, size).values())
        except ViceError as error:
            return error
        return {
            "digest": " ".join(sha256(path) for path in self._places[index].values()),
            "resized": any(plane.shape != size for plane in planes),
            "negative": any((plane < -ROUNDING).any() for plane in planes),
            "not_finite": any(not np.isfinite(plane).all() for plane in planes),
            "above_one": any((plane > 1 + ROUNDING).any() for plane in planes),
            "surplus": len(found) > len(planes),
            "largest": max((_largest(plane) for plane in planes), default=0.0),
        }


def _largest(plane: np.ndarray) -> float:
    return float(plane[np.isfinite(plane)].max(initial=0.0))

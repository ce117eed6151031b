"""A folder of images with a JSON file of COCO's instances: masks are drawn from polygons and RLE when it is opened."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from torchvice.data.bare_folder import BareFolder
from torchvice.data.coco import (
    annotations_by_image,
    categories_of,
    check_listed_sizes,
    label_vector,
    labels_of,
    write_class_mask,
)
from torchvice.data.coco_schema import read_instances
from torchvice.data.finder import composed, existing
from torchvice.data.images import stored_size
from torchvice.data.layout import Located, Record
from torchvice.data.lists import ListLine
from torchvice.data.pairing import counted, files_below, named
from torchvice.errors import ViceError
from torchvice.files import existing_file

__all__ = ["CocoFolder"]


class CocoFolder(BareFolder):
    """The images that a COCO file lists, with its labels; their masks are drawn into a temporary folder.

    Overlaps, crowds and labels are those of `vice data coco`, see `write_coco`. The temporary folder is removed with
    this object.

    Args:
        root: the folder of the images.
        file: the JSON file.
        classes: the names of its categories, by ascending id; None: these names.

    Raises:
        ViceError: see `read_instances`; other `classes`; an annotation that cannot be drawn.
    """

    def __init__(self, root: Path, file: Path, classes: Sequence[str] | None = None) -> None:
        super().__init__(root, [])
        self.file = existing_file(file, "The COCO file")
        self.chosen["coco"] = str(file)
        with self.file.open("rb") as opened:
            self._content = read_instances(opened, str(self.file))
        categories = categories_of(self._content)
        self._label_of = labels_of(categories)
        self.classes = tuple(name for _, name in categories)
        if classes is not None and tuple(classes) != self.classes:
            raise ViceError(
                f"The classes must be the categories of {file} by ascending id, but are {', '.join(classes)}.",
                "Leave them out: the file has them.",
            )
        self._annotations = annotations_by_image(self._content)
        self._entries = {Path(entry["file_name"]).stem: entry for entry in self._content["images"]}
        self._entries = dict(sorted(self._entries.items()))
        self.files = {name: found[0] for name, entry in self._entries.items() if (found := self._image(entry))}
        self._folder = tempfile.TemporaryDirectory(prefix="torchvice-")
        self._drawn = Path(self._folder.name) / self.file.name
        self._drawn.mkdir()

    def _image(self, entry: dict[str, object]) -> list[Path]:
        inside = Path(str(entry["file_name"]))
        return existing(self.root / inside) or existing(self.root / inside.name)

    def list_file(self, split: str | os.PathLike[str]) -> Path:
        """Return the COCO file, in the place of a list."""
        super().list_file(split)
        return self.file

    def notes(self, split: str | os.PathLike[str]) -> tuple[str, ...]:
        """Sentences on the drawn masks, and on images that the file does not list."""
        listed = {composed(file.stem) for file in self.files.values()}
        found = files_below(self.root, [".jpg", ".jpeg", ".png"])
        others = [name for name in found if Path(name).name not in listed and composed(Path(name).name) not in listed]
        drawn = f"Masks are drawn from {self.file} into a temporary folder: crowds are void, small objects are on top."
        left_out = f"{counted(others, 'image is', 'images are')} not in {self.file} and left out: {named(others)}."
        return (drawn, left_out) if others else (drawn,)

    def lines(self, split: str | os.PathLike[str]) -> list[ListLine]:
        """Return the images that the file lists, sorted by name."""
        return [ListLine(name, entry["file_name"]) for name, entry in self._entries.items()]

    def expected_image(self, line: ListLine) -> str:
        """Return where the image of a line should be."""
        return str(self.root / str(line.image))

    def located(self, lines: Sequence[ListLine], masks: str | None = None) -> Located:
        """Return the images that exist, and draw the masks that are not drawn yet.

        Raises:
            ViceError: images of another size than the file states.
        """
        masks_of = {
            line.image_id: self._drawn / f"{line.image_id}.png" for line in lines if line.image_id in self.files
        }
        self._draw({name: path for name, path in masks_of.items() if not path.is_file()})
        records = [Record(name, self.files[name], path) for name, path in masks_of.items()]
        return Located(records, [line for line in lines if line.image_id not in self.files], self.file.name)

    def no_class(self, split: str) -> ViceError:
        """The error of a file without an object in its images."""
        crowds = any(entry["iscrowd"] for entry in self._content["annotations"])
        return ViceError(
            f"{self.file} must have objects in the images of {self.root}, but has "
            f"{'only crowds, which are void' if crowds else 'no annotations of them'}.",
            "Give `iscrowd` 0 to objects." if crowds else "Give a file with the annotations of these images.",
        )

    def _draw(self, masks: Mapping[str, Path]) -> None:
        """Write the masks of images, by name, after a look at the sizes of all."""
        sizes = []
        for name in masks:
            with contextlib.suppress(ViceError):  # a damaged image is reported with all others, where images are read
                sizes.append((self._entries[name], stored_size(self.files[name])))
        check_listed_sizes(str(self.file), sizes)
        for name, path in masks.items():
            entry = self._entries[name]
            own = self._annotations.get(entry["id"], [])
            write_class_mask(path, own, (entry["height"], entry["width"]), self._label_of)

    def targets(self, source: str, records: Sequence[Record], masks: str) -> tuple[np.ndarray, str]:
        """Return the classes of every image's annotations, crowds included.

        Raises:
            ViceError: another source is asked for.
        """
        if source != "auto":
            raise ViceError(f"The labels of {self.root} are those of {self.file}, but `labels` is {source!r}.")
        own = [self._annotations.get(self._entries[record.image_id]["id"], []) for record in records]
        return np.array([label_vector(found, self._label_of) for found in own]).astype(np.uint8), str(self.file)

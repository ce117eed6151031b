"""Find the files of a dataset in the layout of VOC 2012: lists, images, masks and annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import numpy as np

from torchvice.data.description import FILE, Description, read_description
from torchvice.data.finder import Finder, composed, existing, existing_files, first_other
from torchvice.data.images import no_class, read_mask
from torchvice.data.labels import targets_from
from torchvice.data.lists import CLASS_FILES, IMAGE_SUFFIXES, VOC_CLASSES, ListLine, class_names, list_lines, names_in
from torchvice.data.mask_values import forms_of, found_values, spread
from torchvice.data.pairing import named
from torchvice.data.unread import other_files
from torchvice.errors import ViceError, as_path, did_you_mean
from torchvice.metrics.overlap import MOST_CLASSES

__all__ = ["LAYOUT", "Layout", "Located", "NoList", "NoLists", "Record", "mask_source", "place_of", "split_of_setting"]

MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")
NOT_LISTS = ("classes", "readme", "license", ".")  # text files that are often next to lists; hidden files
LAYOUT = (
    "Give the folder that holds VOC2012/JPEGImages (or the VOC2012 folder itself), with the lists next to it "
    "or in VOC2012/ImageSets/Segmentation."
)
WITHOUT_LISTS = "Images without lists: --images DIR --masks DIR."
EXAMPLE = "To try torchvice without a dataset: vice data digits --out data/digits."


OF_TRAINING = (
    "Training needs, in data.root, a list of each split, such as train.txt next to VOC2012 with one name per line; or "
    "a folder of each split with one sub-folder for each class, such as train/cat/a.jpg. Name the splits: "
    "-o data.train_split=NAME -o data.selection_split=NAME -o data.eval_split=NAME."
)


class NoList(ViceError):
    """A split that names no list of the dataset."""


class NoLists(NoList):
    """A split of a dataset that has no lists at all."""


@contextmanager
def split_of_setting(name: str) -> Iterator[None]:
    """Within it, a split that is no list is an error that names the setting `name` and the way to give it."""
    try:
        yield
    except NoLists as error:
        message = error.message.replace("`split`", f"`{name}`", 1)
        raise NoList(message, OF_TRAINING) from None
    except NoList as error:
        message = error.message.replace("`split`", f"`{name}`", 1)
        raise NoList(message, f"{error.way_out} Give -o {name}=NAME.") from None


@dataclass(frozen=True)
class Record:
    """One image of a split: its id (the file name without suffix), its image, and its mask or None."""

    image_id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Located:
    """The files of a list.

    Attributes:
        records: the lines whose image exists.
        missing: the other lines.
        mask_source: a text on where the masks are.
        masks_missing: sentences on masks that the list names and that do not exist.
        notes: sentences on what was chosen among several files.
        left_out: the ids of images without a record, because they have neither a mask nor labels.
    """

    records: list[Record]
    missing: list[ListLine]
    mask_source: str
    masks_missing: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class Layout:
    """The folder of a dataset and the places of its parts.

    Args:
        root: see `VocDataset`.
        classes: see `VocDataset`.

    Attributes:
        root: as given, a Path.
        base: the folder that holds the images' folder.
        homes: the folders where lists, classes.txt and cls_labels.npy may be.
        classes: (C,) names.
        images, annotations: folders; they may be missing.
        masks: the names of the folders of masks in `base`, in the order of precedence.
        described: the content of dataset.yaml, or None.
        exclusive: whether the layout itself gives every image exactly one label.
        chosen: further arguments that open the same dataset; a table's manifest keeps them.

    Raises:
        ViceError: the folder is missing, or class names or dataset.yaml are wrong.
    """

    exclusive = False

    def __init__(self, root: str | os.PathLike[str], classes: Sequence[str] | None = None) -> None:
        self.chosen: dict[str, str] = {}
        self.root = as_path("root", root)
        if not self.root.is_dir():
            is_not = "is not" if self.root.exists() else "is not there"
            inside = self.root.name in (FILE, "classes.txt") and self.root.exists()
            way_out = f"Give its folder: {self.root.parent}." if inside else f"{LAYOUT} {EXAMPLE}"
            raise ViceError(f"The dataset must be a folder, but {self.root} {is_not}.", way_out)
        self.described = read_description(self.root)
        self.base = _voc_folder(self.root) if self.described is None else self.root
        self.homes = _homes(self.root, self.base)
        self.images, self.annotations = self.base / "JPEGImages", self.base / "Annotations"
        self.masks: tuple[str, ...] = MASK_FOLDERS
        if self.described is None:
            self.classes = class_names(classes, self.homes)
            return
        self.classes = _described_names(classes, self.described)
        self.images = self.described.images or self.images
        self.annotations = self.described.boxes or self.annotations
        if self.described.masks:
            self.masks = (str(self.described.masks.relative_to(self.root)),)

    @property
    def _list_folders(self) -> list[Path]:
        return [*self.homes, self.base / "ImageSets" / "Segmentation"]

    @property
    def label_file(self) -> Path | None:
        """The path of cls_labels.npy, or None."""
        return next(iter(existing_files(home / "cls_labels.npy" for home in self.homes)), None)

    def list_file(self, split: str | os.PathLike[str]) -> Path:
        """Find the list of a split by its name or path.

        Raises:
            ViceError: the list is missing.
        """
        declared = {} if self.described is None else self.described.splits
        if str(split).removesuffix(".txt") in declared:
            return declared[str(split).removesuffix(".txt")]
        folders, files = self._list_folders, self._lists(split)
        if files:
            return files[0]
        known, where = self.splits(), " or ".join(map(str, folders))
        if not known:
            raise NoLists(
                f"`split` must name a list in {where}, but no list of images is there.", f"{LAYOUT} {WITHOUT_LISTS}"
            )
        raise NoList(f"`split` must name a list in {where}, but is {str(split)!r}.", did_you_mean(str(split), known))

    def lines(self, split: str | os.PathLike[str]) -> list[ListLine]:
        """Read the images of a split, see `list_lines`."""
        return list_lines(self.list_file(split))

    def targets(self, source: str, records: Sequence[Record], masks: str) -> tuple[np.ndarray, str]:
        """Read the class labels of a split's records, see `torchvice.data.labels.targets_from`."""
        return targets_from(
            source,
            records,
            self.classes,
            npy=self.label_file,
            annotations=self.annotations,
            masks=masks,
            read_mask=self.read_mask,
        )

    def label_notes(self, source: str) -> tuple[str, ...]:
        """A sentence on a file of labels that names none of the images; `source` is where labels are read from."""
        unused = self.label_file is not None and "cls_labels.npy" not in source
        return (f"{self.label_file} is not used: it has labels of none of these images.",) * unused

    def no_class(self, split: str) -> ViceError:
        """The error of a split whose masks hold no class."""
        return no_class(split, self.classes)

    def _lists(self, split: str | os.PathLike[str]) -> list[Path]:
        tried = [folder / name for folder in self._list_folders for name in (f"{split}.txt", str(split))]
        return existing_files(dict.fromkeys((*tried, Path(split))))

    def notes(self, split: str | os.PathLike[str]) -> tuple[str, ...]:
        """Sentences on lists, files of labels and files of classes that differ: which one is read."""
        declared = self.described is not None and str(split).removesuffix(".txt") in self.described.splits
        lists = [] if declared else self._lists(split)
        named = existing_files(home / "classes.txt" for home in self.homes) if self.described else []
        others = [file for file in named if names_in(file) != list(self.classes)]
        return tuple(
            f"There are several {what}: read is {files[0]}, not {other}."
            for what, files in (
                (f"lists of {self.split_name(split)}", lists),
                ("files of labels", existing_files(home / "cls_labels.npy" for home in self.homes)),
                ("files of classes", [self.described.file, *others] if self.described else []),
            )
            if (other := first_other(files))
        )

    def split_name(self, split: str | os.PathLike[str]) -> str:
        """Return the name of a split: that in dataset.yaml, else the name of its list without suffix."""
        name = str(split).removesuffix(".txt")
        if self.described is not None and name in self.described.splits:
            return name
        return self.list_file(split).name.removesuffix(".txt")

    def splits(self) -> list[str]:
        """Return the names of all lists, sorted; if dataset.yaml has splits, only these."""
        if self.described is not None and self.described.splits:
            return sorted(self.described.splits)
        folders = [folder for folder in self._list_folders if folder.is_dir()]
        names = {file.stem for folder in folders for file in folder.glob("*.txt")}
        return sorted(
            name
            for name in names
            if not name.lower().startswith(NOT_LISTS) and f"{name.lower()}.txt" not in CLASS_FILES
        )

    def read_mask(self, path: Path) -> np.ndarray:
        """Read the labels of a mask, (H, W) integers, see `torchvice.data.read_mask`, as dataset.yaml maps them."""
        return read_mask(path) if self.described is None else self.described.read_mask(path)

    def annotation_of(self) -> Callable[[str], Path | None]:
        """Return a function that finds the annotation of an image id."""
        return Finder(self.annotations, (".xml",))

    def check_class_count(self, masks: int) -> None:
        """Check that the pixels of masks can tell the classes apart.

        Args:
            masks: the number of masks of a split.

        Raises:
            ViceError: there are masks, and more classes than 16 bits can tell apart.
        """
        if masks and len(self.classes) > MOST_CLASSES:
            raise ViceError(
                f"Masks can have at most {MOST_CLASSES} classes ({MOST_CLASSES + 1} is void), but the dataset has "
                f"{len(self.classes)}.",
                "Measure these classes without masks: move the mask folders elsewhere.",
            )

    def check_forms(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Read some masks, and return sentences on forms that may not be what they are taken for.

        Raises:
            ViceError: masks that look like trimaps, for classes that nobody named.
        """
        paths = [record.mask for record in records if record.mask is not None]
        if self.described is not None or not paths:
            return ()
        return forms_of(found_values(spread(paths)), self.classes, named=self.classes != VOC_CLASSES)

    def located(self, lines: Sequence[ListLine], masks: str | None = None) -> Located:
        """Find the files of every line; `masks` is the only folder of masks, if given.

        Raises:
            ViceError: that folder is missing.
        """
        if masks is not None and not (self.base / masks).is_dir():
            known = [entry.name for entry in self.base.iterdir() if entry.is_dir()]
            raise ViceError(f"`masks` must name a folder in {self.base}, but is {masks!r}.", did_you_mean(masks, known))
        image_of = Finder(self.images, IMAGE_SUFFIXES)
        folders = {name: Finder(self.base / name, (".png",)) for name in ([masks] if masks else self.masks)}
        records, missing, found = [], [], dict.fromkeys(("the list's paths", *folders), 0)
        unfound: dict[str, str] = {}
        several: dict[str, tuple[Path, Path]] = {}
        for line in lines:
            images = self._named_image(line.image) if line.image else image_of.all(line.image_id)
            if not images:
                missing.append(line)
                continue
            if masks is None and line.mask:
                drawn = [("the list's paths", file) for file in self._named_file(line.mask)]
                if not drawn:
                    expected = self.base / line.mask.lstrip("/")
                    unfound[line.image_id] = f"The mask of `{line.image_id}` must be {expected}, but does not exist."
            else:
                drawn = [(name, file) for name, mask_of in folders.items() for file in mask_of.all(line.image_id)]
            if drawn:
                found[drawn[0][0]] += 1
            records.append(Record(line.image_id, images[0], drawn[0][1] if drawn else None))
            for files in (images, [file for _, file in drawn]):
                if other := first_other(files):
                    several.setdefault(line.image_id, (files[0], other))
        source = mask_source(found, len(lines)) + _unread(records, [self.base / name for name in folders])
        return Located(records, missing, source, unfound, _notes(several))

    def expected_image(self, line: ListLine) -> str:
        """Return a text that says where the image of a line should be."""
        if line.image:
            return str(self.base / line.image.lstrip("/") if "/" in line.image else self.images / line.image)
        return f"{self.images / line.image_id}.jpg (or .jpeg, .png)"

    def _named_image(self, path: str) -> list[Path]:
        return self._named_file(path) if "/" in path else existing(self.images / path)

    def _named_file(self, path: str) -> list[Path]:
        """Find a file that a line names: in the VOC folder, next to it, or anywhere."""
        inside = (home / path.lstrip("/") for home in (self.base, *self.homes))
        return next((files for place in (*inside, Path(path)) if (files := existing(place))), [])


def place_of(root: Path, split: str, chosen: Mapping[str, str], classes: Sequence[str] = ()) -> str:
    """What `vice data check` takes for a dataset: its folder and split, or the folders of images without lists."""
    if "images" not in chosen:
        return f"{quote(str(root))} --split {quote(split)}"
    given = {name: chosen[name] for name in ("images", "masks", "coco", "mask_values") if name in chosen}
    given |= {"classes": ",".join(classes)} if "masks" in chosen else {}
    return " ".join(f"--{name.replace('_', '-')} {quote(value)}" for name, value in given.items())


def _notes(several: Mapping[str, tuple[Path, Path]]) -> tuple[str, ...]:
    """One sentence on the images, or masks, that have several files that differ."""
    if not several:
        return ()
    first, second = next(iter(several.values()))
    count = "1 image has" if len(several) == 1 else f"{len(several)} images have"
    return (f"{count} several files: read is {first}, not {second}.",)


def _unread(records: Sequence[Record], folders: Sequence[Path]) -> str:
    """A phrase on files that are called as images without a mask, but are no PNG files; "" without any."""
    lacking = {record.image_id for record in records if record.mask is None}
    others = (one for folder in folders if lacking for one in other_files(folder, (".png",)))
    found = [file for name, file in others if composed(name) in lacking]
    return f" (not read, as masks must be .png: {named(found)})" if found else ""


def mask_source(found: dict[str, int], lines: int) -> str:
    """Return where the masks are, in words: the only folder, or the number of images for each and of those without.

    Args:
        found: number of masks by folder.
        lines: number of images.
    """
    used = {name: count for name, count in found.items() if count}
    if len(used) == 1 and sum(used.values()) == lines:
        return next(iter(used))
    parts = [f"{count} of {lines} from {name}" for name, count in used.items()]
    return ", ".join([*parts, f"{lines - sum(used.values())} missing"])


def _voc_folder(root: Path) -> Path:
    """Find the folder that holds JPEGImages, `root` or VOC2012 in it; without one, return `root`."""
    folders = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return next((folder for folder in folders if (folder / "JPEGImages").is_dir()), root)


def _homes(root: Path, base: Path) -> list[Path]:
    """Folders where lists and cls_labels.npy may be: `root`, the VOC folder, and the parent of a folder VOC2012."""
    parent = [base.absolute().parent] if base.absolute().name == "VOC2012" else []
    homes: dict[Path, Path] = {}
    for folder in (root, base, *parent):
        homes.setdefault(folder.resolve(), folder)
    return list(homes.values())


def _described_names(classes: Sequence[str] | None, described: Description) -> tuple[str, ...]:
    if classes is not None and tuple(classes) != described.names:
        raise ViceError(
            f"`classes` must be the names in {described.file}, in their order, but is {list(classes)}.",
            "Leave them out: the file has them.",
        )
    return described.names

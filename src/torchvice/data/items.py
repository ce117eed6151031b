"""Datasets of Python objects: (image, mask) pairs, dictionaries, rows of a table, batches of a loader."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torchvice.data.images import present_values
from torchvice.data.item_labels import class_indices_of, first_names, is_index, is_named, is_one, object_of_label
from torchvice.data.item_parts import FORMS, KEYS, Parts, checked_keys, parts_of
from torchvice.data.lists import class_names
from torchvice.data.mask_values import MaskValues, refuse_forms, refuse_mixed, values_from
from torchvice.data.named_values import named_values
from torchvice.data.palettes import has_two_tones, refuse_two_tones
from torchvice.data.pixels import image_pixels, mask_pixels
from torchvice.data.repeats import Repeats
from torchvice.data.table_rows import TableRows
from torchvice.errors import ViceError, errors_quoted, to_numpy
from torchvice.metrics.overlap import void_of

__all__ = ["ItemDataset", "from_items"]

_recent = functools.lru_cache(maxsize=16)


@dataclass(frozen=True)
class ItemRecord:
    """One item: its id."""

    image_id: str


class ItemDataset:
    """A sequence of items as a dataset; every item is read by its index when it is needed.

    Args:
        items: has a length, and gives an item for an index.
        classes: C names in the order of the labels; None: those of the sequence, else one class, `object`, if masks
            hold two values.
        keys: the keys of `image`, `mask`, `labels` and `id` in dictionaries, where they are called otherwise.
        mask_values: what the values of masks of one object mean, see `torchvice.data.named_values.named_values`.

    Attributes:
        classes, targets, records, exclusive: see `torchvice.data.Dataset`.
        label_source, chosen: see `torchvice.data.VocDataset`.
        notes: sentences on what was found.

    All items are read once here, for their labels, and some of them more often, see `torchvice.data.repeats`. What is
    read later is compared with that.

    Raises:
        ViceError: an item that cannot be used; classes that are not known; items that change from one reading to the
            next; two items of one id.
    """

    def __init__(
        self,
        items: Any,
        classes: Sequence[str] | None = None,
        keys: Mapping[str, str] | None = None,
        mask_values: str | None = None,
    ) -> None:
        self._named = None if mask_values is None else named_values(mask_values)
        with errors_quoted("The dataset must have a length"):
            length = len(items)
        if not length:
            raise ViceError("The dataset must hold images, but is empty.", "Look at its path and its filter.")
        self._items = items
        self._keys = checked_keys(keys or {})
        self._parts = _recent(self._read)
        self._repeats = Repeats()
        self.notes: tuple[str, ...] = ()
        self._two_tones: list[str] = []  # ids of the items whose mask has them
        self._of_label = False  # whether the object in a mask is of the class of its item's label
        self._check_index()
        self._repeats.read_again(length, self._read)
        every = [self._first_reading(index) for index in range(length)]
        for image_id, labels, found in every:
            if labels is None and found is None:
                raise ViceError(
                    f"Every item must have a mask or labels, but `{image_id}` has neither{self._held()}.",
                    f"{FORMS} Other keys: torchvice.data.from_items(..., keys={{'mask': ..., 'labels': ...}}).",
                )
        self.records = [ItemRecord(image_id) for image_id, _, _ in every]
        _refuse_repeated([image_id for image_id, _, _ in every])
        self._values = self._classes_of(classes, [labels for _, labels, _ in every], [found for *_, found in every])
        refuse_two_tones(self._two_tones if self._values.white_is_void else [])
        self.classes = self._values.classes
        self.chosen = {} if self._values.object_value is None else {"object_value": str(self._values.object_value)}
        if mask_values is not None:
            self.chosen["mask_values"] = mask_values
        self.label_source = "masks" if all(labels is None for _, labels, _ in every) else "items"
        self.exclusive = all(is_index(labels) for _, labels, _ in every)
        rows = [self._targets(*one) for one in every]
        self.targets = np.array(rows, dtype=np.uint8).reshape(len(rows), len(self.classes))
        if not self._of_label:
            self.notes += self._disagreement([found for *_, found in every])

    def __len__(self) -> int:
        return len(self.records)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the items that are kept in memory."""
        return {name: value for name, value in vars(self).items() if name != "_parts"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._parts = _recent(self._read)

    def image(self, index: int) -> np.ndarray:
        """Return image `index`, (H, W, 3) uint8, see `image_pixels`."""
        image: np.ndarray = self._parts(index).image
        return image

    def mask(self, index: int) -> np.ndarray | None:
        """Return the labels of mask `index`, (H, W) integers; None without a mask."""
        drawn = self._parts(index).mask
        name = f"The mask of `{self.records[index].image_id}`"
        own = int(self.targets[index].argmax()) + 1 if self._of_label else 1
        return None if drawn is None else self._values.labels_of(drawn, name, own)

    def _read(self, index: int) -> Parts:
        """The item, its image and mask as arrays: threads share it, and PIL images are read when they are used."""
        with errors_quoted(f"The dataset must give item {index}", f"Try dataset[{index}]."):
            item = self._items[index]
        parts = parts_of(item, self._keys)
        image_id = str(index) if parts.image_id is None else str(to_numpy(parts.image_id))
        image = image_pixels(parts.image, f"The image of `{image_id}`")
        mask = None if parts.mask is None else mask_pixels(parts.mask, f"The mask of `{image_id}`")
        self._repeats.check(index, image, mask, image_id)
        return Parts(image, mask, parts.labels, image_id, has_two_tones(parts.mask))

    def _held(self) -> str:
        """The keys of the first item, for a message."""
        first = self._items[0]
        return f": its keys are {', '.join(map(str, first))}" if isinstance(first, Mapping) else ""

    def _check_index(self) -> None:
        """Refuse items that have no index."""
        with errors_quoted("The dataset must give item 0", "Try dataset[0]."):
            try:
                self._items[0]
            except (KeyError, TypeError) as error:
                raise ViceError(f"A dataset must give items by their index, but [0] fails: {error!r}.", FORMS) from None

    def _first_reading(self, index: int) -> tuple[str, Any, frozenset[int] | None]:
        """The id, the labels as given, and the values of the mask."""
        parts = self._parts(index)
        found = None if parts.mask is None else frozenset(present_values(parts.mask).tolist())
        self._two_tones += [parts.image_id] if parts.two_tones else []
        return parts.image_id, parts.labels, found

    def _classes_of(
        self, classes: Sequence[str] | None, labels: Sequence[Any], values: Sequence[frozenset[int] | None]
    ) -> MaskValues:
        """The classes, and what the values of the masks mean."""
        names = None if classes is None else class_names(classes, [])
        own = getattr(self._items, "classes", None)
        if own is not None and all(given is not None for given in labels):
            own = tuple(str(name) for name in own)
            if names is not None and names != own and not all(map(is_named, labels)):
                raise ViceError(
                    f"The labels are indices of the dataset's own classes, {first_names(own)}, but "
                    f"{first_names(names)} are given.",
                    "Leave out classes: the dataset has them.",
                )
            names = class_names(own, []) if names is None else names
        drawn = [found for found in values if found is not None]
        if not drawn:
            if names is None:
                raise ViceError("The classes of the labels must be known, but are not given.", "Give classes=[...].")
            return MaskValues(names)
        if self._named is not None and names and len(names) > 1 and all(map(is_one, labels)):
            self._of_label = True
            self.notes += (self._named.note("the class of the item's label"),)
            return MaskValues(names, named=self._named)
        value = object_of_label(names, labels, drawn) if self._named is None else None
        if value is not None:
            refuse_mixed(drawn, None, "the dataset")
            self._of_label = True
            self.notes += (f"In masks, {value} is the class of the item's label, and 0 is background.",)
            return MaskValues(names or (), value)
        if names and len(names) > 1 and all(map(is_one, labels)):
            refuse_forms(drawn, {*range(len(names) + 1), void_of(len(names))}, "the dataset")
        found = values_from(drawn, names, "the dataset", self._named)
        self.notes += (found.note,) if found.note else ()
        return found

    def _disagreement(self, values: Sequence[frozenset[int] | None]) -> tuple[str, ...]:
        """A sentence on items whose labels and mask have different classes."""
        void, wrong = self._values.void, []
        for record, row, found in zip(self.records, self.targets, values, strict=True):
            name = f"The mask of `{record.image_id}`"
            if found is not None and {*self._values.labels_in(found, name)} - {void} != {*(np.flatnonzero(row) + 1)}:
                wrong.append(record.image_id)
        if not wrong:
            return ()
        return (
            f"Labels and masks of {len(wrong)} of the {len(values)} items name different classes, such as those of "
            f"`{wrong[0]}`.",
        )

    def _targets(self, image_id: str, labels: Any, found: frozenset[int] | None) -> np.ndarray:
        """The targets of an item, (C,): its labels, else the classes in its mask."""
        row = np.zeros(len(self.classes), np.uint8)
        if labels is not None:
            row[class_indices_of(labels, self.classes, f"The labels of `{image_id}`")] = 1
        elif found is not None:
            row[[label - 1 for label in self._values.labels_in(found, f"The mask of `{image_id}`")]] = 1
        return row


def from_items(
    items: Any,
    classes: Sequence[str] | None = None,
    keys: Mapping[str, str] | None = None,
    mask_values: str | None = None,
) -> ItemDataset:
    """Make a dataset of anything that gives images with masks or labels.

    Args:
        items: a sequence, such as torchvision's and Hugging Face's datasets; a DataLoader, of which the dataset is
            read; or any iterable, whose items are first written to a temporary folder. An item is (image, mask),
            (image, class index), or a dictionary {image, mask, labels, id}. `labels` are (C,) zeros and ones, one
            class index, or class names.
        classes, keys, mask_values: see `ItemDataset`.

    Returns:
        A dataset for `torchvice.assess`.

    Raises:
        ViceError: see `ItemDataset`; or an object that gives no items.
    """
    inner = getattr(items, "dataset", None)
    if hasattr(items, "collate_fn") and _is_sequence(inner):  # a DataLoader over a sequence
        _refuse_sampler(items)
        dataset = from_items(inner, classes, keys, mask_values)
        dataset.notes = ("Items are read from the dataset of the loader, by their index.", *dataset.notes)
        return dataset
    if _is_sequence(items) and not isinstance(items, Mapping):
        return ItemDataset(_named(items, keys or {}), classes, keys, mask_values)
    if isinstance(items, Mapping) and items:
        raise ViceError(
            f"A dataset must give items, but is a dictionary of {', '.join(map(str, list(items)[:5]))}.",
            f"Give one of its splits, such as dataset[{next(iter(items))!r}].",
        )
    if not isinstance(items, Iterable) or isinstance(items, (str, bytes, Mapping)):
        raise ViceError(
            f"A dataset must be a folder, have classes, targets, records, image(i) and mask(i), or give items, but is "
            f"{type(items).__name__}.",
            FORMS,
        )
    batches = hasattr(items, "collate_fn") and getattr(items, "batch_size", None) is not None
    source = _named(items, keys or {})
    written = _Written(source, checked_keys(keys or {}), batches)
    if hasattr(source, "classes"):
        written.classes = source.classes
    dataset = ItemDataset(written, classes, mask_values=mask_values)
    dataset.notes = (f"The {len(written)} items have no index: copies are in a temporary folder.", *dataset.notes)
    return dataset


def _refuse_sampler(loader: Any) -> None:
    """Refuse a DataLoader that may give other items than all of its dataset, which is read in its place."""
    with errors_quoted("The dataset must have a length"):
        length = len(loader.dataset)
    batches = getattr(loader, "batch_sampler", None)
    sampler: Any = getattr(loader if batches is None else batches, "sampler", None)
    count = len(sampler) if hasattr(sampler, "__len__") else None
    if count != length:
        name = type(batches if sampler is None else sampler).__name__
        raise ViceError(
            f"The dataset of a DataLoader is read by index, without its sampler. This must therefore draw all {length} "
            f"items, but {name} draws {'an unknown number' if count is None else count}.",
            "Give those items as a dataset: torch.utils.data.Subset(loader.dataset, indices); or all: loader.dataset.",
        )


def _is_sequence(items: Any) -> bool:
    """Whether an object has a length and gives items by index; torch's iterable datasets only inherit the latter."""
    iterable_only = any(base.__name__ == "IterableDataset" for base in type(items).__mro__)
    return hasattr(items, "__len__") and hasattr(items, "__getitem__") and not iterable_only


def _named(items: Any, keys: Mapping[str, str]) -> Any:
    """Rows of a Hugging Face dataset with the names of its class labels in the place of their indices."""
    is_table = hasattr(items, "features") and hasattr(items, "column_names")
    columns = (keys["labels"],) if "labels" in keys else KEYS["labels"]
    return TableRows(items, columns) if is_table else items


class _Written:
    """Items of an iterable, written to a temporary folder, which is removed with this object.

    Copies of the object in other processes read the same folder, and leave it there.
    """

    classes: Sequence[str] | None = None

    def __init__(self, items: Iterable[Any], keys: Mapping[str, str], batches: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="torchvice-"))
        weakref.finalize(self, _remove, self._folder, os.getpid())
        self._rest: list[tuple[Any, Any, str | None]] = []  # labels, id, and the suffix of the mask's file
        for item in _each(items):
            parts = parts_of(item, keys)
            for one in _unbatched(parts) if batches else [parts]:
                self._write(one)

    def _write(self, parts: Parts) -> None:
        number, suffix = len(self._rest), None
        np.save(self._path(number, "image"), image_pixels(parts.image, f"The image of item {number}"))
        if has_two_tones(parts.mask):  # they are told apart from labels when all items are there
            suffix = ".png"
            parts.mask.save(self._path(number, "mask", suffix))
        elif parts.mask is not None:
            suffix = ".npy"
            np.save(self._path(number, "mask", suffix), mask_pixels(parts.mask, f"The mask of item {number}"))
        self._rest.append((parts.labels, parts.image_id, suffix))

    def _path(self, number: int, what: str, suffix: str = ".npy") -> Path:
        return self._folder / f"{number}-{what}{suffix}"

    def __len__(self) -> int:
        return len(self._rest)

    def __getitem__(self, index: int) -> dict[str, Any]:
        labels, image_id, suffix = self._rest[index]
        file = None if suffix is None else self._path(index, "mask", suffix)
        mask = None if file is None else np.load(file) if suffix == ".npy" else Image.open(file)
        return {"image": np.load(self._path(index, "image")), "mask": mask, "labels": labels, "id": image_id}


def _remove(folder: Path, process: int) -> None:
    """Remove a folder, unless this is a fork of the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _each(items: Iterable[Any]) -> Iterator[Any]:
    """The items, with an error in the user's code as a ViceError."""
    iterator, end = None, object()
    while True:
        with errors_quoted("The dataset must give its items", "Go through it by itself first: list(dataset)."):
            iterator = iter(items) if iterator is None else iterator
            item = next(iterator, end)
        if item is end:
            return
        yield item


def _unbatched(batch: Parts) -> list[Parts]:
    """The items of a batch of a loader: arrays and lists along their first dimension."""
    held = {name: value for name, value in vars(batch).items() if name != "two_tones" and value is not None}
    count = len(batch.image)
    wrong = [name for name, value in held.items() if not hasattr(value, "__len__") or len(value) != count]
    if wrong:
        raise ViceError(
            f"A batch must hold as many of each as of images, {count}, but not of `{wrong[0]}`.",
            "Let the collate function keep one entry an image.",
        )
    return [Parts(**{name: value[place] for name, value in held.items()}) for place in range(count)]


def _refuse_repeated(image_ids: Sequence[str]) -> None:
    """Refuse items of one id, whose rows in a table could not be told apart."""
    name, count = Counter(image_ids).most_common(1)[0]
    if count > 1:
        raise ViceError(
            f"Every item must have an id of its own, but {count} items have `{name}`.",
            "Give them other ids, or none: an item is then called by its index. The key of the ids is named by "
            "torchvice.data.from_items(..., keys={'id': ...}).",
        )

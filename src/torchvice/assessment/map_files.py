"""Maps as files, one per image, for use in other tools."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from torchvice.assessment.images import check_dataset, kind_of_targets
from torchvice.assessment.ledger import differences
from torchvice.assessment.manifest import class_map_of
from torchvice.assessment.map_settings import MapKeywords, MapSettings, packed
from torchvice.assessment.opened import refuse_random, tell
from torchvice.assessment.other_subject import other_weights
from torchvice.assessment.region import image_of
from torchvice.data.digests import digests_of
from torchvice.data.pixels import almost_black
from torchvice.errors import ViceError
from torchvice.files import check_folder_free, read_json, write_json
from torchvice.files.lock import locked
from torchvice.interop import write_legacy_maps, write_maps

if TYPE_CHECKING:
    from torch import nn

    from torchvice.assessment import Dataset
    from torchvice.assessment.views import View

__all__ = ["write_map_files"]


def write_map_files(
    model: nn.Module,
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    protocol: Literal["paper", "strict"] | str = "paper",
    file_format: Literal["npz", "legacy"] | str = "npz",
    settings: MapSettings | None = None,
    targets: Literal["multilabel", "exclusive"] | None = None,
    progress: Callable[[int, int], None] | None = None,
    passes: Callable[[int, int], None] | None = None,
    **keywords: Unpack[MapKeywords],
) -> int:
    """Write the normalised maps of every image's true classes, at the image's size, one file per image.

    Existing files are kept, so that a stopped run resumes; `maps.json` next to them records how they were made.

    Args:
        folder: created if missing; IMAGE_ID.npz or IMAGE_ID.npy are written to it.
        protocol: the protocol whose view and normalisation are used.
        file_format: "npz" (`keys`, `maps`; compressed float16) or "legacy" (the original's .npy dictionary of float32).
        progress: called with (images done, images in total).
        targets: as for `torchvice.assess`; of images without labels, whether the likeliest class is predicted
            ("exclusive", the default) or all with a logit above 0.
        model, dataset, settings, passes, keywords: as for `torchvice.assess`.

    Returns:
        The number of files written.

    Raises:
        ViceError: as `torchvice.assess`; an unknown protocol or format; true labels of images that have none; a folder
            with maps of other settings, images or targets, or to which another process writes.
    """
    from torchvice.models.build import weights_hash

    if file_format not in ("npz", "legacy"):
        raise ViceError(f"`file_format` must be 'npz' or 'legacy', but is {file_format!r}.")
    check_dataset(dataset)
    refuse_random(dataset)
    kind = _kind(dataset, targets)
    settings = packed(keywords, settings)
    folder = Path(folder)
    check_folder_free(folder, ("maps.json", "maps.lock*"), "The maps")
    say = None if _of_logits(folder / "maps.json") else tell
    how: dict[str, Any] = {"exclusive": kind == "exclusive", "passes": passes, "say": say}
    view = _checked_view(model, protocol, settings, len(dataset.classes), how)
    if getattr(dataset, "unlabelled", False) and view.choices.labels in ("true", "both"):
        raise ViceError(
            "Images without labels have no true ones, but their maps are requested.",
            "Name others, of the protocol strict: protocol='strict', choices=Choices(labels='predicted').",
        )
    made = {"explanation": view.settings, "format": file_format, "weights_sha256": weights_hash(model)}
    made |= {"targets": kind, "map_settings": _beyond_the_view(view)}
    lock = locked(folder / "maps.lock", f"The writing of maps to {folder}", keep=False)
    contents, digests = digests_of(dataset)
    files = {record.image_id: image for record, (image, _) in zip(dataset.records, digests, strict=True) if image}
    with lock, _claimed(folder, made, contents, files):
        return _write_missing(view, dataset, folder, file_format, progress)


def _checked_view(model: nn.Module, protocol: str, settings: MapSettings, classes: int, how: dict[str, Any]) -> View:
    """The view of a protocol, `how` being arguments of `views_of`; a network that is not steady is said to be so.

    Raises:
        ViceError: as `views_of` and `check_number`.
    """
    from torchvice.assessment.behaviour import say_doubts
    from torchvice.assessment.outputs import check_number
    from torchvice.assessment.views import views_of

    view = views_of(model, [protocol], settings, **how)[protocol]
    check_number(view.explainer, classes, how["exclusive"])
    say_doubts(view.explainer, view.side, tell)
    return view


def _of_logits(note: Path) -> bool:
    """Whether the maps of a folder were made of outputs that were taken as they are; then further maps are, too."""
    if not note.is_file():
        return False
    held = read_json(note, "The record of the maps", _MAPS_AGAIN).get("map_settings", {})
    return held.get("outputs") != "softmax"


def _kind(dataset: Dataset, targets: str | None) -> str:
    """See `kind_of_targets`; images without labels cannot say how many they have."""
    unlabelled = getattr(dataset, "unlabelled", False) and targets in (None, "exclusive")
    return "exclusive" if unlabelled else kind_of_targets(dataset, targets)


_MAPS_AGAIN = "Restore maps.json, or delete the folder of the maps and run vice explain again."


class _RefusedOutputs(ViceError):
    """Outputs that look like probabilities, before the first file."""


def _beyond_the_view(view: View) -> dict[str, Any]:
    """The settings that the maps depend on and `view.settings`, which hold the sizes and choices, do not."""
    return {
        "mean": list(view.mean),
        "std": list(view.std),
        "class_map": class_map_of(view),
        "outputs": view.map_settings.outputs or "logits",
        **({} if view.map_settings.output is None else {"output": view.map_settings.output}),
    }


def _write_missing(
    view: View, dataset: Dataset, folder: Path, file_format: str, progress: Callable[[int, int], None] | None
) -> int:
    """Write the maps of the images that have no file yet; returns their number."""
    from torchvice.assessment.outputs import refuse_probabilities

    write, suffix = (write_maps, ".npz") if file_format == "npz" else (write_legacy_maps, ".npy")
    paths = [_path(folder, str(record.image_id), suffix) for record in dataset.records]
    # An empty file is what a power failure may leave of one that was just written.
    todo = [index for index, path in enumerate(paths) if not (path.is_file() and path.stat().st_size)]
    count, size = len(paths) - len(todo), view.batch_size
    unchecked = view.map_settings.outputs is None and not count
    for part in (todo[start : start + size] for start in range(0, len(todo), size)):
        images = [image_of(dataset, index) for index in part]
        if not count and (sentence := almost_black(images)):
            tell(sentence)
        outputs = view.run(images, dataset.targets[part])
        if unchecked:
            first = list(outputs)
            try:
                refuse_probabilities(np.stack([output.logits for _, output in first]), view.exclusive)
            except ViceError as error:
                raise _RefusedOutputs(error.message, error.way_out) from None
            outputs, unchecked = iter(first), False
        for position, output in outputs:
            write(paths[part[position]], output.classes, output.full(images[position].shape[:2]))
            count += 1
            if progress:
                progress(count, len(paths))
    return len(todo)


def _path(folder: Path, image_id: str, suffix: str) -> Path:
    """Return the file of an image's maps; refuse an id that leaves the folder."""
    if Path(image_id).is_absolute() or ".." in Path(image_id).parts or "\0" in image_id:
        raise ViceError(f"An image id must be a path inside the folder of the maps, but is {image_id!r}.", "Rename it.")
    return folder / f"{image_id}{suffix}"


@contextlib.contextmanager
def _claimed(folder: Path, settings: dict[str, Any], contents: dict[str, str], files: dict[str, str]) -> Iterator[None]:
    """`_claim` the folder; a new one is given back if outputs are refused: it holds no map, and may get others."""
    new = not (folder / "maps.json").exists()
    _claim(folder, settings, contents, files)
    try:
        yield
    except _RefusedOutputs:
        if new:
            (folder / "maps.json").unlink()
        raise


def _claim(folder: Path, settings: dict[str, Any], contents: dict[str, str], files: dict[str, str]) -> None:
    """Record how the maps are made, and of what; refuse a folder with maps of other settings, images or targets.

    Args:
        folder, settings: where, and how.
        contents: the digests of the dataset.
        files: those of its images' files by the images' ids: lists of images may overlap, and so may their ids alone.
    """
    note = folder / "maps.json"
    held = read_json(note, "The record of the maps", _MAPS_AGAIN) if note.is_file() else dict(settings)
    datasets = held.pop("datasets", {})  # by their ids; records of earlier versions have none
    images = held.pop("images", {})  # by id; records of earlier versions have none
    later = {"targets", "map_settings"} - set(held)  # those of earlier versions do not say them, and still do not
    settings = {name: value for name, value in settings.items() if name not in later}
    if held != settings:
        weights = other_weights(str(held.pop("weights_sha256", "")), str(settings.pop("weights_sha256", "")))
        wrong = "; ".join(differences(held, settings))
        parts = [*weights, *([f"other settings: {wrong}"] if wrong else [])] or ["other settings"]
        raise ViceError(
            f"The maps in {folder} were made with {' and '.join(parts)}.",
            "Write to another folder, or delete that one.",
        )
    now = {name: contents[name] for name in ("targets", "images") if name in contents}
    before = datasets.get(contents["ids"], now)
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        raise ViceError(
            f"The {' and '.join(changed)} of the dataset are not those that the maps in {folder} were made of.",
            "Write to another folder, delete that one, or restore them.",
        )
    if other := [name for name, digest in files.items() if images.get(name, digest) != digest]:
        raise ViceError(
            f"The maps in {folder} are of other images with the same names: {len(other)}, such as `{other[0]}`.",
            "Write to another folder: one for each dataset.",
        )
    images = {"images": {**images, **files}} if images or files else {}
    write_json(note, {**settings, "datasets": {**datasets, contents["ids"]: now}, **images})

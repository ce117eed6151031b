"""Whether tables that are compared were made of the same images, masks, targets and kind of targets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from torchvice.errors import ViceError, brief
from torchvice.samples import ProtocolSamples, Samples, changed_images, named_images

__all__ = ["ASSESS_STRICT", "check_same_classes", "check_same_kind", "check_same_truth", "different_contents"]

ASSESS_STRICT = "Assess the model under strict: vice assess ... --protocol strict, into another folder."


def check_same_classes(models: Mapping[str, Samples]) -> None:
    """Check that all tables have the same classes in the same order.

    Raises:
        ViceError: two tables differ in them.
    """
    first = next(iter(models))
    for name, samples in models.items():
        if samples.classes != models[first].classes:
            raise _other_classes({first: models[first].classes, name: samples.classes})


def _other_classes(classes: Mapping[str, tuple[str, ...]]) -> ViceError:
    """The error for two models of other classes: which only one of them has, or that their order differs."""
    (first, own), (second, others) = classes.items()
    only = {first: [c for c in own if c not in others], second: [c for c in others if c not in own]}
    parts = [f"only {model} has {brief(names)}" for model, names in only.items() if names]
    return ViceError(
        f"Models must have the same classes, but those of {first} and {second} differ: "
        f"{' and '.join(parts) or 'their order is another one'}.",
        "Assess both for the same classes: a class map that leaves out the others is --class-map FILE, for each.",
    )


def check_same_kind(models: Mapping[str, Samples]) -> None:
    """Check that the targets of all tables are exclusive, or of none: loss, probability and VICE depend on it.

    Raises:
        ViceError: two tables differ in it.
    """
    kinds = {name: "exclusive" if samples.exclusive else "multilabel" for name, samples in models.items()}
    first = next(iter(kinds))
    for name, kind in kinds.items():
        if kind != kinds[first]:
            raise ViceError(
                f"Models must have the same kind of targets, but those of {first} are {kinds[first]} and those of "
                f"{name} are {kind}.",
                f"Assess both with vice assess ... --targets {kinds[first]}, or both with --targets {kind}.",
            )


def check_same_truth(models: Mapping[str, Samples]) -> list[str]:
    """Check that tables hold the same targets and masks of the images that they share.

    Returns:
        A sentence for two tables whose image files differ: a comparison of them is also one of these files.

    Raises:
        ViceError: two tables differ in targets, masks or boxes, or in the size of an image.
    """
    sentences = []
    for (first, one), (second, other) in itertools.combinations(models.items(), 2):
        different = different_contents(one, other)
        truth = [name for name in different if name != "images"]
        if truth:
            parts = " and ".join(truth)
            both = (one.images.digests(), other.images.digests())
            which = named_images(changed_images(*both), ("masks",), len(both[0].keys() & both[1].keys()))
            raise ViceError(
                f"Models are compared on the same images, but the {parts} of {first} and {second} differ.{which}",
                "Assess both on the same dataset.",
            )
        if different:
            sentences.append(
                f"Not the same pictures: the image files of {first} and {second} differ. What follows is about that, "
                "too."
            )
    return sentences


def different_contents(first: Samples, second: Samples) -> list[str]:
    """The parts of the dataset that differ between two tables: of targets, masks, boxes and images.

    The digests in the manifests are compared; and those of the shared images, and their rows, where the tables are of
    different lists. Tables of earlier versions have no digests, and nothing is known to differ.
    """
    held, other = (samples.manifest.get("contents") or {} for samples in (first, second))
    if not held or not other:
        return []
    names = ("targets", "masks", "boxes", "images")
    same_ids = held["ids"] == other["ids"]
    different = [name for name in names if same_ids and held.get(name) != other.get(name)]
    if not different and (not same_ids or held.get("description") != other.get("description")):
        different = _different_rows(first.of_protocol("strict"), second.of_protocol("strict"))
    changed = changed_images(first.images.digests(), second.images.digests())
    if not same_ids or not {"images", "masks", "boxes"} & held.keys():  # else the manifests have said it
        different += [name for name in ("masks", "images") if name in changed and name not in different]
    return different


def _different_rows(first: ProtocolSamples, second: ProtocolSamples) -> list[str]:
    """The parts that differ in the rows of the shared images."""
    both = (first, second)
    ids = [part.images.image_id.astype(str) for part in both]
    _, *rows = np.intersect1d(ids[0], ids[1], return_indices=True)
    one, other = (part.images.where(at) for part, at in zip(both, rows, strict=True))
    different = [] if np.array_equal(one.targets, other.targets) else ["targets"]
    if first.settings.get("view") == second.settings.get("view"):
        pixels, others = (_mask_pixels(part) for part in both)
        if any(pixels[pair] != others[pair] for pair in pixels.keys() & others.keys()):
            different.append("masks")
    sizes = [(getattr(one, side), getattr(other, side)) for side in ("height", "width")]
    if not different and not all(np.array_equal(*pair) for pair in sizes):
        different.append("sizes")
    return different


def _mask_pixels(part: ProtocolSamples) -> dict[tuple[str, int], int]:
    rows = part.regions
    keys = zip(rows.image_id.tolist(), rows.label.tolist(), strict=True)
    return dict(zip(keys, rows.mask_pixels.tolist(), strict=True))

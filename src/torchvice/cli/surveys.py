"""What `vice data check` found, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchvice.cli.terminal import add_row, console, say

if TYPE_CHECKING:
    from torchvice.data.check import SplitSurvey

__all__ = ["print_survey"]

_KINDS = {"list": "lists", "image": "images", "mask": "masks", "annotation": "annotations", "labels": "class labels"}


def print_survey(found: SplitSurvey, most: int) -> None:
    """Counts and sizes of a split, then its problems, at most `most` of each kind."""
    from rich.table import Table

    say(f"{found.split} ({found.list_file}): {found.images} images")
    if found.height and found.width:
        spans = [
            f"{least} to {greatest} (median {middle:g})" for least, middle, greatest in (found.height, found.width)
        ]
        say(f"  heights {spans[0]}, widths {spans[1]} pixels")
    if found.mask_source:
        void = "" if found.void_share != found.void_share else f", void {found.void_share:.2%} of their pixels"
        say(f"  {found.masks} masks read ({found.mask_source}){void}")
    if found.images_per_class is not None:
        say(f"  labels: {found.label_source}")
        table = Table(box=None, pad_edge=False)
        table.add_column("  class")
        table.add_column("images", justify="right")
        table.add_column("objects", justify="right")
        objects: Sequence[int | str] = found.objects_per_class or ["–"] * len(found.classes)
        for name, images, count in zip(found.classes, found.images_per_class, objects, strict=True):
            add_row(table, (f"  {name}", str(images), str(count)))
        console().print(table)
    if found.masks_missing:
        _name(f"{len(found.masks_missing)} images have no mask", [f"`{i}`" for i in found.masks_missing], most)
    if found.disagreements:
        said = [problem.sentence for problem in found.disagreements]
        _name(f"{len(said)} images have labels that disagree with their masks", said, most)
    for kind, title in _KINDS.items():
        said = [problem.sentence for problem in found.broken if problem.kind == kind]
        if said:
            _name(f"{len(said)} broken {title}" if len(said) > 1 else f"Broken {title}", said, most)
    if not found.broken:
        say("  Nothing is broken.")


def _name(title: str, said: list[str], most: int) -> None:
    say(f"  {title}:")
    for sentence in said[:most]:
        say(f"    {sentence}")
    if len(said) > most:
        say(f"    and {len(said) - most} more")

"""The survey of `vice data check` on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchvice.cli.terminal import add_row, console, say

if TYPE_CHECKING:
    from torchvice.data.check import SplitSurvey

__all__ = ["print_survey"]

WAYS_OUT = 3  # that are printed for the problems of one kind
_KINDS = {"list": "lists", "image": "images", "mask": "masks", "annotation": "annotations", "labels": "class labels"}


def print_survey(found: SplitSurvey, most: int) -> None:
    """Print counts and sizes of a split, then its problems, at most `most` of each kind."""
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
        _print_problems(
            f"{len(found.masks_missing)} images have no mask", [f"`{i}`" for i in found.masks_missing], most
        )
    if found.disagreements:
        sentences = [problem.sentence for problem in found.disagreements]
        _print_problems(f"{len(sentences)} images have labels that disagree with their masks", sentences, most)
    if found.rotated:
        title = f"{len(found.rotated)} images have an EXIF orientation, or their masks"
        title += ", which is not applied; see that both fit"
        _print_problems(title, [f"`{i}`" for i in found.rotated], most)
    for note in found.notes:
        say(f"  {note}")
    for kind, title in _KINDS.items():
        problems = [problem for problem in found.broken if problem.kind == kind]
        sentences = [problem.sentence for problem in problems]
        if sentences:
            _print_problems(
                f"{len(sentences)} broken {title}" if len(sentences) > 1 else f"Broken {title}", sentences, most
            )
            for way_out in list(dict.fromkeys(problem.way_out for problem in problems if problem.way_out))[:WAYS_OUT]:
                say(f"      {way_out}")
    if not found.broken:
        say("  Nothing is broken.")


def _print_problems(title: str, sentences: list[str], most: int) -> None:
    say(f"  {title}:")
    for sentence in sentences[:most]:
        say(f"    {sentence}")
    if len(sentences) > most:
        say(f"    and {len(sentences) - most} more")

"""Digests of images and masks in a table: which images have changed, and the sentence that names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Digests", "changed_images", "named_images"]

NAMED = 3  # images that a message names

Digests = tuple[str, str]
"""The digests of an image and of its mask (or boxes); "" where they are not known."""


def changed_images(held: Mapping[str, Digests], now: Mapping[str, Digests]) -> dict[str, list[str]]:
    """By part, `images` and `masks`, the ids of shared images whose digests are known of both, and differ."""
    changed: dict[str, list[str]] = {"images": [], "masks": []}
    for image_id, before in held.items():
        for part, a, b in zip(changed, before, now.get(image_id, ("", "")), strict=True):
            if a and b and a != b and a.startswith("pixels:") == b.startswith("pixels:"):
                changed[part].append(image_id)
    return {part: ids for part, ids in changed.items() if ids}


def named_images(changed: Mapping[str, Sequence[str]], parts: Iterable[str], total: int) -> str:
    """A sentence with the first images of these parts that have changed, after a space; "" if none is known."""
    ids = list(dict.fromkeys(image_id for part in parts for image_id in changed.get(part, ())))
    if not ids:
        return ""
    return f" Changed: {len(ids)} of {total} images, such as {', '.join(f'`{name}`' for name in ids[:NAMED])}."

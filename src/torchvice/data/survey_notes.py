"""Sentences of `vice data check` on what is not broken, but makes numbers weak: tiny objects and rare classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["FEW_IMAGES", "TINY_SHARE", "rare_classes", "tiny_objects"]

TINY_SHARE = 0.001  # of an image: 50 of 224 x 224 pixels, a fortieth of the patch that a stride of 32 has there
FEW_IMAGES = 20
LEAST_SPLIT = 100  # smaller splits have few images of every class, which the table of classes shows


def tiny_objects(regions: Iterable[tuple[str, int, int, int]], classes: Sequence[str]) -> tuple[str, ...]:
    """A sentence on the objects (all pixels of a class in an image) that cover less than TINY_SHARE of their image.

    Args:
        regions: (image id, class index, pixels of the class, pixels of the image).
        classes: (C,) names.
    """
    count, tiny = 0, []
    for image_id, c, own, pixels in regions:
        count += 1
        if own < TINY_SHARE * pixels:
            tiny.append((own, image_id, classes[c]))
    if not tiny:
        return ()
    own, image_id, name = min(tiny)
    unit = "pixel" if own == 1 else "pixels"
    return (
        f"{len(tiny)} of {count} objects cover less than {TINY_SHARE:.1%} of their image, such as {name} in "
        f"`{image_id}` ({own} {unit}). Maps are coarser: their IoU says little.",
    )


def rare_classes(images_per_class: Sequence[int] | None, images: int, classes: Sequence[str]) -> tuple[str, ...]:
    """A sentence on the classes of a large split with fewer than FEW_IMAGES images; none without class labels."""
    if images_per_class is None or images < LEAST_SPLIT:
        return ()
    rare = [f"{name} {n}" for name, n in zip(classes, images_per_class, strict=True) if n < FEW_IMAGES]
    if not rare:
        return ()
    return (f"Fewer than {FEW_IMAGES} images: {', '.join(rare)}. Numbers of these classes have wide intervals.",)

"""Tables that are joined by image id must be of the same targets and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulated import simulated
from torchvice.errors import ViceError
from torchvice.measures import compare
from torchvice.samples import Samples

SAME = {"ids": "i", "targets": "t", "images": "p", "masks": "m"}


def of(contents: dict[str, str] | None, dependence: float = 1.0, images: int = 60) -> Samples:
    """The same images and targets; maps of another dependence."""
    found = simulated(images, dependence=dependence)
    return found if contents is None else Samples({**found.manifest, "contents": contents}, *_parts(found))


def _parts(samples: Samples) -> tuple[Any, Any, Any]:
    return samples.images, samples.regions, samples.maps


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"masks": "another"}, "masks"),
        ({"targets": "another"}, "targets"),
        ({"targets": "another", "masks": "another", "images": "another"}, "targets and masks"),
        ({"masks": None, "boxes": "b"}, "masks and boxes"),
    ],
)
def test_other_truth_under_the_same_ids_is_refused(other: dict[str, Any], named: str) -> None:
    changed = {name: digest for name, digest in {**SAME, **other}.items() if digest}
    with pytest.raises(ViceError, match=rf"on the same images, but the {named} of a and b differ\."):
        compare({"a": of(SAME), "b": of(changed)}, replicates=100)


def test_other_image_files_are_said_first() -> None:
    found = compare({"a": of(SAME), "b": of({**SAME, "images": "another"}, 0.0)}, replicates=100)
    assert found.sentences[0].startswith("Not the same pictures: the image files of a and b differ.")


@pytest.mark.parametrize("contents", [(SAME, SAME), (SAME, None), (None, None), ({}, SAME)])
def test_the_same_contents_and_tables_of_earlier_versions_are_compared(contents: tuple[Any, Any]) -> None:
    found = compare({"a": of(contents[0]), "b": of(contents[1], 0.0)}, replicates=100)
    assert not any("pictures" in sentence for sentence in found.sentences)


def _changed(samples: Samples, name: str, column: np.ndarray) -> Samples:
    images, regions = vars(samples.images), vars(samples.regions)
    part = images if name in images else regions
    part = {**part, name: column}
    if name in images:
        return Samples(samples.manifest, type(samples.images)(**part), samples.regions, samples.maps)
    return Samples(samples.manifest, samples.images, type(samples.regions)(**part), samples.maps)


def test_of_other_lists_the_rows_of_the_shared_images_are_compared() -> None:
    first, second = of(SAME), of({**SAME, "ids": "others", "masks": "others", "targets": "others"})
    assert compare({"a": first, "b": second}, replicates=100).images == 60
    targets = second.images.targets.copy()
    targets[7] = 1 - targets[7]
    pixels = second.regions.mask_pixels.copy()
    pixels[3] += 1
    for name, column, named in (
        ("targets", targets, "targets"),
        ("mask_pixels", pixels, "masks"),
        ("height", second.images.height + 1, "sizes"),
    ):
        with pytest.raises(ViceError, match=f"but the {named} of a and b differ"):
            compare({"a": first, "b": _changed(second, name, column)}, replicates=100)

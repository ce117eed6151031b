"""COCO's instances: what is wrong is told with the entry's id, before any number reaches C code."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as tools

from torchvice.data.coco_schema import read_instances, runs_of
from torchvice.errors import ViceError

SQUARE = [[5, 5, 15, 5, 15, 15, 5, 15]]


def content(**more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
        "annotations": [{"id": 9, "image_id": 1, "category_id": 3, "segmentation": SQUARE, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "traffic light"}],
        **more,
    }


def read(text: Any) -> dict[str, Any]:
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    return read_instances(io.BytesIO(raw), "instances.json")


def test_what_is_right_is_read() -> None:
    found = read(content())
    assert found["categories"][1] == {"id": 7, "name": "traffic light"}
    assert found["annotations"] == [
        {"id": 9, "image_id": 1, "category_id": 3, "iscrowd": False, "segmentation": [list(map(float, SQUARE[0]))]}
    ]
    assert found["images"] == [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}]


def image(**more: Any) -> dict[str, Any]:
    return content(images=[{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60} | more])


def annotation(**more: Any) -> dict[str, Any]:
    given = {"id": 9, "image_id": 1, "category_id": 3, "segmentation": SQUARE, "iscrowd": 0} | more
    return content(annotations=[{name: value for name, value in given.items() if value is not ...}])


WRONG = {
    "not JSON": (b"{", "must be JSON, but is not"),
    "not UTF-8": (b'{"images": "\xff"}', "must be JSON, but is not"),
    "nested": (b"[" * 200_000, "must be JSON, but is not"),
    "a long integer": (b'{"images": ' + b"9" * 10_000 + b"}", "must be JSON, but is not"),
    "a list": (b"[]", "must hold a JSON object, but holds a list"),
    "no images": ({name: value for name, value in content().items() if name != "images"}, "must have `images`"),
    "null images": (content(images=None), "`images` is wrong: Input should be a valid list"),
    "an entry that is null": (content(images=[None]), r"`images`\[0\] is wrong"),
    "no height": (image(height=None), r"`images`\[0\] \(id 1\) `height` is wrong"),
    "a height in words": (image(height="40"), r"`height` is wrong: Input should be a valid integer"),
    "a fraction of a pixel": (image(height=40.5), r"`height` is wrong"),
    "a height of 0": (image(height=0), r"`height` is wrong"),
    "a numeric file name": (image(file_name=5), r"`file_name` is wrong: Input should be a valid string"),
    "a newline in a name": (image(file_name="a\n.jpg"), "must not be empty nor hold control characters"),
    "an id beyond 64 bits": (image(id=1 << 70), r"`images`\[0\].* `id` is wrong"),
    "no segmentation": (annotation(segmentation=...), r"`annotations`\[0\] \(id 9\) `segmentation` is wrong"),
    "an empty segmentation": (annotation(segmentation=[]), r"`annotations`\[0\] \(id 9\) `segmentation.*` is wrong"),
    "two corners": (annotation(segmentation=[[1, 1, 2, 2]]), "needs x and y of three corners or more, but has 4"),
    "NaN": (annotation(segmentation=[[float("nan"), 5, 10, 5, 10, 10]]), "must be finite and within 100000 pixels"),
    "far away": (annotation(segmentation=[[-164, -221, 2.08e8, 3.5e8, 226, 236]]), "finite and within 100000 pixels"),
    "a huge RLE": (
        annotation(segmentation={"size": [1 << 40, 1], "counts": [1]}),
        r"\(id 9\) `segmentation.*` is wrong",
    ),
    "a negative run": (
        annotation(segmentation={"size": [4, 4], "counts": [-1]}),
        r"\(id 9\) `segmentation.*` is wrong",
    ),
    "an unknown image": (
        annotation(image_id=5),
        r"annotation 9 has `image_id` 5, which is not among the images\.\n.*Add its entry",
    ),
    "an unknown category": (
        annotation(category_id=5),
        r"annotation 9 has `category_id` 5, which is not among the cat.*\n.*or remove",
    ),
    "a category twice": (
        content(categories=[{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]),
        "the category id 3 once",
    ),
    "a name twice": (content(categories=[{"id": 3, "name": "a"}, {"id": 4, "name": "a"}]), "category name 'a' once"),
    "the background": (content(categories=[{"id": 3, "name": "_Background_"}]), "the background is no category"),
    "too many categories": (
        content(categories=[{"id": i, "name": f"c{i}"} for i in range(65535)]),
        "must have 1 to 65534 categories, but has 65535",
    ),
    "two images of one stem": (
        content(
            images=[{"id": i, "file_name": f"a.{s}", "height": 4, "width": 4} for i, s in ((1, "jpg"), (2, "png"))]
        ),
        r"image name \(without folder and suffix\) 'a' once, but has it 2 times\.\n.*Remove or rename",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told(kind: str) -> None:
    text, message = WRONG[kind]
    with pytest.raises(ViceError, match=message):
        read(text)


def test_runs_are_those_of_the_coco_api() -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 5), (64, 48), (300, 200)):
        mask = np.asfortranarray(rng.random(size) < rng.random(), dtype=np.uint8)
        mask[: size[0] // 2] = 1  # long runs too
        encoded = tools.encode(mask)["counts"].decode()
        runs = runs_of(encoded, mask.size)
        values = np.arange(len(runs)) % 2
        assert (np.repeat(values, runs).reshape(size, order="F") == mask).all()
        assert runs_of(runs.tolist(), mask.size).tolist() == runs.tolist()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 4], "add up to 6 pixels, but add up to 7"),
        ([7, -1], "must be 0 or more"),
        ("o", "ends in the middle of a number"),
        ("\x01", "must be COCO's text"),
        ("o" * 100, "must be COCO's text"),
    ],
)
def test_runs_that_do_not_fit(counts: Any, message: str) -> None:
    with pytest.raises(ViceError, match=message):
        runs_of(counts, 6)

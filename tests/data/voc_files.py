"""Three scenes and the writers of masks and annotations: what the tests' datasets are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

# Height and width differ, so that a swap shows. Labels are masks' values: 1 is the first class.
SCENES = {"2007_000001": ((5, 7), (1,)), "2007_000002": ((6, 4), (1, 3)), "2007_000003": ((4, 4), (2,))}


def write_mask(path: Path, labels: np.ndarray, palette: bool = True) -> None:
    """`labels` as a palette PNG whose colours say nothing about the labels, or as a grey one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels)
    if palette:
        picture.putpalette(bytes((37 * value + 11) % 256 for value in range(768)))
    picture.save(path)


def write_xml(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(
        f"<object><name>{name}</name><difficult>{index % 2}</difficult><part><name>head</name></part></object>"
        for index, name in enumerate(names)
    )
    path.write_text(f"<annotation><filename>x.jpg</filename>{objects}</annotation>")


def write_boxes(path: Path, objects: list[tuple[str, tuple[float, float, float, float], int]]) -> None:
    """An annotation with VOC's corners (xmin, ymin, xmax, ymax), and one of a part, which is no object's."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def corners(box: tuple[float, float, float, float]) -> str:
        named = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        return "<bndbox>" + "".join(f"<{name}>{value}</{name}>" for name, value in named) + "</bndbox>"

    texts = [
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<part><name>head</name>{corners((1, 1, 1, 1))}</part>{corners(box)}</object>"
        for name, box, difficult in objects
    ]
    path.write_text(f"<annotation>{''.join(texts)}</annotation>")

"""The description of a split in Croissant (MLCommons), by its own library, and the list of its images."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torchvice.errors import ViceError, not_utf8_error

__all__ = ["RECORDS", "croissant"]

RECORDS = "records.csv"  # next to the description
_FIELDS = {
    "image_id": "The name of the image in the split, without its suffix; it may begin with folders.",
    "image": "The path of the image, from the dataset's folder.",
    "mask": "The path of its segmentation mask, from the dataset's folder; empty without one.",
    "labels": "The classes that the image shows, with | between them.",
}


def croissant(dataset: Any, name: str) -> tuple[str, str]:
    """Describe a split.

    Args:
        dataset: of `torchvice.data.open_dataset`.
        name: of the dataset, without spaces.

    Returns:
        The JSON-LD of the description, and the CSV that it names as RECORDS: a line for each image.

    Raises:
        ViceError: mlcroissant is not installed, or a file's name is not UTF-8.
    """
    try:
        mlcroissant: Any = import_module("mlcroissant")
    except ImportError:
        raise ViceError(
            "Croissant is written by mlcroissant, which is not installed.", "pip install 'torchvice[croissant]'"
        ) from None
    text = _records(dataset)
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise not_utf8_error(error) from None
    file = mlcroissant.FileObject(
        id=RECORDS,
        name=RECORDS,
        content_url=RECORDS,
        encoding_formats=["text/csv"],
        sha256=hashlib.sha256(content).hexdigest(),
    )
    fields = [
        mlcroissant.Field(
            id=f"records/{field}",
            name=field,
            description=said,
            data_types=[mlcroissant.DataType.TEXT],
            source=mlcroissant.Source(file_object=RECORDS, extract=mlcroissant.Extract(column=field)),
        )
        for field, said in _FIELDS.items()
    ]
    counts = f"{len(dataset)} images, {len(dataset.classes)} classes"
    described = mlcroissant.Metadata(
        name=name,
        description=f"The split {dataset.split} of {name}: {counts}: {', '.join(dataset.classes)}.",
        conforms_to=["http://mlcommons.org/croissant/1.0"],
        distribution=[file],
        record_sets=[mlcroissant.RecordSet(id="records", name="records", key=["records/image_id"], fields=fields)],
    )
    return json.dumps(described.to_json(), indent=1, default=str) + "\n", text


def _records(dataset: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_FIELDS)
    for record, row in zip(dataset.records, dataset.targets, strict=True):
        labels = [label for label, shown in zip(dataset.classes, row, strict=True) if shown]
        writer.writerow([record.image_id, *_paths(dataset.root, (record.image, record.mask)), "|".join(labels)])
    return out.getvalue()


def _paths(root: os.PathLike[str], files: Sequence[os.PathLike[str] | None]) -> list[str]:
    return ["" if file is None else os.path.relpath(file, root).replace(os.sep, "/") for file in files]

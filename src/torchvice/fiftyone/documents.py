"""FiftyOne's documents as plain JSON: ids, numbers, labels, and the declaration of every field.

FiftyOne stores datasets in MongoDB, and exports them as MongoDB's extended JSON. The part used here is small enough to
be written without FiftyOne or MongoDB's library.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["NUMBERS", "Field", "classification", "number", "object_id", "sample_fields", "storable", "unit"]

_FIELDS, _LABELS = "fiftyone.core.fields.", "fiftyone.core.labels."


def object_id(*names: str) -> dict[str, str]:
    """Return an id that depends only on the names, so that the same table gives the same dataset.

    Example:
        >>> object_id("a", "b")
        {'$oid': '59b271ae1bbcb1d31d419298'}
    """
    return {"$oid": _digest(*names)[:24]}


def unit(*names: str) -> float:
    """Return a number in [0, 1) that depends only on the names: FiftyOne shuffles by it."""
    return int(_digest(*names)[24:32], 16) / 2**32


def _digest(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def number(value: Any) -> float | None:
    """Convert to float, or to None if undefined: JSON has neither NaN nor infinity."""
    value = float(value)
    return value if math.isfinite(value) else None


def storable(value: Any) -> Any:
    """Convert the content of a manifest so that both JSON and MongoDB accept it.

    NaN becomes None. A mapping with a key that MongoDB reads as a path or an operator (a dot, a dollar) becomes a list
    of {"key", "value"}.

    Example:
        >>> storable({"scale0.75": (1, float("nan"))})
        [{'key': 'scale0.75', 'value': [1, None]}]
    """
    if isinstance(value, Mapping):
        pairs = {str(key): storable(entry) for key, entry in value.items()}
        if any("." in key or key.startswith("$") for key in pairs):
            return [{"key": key, "value": entry} for key, entry in pairs.items()]
        return pairs
    if isinstance(value, list | tuple):
        return [storable(entry) for entry in value]
    return number(value) if isinstance(value, float) else value


def classification(identity: dict[str, str], label: str, **attributes: Any) -> dict[str, Any]:
    """Make a `Classification`, or another label by `_cls`, with further attributes."""
    return {"_id": identity, "_cls": "Classification", "tags": [], "label": label, **attributes}


@dataclass(frozen=True)
class Field:
    """The declaration of a field: `kind` is FiftyOne's class, `of` the type in a list or embedded document.

    `description` is shown in the app; `fields` are those of the embedded document; `stored` is the name in the
    database, if different.
    """

    name: str
    kind: str
    description: str | None = None
    of: str | None = None
    fields: tuple[Field, ...] = ()
    stored: str | None = None
    read_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the content of FiftyOne's `SampleFieldDocument`."""
        listed = self.kind in ("ListField", "HeatmapRangeField", "DictField")
        document = self.of is not None and not self.of.endswith("Field")
        subfield = (_FIELDS + ("EmbeddedDocumentField" if document else str(self.of))) if listed and self.of else None
        return {
            "name": self.name,
            "ftype": _FIELDS + self.kind,
            "embedded_doc_type": _named(str(self.of)) if document else None,
            "subfield": subfield,
            "fields": [field.to_json() for field in self.fields],
            "db_field": self.stored or self.name,
            "description": self.description,
            "info": None,
            "read_only": self.read_only,
            "created_at": None,
        }


def _named(document: str) -> str:
    return f"fiftyone.core.metadata.{document}" if document.endswith("Metadata") else _LABELS + document


_ID = Field("id", "ObjectIdField", stored="_id")
_TAGS = Field("tags", "ListField", of="StringField")
_BASE = (
    _ID,
    Field("filepath", "StringField"),
    _TAGS,
    Field(
        "metadata",
        "EmbeddedDocumentField",
        of="ImageMetadata",
        fields=(
            *(Field("size_bytes", "IntField"), Field("mime_type", "StringField")),
            *(Field(name, "IntField") for name in ("width", "height", "num_channels")),
        ),
    ),
    *(Field("_media_type", "StringField"), Field("_rand", "FloatField"), Field("_dataset_id", "ObjectIdField")),
    *(Field(name, "DateTimeField", read_only=True) for name in ("created_at", "last_modified_at")),
)
_CLASSIFICATION = (
    *(_ID, _TAGS, Field("label", "StringField")),
    *(Field("confidence", "FloatField"), Field("logits", "VectorField")),
)


def _label_of(name: str, description: str, attributes: Sequence[Field], exclusive: bool) -> Field:
    """Declare a field of class labels: one per image, or a list."""
    fields = (*_CLASSIFICATION, *attributes)
    if exclusive:
        return Field(name, "EmbeddedDocumentField", description, "Classification", fields)
    listed = Field("classifications", "ListField", of="Classification", fields=fields)
    both = (listed, Field("logits", "VectorField"))
    return Field(name, "EmbeddedDocumentField", description, "Classifications", both)


_TRUTH = (
    Field("probability", "FloatField", "predicted probability of this label, in [0, 1]"),
    Field("loss", "FloatField", "-ln of that probability, nats"),
    Field("iou", "FloatField", "IoU of this label's map with its object, at the threshold that other images choose"),
    Field("area", "FloatField", "the object's share of the image's pixels"),
    Field("quadrant", "StringField", "whether the label is found, and whether the map lies on the object"),
    Field("strength", "FloatField", "distance from the borders of its quadrant, in [0, 1]"),
)
_PREDICTED = (Field("correct", "BooleanField", "whether the image has this label"),)
_MAP = (
    *(_ID, _TAGS, Field("map", "ArrayField"), Field("map_path", "StringField")),
    Field("range", "HeatmapRangeField", of="FloatField"),
    Field("label", "StringField", "class of the map"),
    Field("status", "StringField", "ok, zero, constant, or nan (without a picture)"),
    Field("iou", "FloatField", "IoU of the map with the object, at the threshold that other images choose"),
)
_MASK = (_ID, _TAGS, Field("mask", "ArrayField"), Field("mask_path", "StringField"))
_BOX = (
    *(_ID, _TAGS, Field("attributes", "DictField", of="Attribute"), Field("label", "StringField")),
    Field("bounding_box", "ListField", of="FloatField"),
    *(Field("mask", "ArrayField"), Field("mask_path", "StringField")),
    *(Field("confidence", "FloatField"), Field("index", "IntField")),
)
NUMBERS = {
    "loss": "nats; the mean binary cross-entropy over the classes, of exclusive targets the cross-entropy",
    "ji": "the published JI score of the image's maps, at threshold 0.1",
    "map_iou": "mean IoU of the true labels' maps with their objects, at the threshold that other images choose",
    "confidence": "mean probability of the predicted labels; without any, the highest probability",
    "accuracy": "ML-accuracy of the predicted labels, of exclusive targets top-1",
}


def sample_fields(exclusive: bool, regions: str, maps: Mapping[str, str]) -> list[dict[str, Any]]:
    """Declare every field of a sample.

    Args:
        exclusive: whether classes exclude each other.
        regions: "masks", "boxes", or "" for neither.
        maps: {field: description} of the heatmaps.
    """
    fields = [
        *_BASE,
        Field("image_id", "StringField", "the image's name in the list of the split"),
        _label_of("ground_truth", "true labels of the image", _TRUTH, exclusive),
        _label_of("predictions", "predicted labels", _PREDICTED, exclusive),
    ]
    if regions == "masks":
        fields.append(Field("segmentation", "EmbeddedDocumentField", "the mask", "Segmentation", _MASK))
    if regions == "boxes":
        boxes = Field("detections", "ListField", of="Detection", fields=_BOX)
        fields.append(Field("boxes", "EmbeddedDocumentField", "the objects' boxes", "Detections", (boxes,)))
    fields += [Field(name, "EmbeddedDocumentField", text, "Heatmap", _MAP) for name, text in maps.items()]
    fields += [Field(name, "FloatField", text) for name, text in NUMBERS.items()]
    return [field.to_json() for field in fields]

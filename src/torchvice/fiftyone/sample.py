"""One image of a table as a FiftyOne sample: labels, predictions, maps and numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torchvice.errors import ViceError, did_you_mean
from torchvice.fiftyone.documents import NUMBERS, classification, number, object_id, unit
from torchvice.measures import QUADRANTS
from torchvice.metrics import pair_log_likelihood
from torchvice.report import Cases, cases_of
from torchvice.samples import Samples
from torchvice.samples.true_labels import true_logits

__all__ = ["Layer", "SampleTable", "layers_of", "sample_document"]

# Writes the picture of a map, (field, map, row of the image), and returns its path for the sample.
Paint = Callable[[str, np.ndarray, int], str]


@dataclass(frozen=True)
class Layer:
    """The maps of one explanation: `fields` {class: heatmap field}, and of every pair its IoU, {(row, class): IoU}."""

    explanation: str
    cases: Cases
    fields: dict[int, str]
    quality: dict[tuple[int, int], float]


@dataclass(frozen=True)
class SampleTable:
    """The data of a table that samples are made of.

    `cases`: the images and pairs; `layers`: the explanations shown, the headline first; `exclusive`: whether classes
    exclude each other; `entries` {(row, class): entry}; `loss` (N, C) of true labels, nats, NaN elsewhere; `key`: makes
    ids of different tables differ; `split`.
    """

    cases: Cases
    layers: tuple[Layer, ...]
    exclusive: bool
    entries: dict[tuple[int, int], int]
    loss: np.ndarray
    key: str
    split: str

    @classmethod
    def of(cls, samples: Samples, explanations: Sequence[str]) -> SampleTable:
        """Collect the data of a table, with the maps of the headline and of further explanations.

        Raises:
            ViceError: an explanation that is not in the table; see also `cases_of`.
        """
        cases = cases_of(samples)
        rows, classes = np.nonzero(cases.targets)
        part = samples.of_protocol(cases.protocol)
        loss = np.full(cases.targets.shape, np.nan)
        loss[rows, classes] = -pair_log_likelihood(true_logits(part.images.logits, rows, classes, part.exclusive))
        manifest = samples.manifest
        origin = [manifest.get("made_by"), manifest.get("model"), manifest.get("dataset"), cases.explanation]
        return cls(
            cases=cases,
            layers=layers_of(samples, cases, explanations),
            exclusive=part.exclusive,
            entries=_entries(cases),
            loss=loss,
            key=repr(origin),
            split=str(manifest["dataset"].get("split", "")),
        )

    @property
    def heatmaps(self) -> dict[str, str]:
        """{field: description} of every heatmap."""
        text = "map of {} after ReLU, divided by its maximum"
        return {field: text.format(one.explanation) for one in self.layers for field in one.fields.values()}


def _entries(cases: Cases) -> dict[tuple[int, int], int]:
    keys = zip(cases.entry_image.tolist(), cases.entry_class.tolist(), strict=True)
    return {(row, c): entry for entry, (row, c) in enumerate(keys) if c >= 0}


def layers_of(samples: Samples, cases: Cases, explanations: Sequence[str]) -> tuple[Layer, ...]:
    """Collect the maps of the headline, then those of `explanations`.

    A heatmap field has one class: `map_CLASS`, or `map_EXPLANATION_CLASS` for another explanation. If every image has
    one label and one map, one field has them all: `map`, `map_EXPLANATION`.

    Raises:
        ViceError: an explanation that is not in the table.
    """
    known = samples.manifest["explanations"]
    taken = set(NUMBERS)
    layers = []
    for name in dict.fromkeys([cases.explanation, *explanations]):
        if name not in known:
            raise ViceError(f"No explanation {name!r} in the table.", did_you_mean(name, known))
        shown = cases if name == cases.explanation else _of_explanation(samples, name)
        prefix = "map" if name == cases.explanation else f"map_{_word(name.removeprefix(f'{cases.protocol}:'))}"
        present = sorted({c for maps in shown.maps.values() for c in maps})
        single = samples.exclusive and all(len(maps) == 1 for maps in shown.maps.values())
        fields = {c: prefix if single else _free(f"{prefix}_{_word(shown.classes[c])}", c, taken) for c in present}
        quality = {key: float(shown.quality[entry]) for key, entry in _entries(shown).items()}
        layers.append(Layer(name, shown, fields, quality))
    return tuple(layers)


def _of_explanation(samples: Samples, explanation: str) -> Cases:
    """The cases with another explanation as the headline."""
    protocols = samples.manifest["protocols"]
    protocol = samples.manifest["explanations"][explanation].get("protocol", explanation.split(":")[0])
    if protocol not in protocols:
        raise ViceError(f"`{explanation}` must be of a protocol that was assessed, but is of `{protocol}`.")
    replaced = {protocol: {**protocols[protocol], "explanation": explanation}}
    return cases_of(replace(samples, manifest={**samples.manifest, "protocols": replaced}))


def _word(name: str) -> str:
    """Convert a name to a part of a field name: letters, digits and underscores, of any script. It may be empty."""
    return re.sub(r"\W+", "_", name).strip("_")


def _free(field: str, c: int, taken: set[str]) -> str:
    """Make a field name unique: add the label's value if the name is empty (an emoji) or taken (`A_b` after `a b`).

    It is also the name of a folder, and some file systems ignore case.
    """
    if field.endswith("_"):
        field = f"{field}{c + 1}"
    while field.casefold() in taken:
        field = f"{field}_{c + 1}"
    taken.add(field.casefold())
    return field


def sample_document(table: SampleTable, row: int, paint: Paint) -> dict[str, Any]:
    """Make one entry of samples.json, without picture and mask.

    Args:
        table: the table.
        row: the row of the image.
        paint: writes the picture of a map and returns its path.
    """
    cases = table.cases
    image_id = str(cases.image_id[row])
    true = np.flatnonzero(cases.targets[row]).tolist()
    entries = {c: table.entries[row, c] for c in true if (row, c) in table.entries}
    quadrants = [list(QUADRANTS)[cases.quadrant[entry]] for entry in entries.values()]
    quality = [cases.quality[entry] for entry in entries.values()]
    predicted = np.flatnonzero(cases.predicted[row]).tolist()
    return {
        "tags": [*([table.split] if table.split else []), *(name for name in QUADRANTS if name in quadrants)],
        "_media_type": "image",
        "_rand": unit(table.key, image_id),
        "image_id": image_id.encode("utf-8", "replace").decode("utf-8"),
        "ground_truth": _labels(table, [_truth(table, row, c, entries.get(c)) for c in true]),
        "predictions": _labels(table, [_prediction(table, row, c) for c in predicted]),
        **_heatmaps(table, row, paint),
        "loss": number(cases.loss[row]),
        "ji": number(cases.ji[row]),
        "map_iou": number(np.mean(quality)) if quality else None,
        "confidence": number(cases.confidence[row]),
        "accuracy": number(cases.accuracy[row]),
        "_id": object_id(table.key, image_id),
    }


def _labels(table: SampleTable, labels: list[dict[str, Any]]) -> dict[str, Any] | None:
    if table.exclusive:
        return labels[0] if labels else None
    return {"_cls": "Classifications", "classifications": labels}


def _truth(table: SampleTable, row: int, c: int, entry: int | None) -> dict[str, Any]:
    """A true label; without a pair (no mask, or no pixel in the mask) its map has no IoU."""
    cases = table.cases
    return classification(
        object_id(table.key, str(cases.image_id[row]), "ground_truth", str(c)),
        cases.classes[c],
        probability=number(cases.probability[row, c]),
        loss=number(table.loss[row, c]),
        iou=None if entry is None else number(cases.quality[entry]),
        area=None if entry is None else number(cases.area[entry]),
        quadrant=None if entry is None else list(QUADRANTS)[cases.quadrant[entry]],
        strength=None if entry is None else number(cases.strength[entry]),
    )


def _prediction(table: SampleTable, row: int, c: int) -> dict[str, Any]:
    cases = table.cases
    return classification(
        object_id(table.key, str(cases.image_id[row]), "predictions", str(c)),
        cases.classes[c],
        confidence=number(cases.probability[row, c]),
        correct=bool(cases.targets[row, c]),
    )


def _heatmaps(table: SampleTable, row: int, paint: Paint) -> dict[str, Any]:
    """Every field of maps; None where the image has no map."""
    image_id = str(table.cases.image_id[row])
    found: dict[str, Any] = {}
    for layer in table.layers:
        found |= {field: found.get(field) for field in layer.fields.values()}
        rows = np.flatnonzero(layer.cases.image_id == image_id) if layer is not table.layers[0] else [row]
        for there in rows:
            for c, (plane, status) in layer.cases.maps.get(int(there), {}).items():
                field = layer.fields[c]
                whole = bool(np.isfinite(plane).all())
                found[field] = {
                    "_id": object_id(table.key, image_id, layer.explanation, str(c)),
                    "_cls": "Heatmap",
                    "tags": [],
                    "map_path": paint(field, plane, row) if whole else None,
                    "range": None,
                    "label": layer.cases.classes[c],
                    "status": status,
                    "iou": number(layer.quality.get((int(there), c), np.nan)),
                }
    return found

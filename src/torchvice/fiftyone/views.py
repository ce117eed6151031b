"""The document of the dataset: fields, classes, mask values, origin, and saved views."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from torchvice.fiftyone.documents import NUMBERS, object_id, sample_fields, storable
from torchvice.measures import QUADRANTS
from torchvice.metrics.overlap import void_of
from torchvice.report import Cases

__all__ = ["dataset_document"]

# The version of the format: the oldest with everything used here. FiftyOne migrates older datasets when it opens them,
# and may refuse newer ones.
VERSION = "1.0.0"
_STAGES = "fiftyone.core.stages."


def dataset_document(
    name: str,
    cases: Cases,
    *,
    exclusive: bool,
    regions: str,
    maps: Mapping[str, str],
    manifest: Mapping[str, Any],
) -> dict[str, Any]:
    """Make the content of metadata.json.

    Args:
        name: the name of the run.
        cases: the table's images and pairs.
        exclusive, regions, maps: see `sample_fields`.
        manifest: the table's.
    """
    classes = list(cases.classes)
    moment = {"$date": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    targets = {str(c + 1): label for c, label in enumerate(classes)} | {str(void_of(len(classes))): "void"}
    return {
        "_id": object_id(name),
        "name": name,
        "slug": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "torchvice",
        "version": VERSION,
        "created_at": moment,
        "last_modified_at": moment,
        "last_loaded_at": moment,
        "sample_collection_name": f"samples.{object_id(name)['$oid']}",
        "persistent": False,
        "media_type": "image",
        "group_media_types": {},
        "tags": ["torchvice"],
        "info": _info(cases, manifest),
        "app_config": _app_config(regions, list(maps)),
        "classes": {"ground_truth": classes, "predictions": classes},
        "default_classes": classes,
        "mask_targets": {"segmentation": targets} if regions == "masks" else {},
        "default_mask_targets": {},
        "skeletons": {},
        "sample_fields": sample_fields(exclusive, regions, maps),
        "frame_fields": [],
        "saved_views": _views(cases, exclusive, moment),
        "workspaces": [],
        "annotation_runs": {},
        "brain_methods": {},
        "evaluations": {},
        "runs": {},
    }


def _info(cases: Cases, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """How the table was made, as shown in `dataset.info`."""
    names = ("made_by", "model", "dataset", "targets", "protocols", "versions", "seed")
    info = {name: storable(manifest.get(name)) for name in names}
    info["explanations"] = [{"id": name, **storable(how)} for name, how in manifest["explanations"].items()]
    info["protocol"], info["explanation"] = cases.protocol, cases.explanation
    info["quadrants"] = {"cutoffs": storable(cases.cutoffs), "words": dict(QUADRANTS), "counts": cases.counts()}
    return info


def _app_config(regions: str, maps: Sequence[str]) -> dict[str, Any]:
    labels = ["ground_truth", "predictions", *{"masks": ["segmentation"], "boxes": ["boxes"]}.get(regions, [])]
    known = ("size_bytes", "mime_type", "width", "height", "num_channels")
    groups = {
        "tags": ["tags", "_label_tags"],
        "labels": labels,
        "maps": list(maps),
        "numbers": list(NUMBERS),
        "metadata": [f"metadata.{name}" for name in known],
        "primitives": ["id", "filepath", "image_id", "created_at", "last_modified_at"],
    }
    return {
        "grid_media_field": "filepath",
        "modal_media_field": "filepath",
        "media_fields": ["filepath"],
        "media_fallback": False,
        "plugins": {},
        "sidebar_groups": [{"name": name, "paths": paths} for name, paths in groups.items()],
    }


def _views(cases: Cases, exclusive: bool, moment: dict[str, str]) -> list[dict[str, Any]]:
    """One view per quadrant, its clearest cases first, and the images by loss."""
    here = "$ground_truth" if exclusive else "$$this"
    strength = "ground_truth.strength" if exclusive else {"$max": "$ground_truth.classifications.strength"}
    cut = cases.cutoffs
    predicted = "the likeliest class" if cut["probability"] is None else f"probability above {cut['probability']:g}"
    sides = f"found: {predicted}; on the object: IoU of at least {cut['iou']:g}"
    views = []
    for quadrant, words in QUADRANTS.items() if cases.pairs else ():
        kept = {"$eq": [f"{here}.quadrant", quadrant]}
        stage = {"field": "ground_truth", "filter": kept, "only_matches": True, "trajectories": False}
        views.append((words, f"True labels, the clearest first; {sides}", [("FilterLabels", stage), _by(strength)]))
    views.append(("highest loss", "All images, the highest loss first", [_by("loss")]))
    return [
        {
            "_id": object_id(name),
            "name": name,
            "description": description,
            "slug": re.sub(r"[^a-z]+", "-", name),
            "color": None,
            "view_stages": [
                json.dumps({"_cls": _STAGES + stage, "kwargs": [list(pair) for pair in kwargs.items()]})
                for stage, kwargs in stages
            ],
            "created_at": moment,
            "last_modified_at": moment,
            "last_loaded_at": None,
        }
        for name, description, stages in views
    ]


def _by(what: Any) -> tuple[str, dict[str, Any]]:
    return "SortBy", {"field_or_expr": what, "reverse": True, "create_index": False}

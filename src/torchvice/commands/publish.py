"""`vice publish`: a table's numbers, or its data, in the formats of others. Files are written; nothing is uploaded."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Literal, get_args

from torchvice.commands.measure import Measured, measure_path
from torchvice.commands.tables import dataset_of
from torchvice.errors import ViceError, did_you_mean
from torchvice.files import check_writable, write_text
from torchvice.samples import Samples

__all__ = ["FORMS", "Form", "publish"]

Form = Literal["hub", "model-index", "timm-csv", "croissant", "json"]
FORMS: tuple[Form, ...] = get_args(Form)


def publish(
    path: str | os.PathLike[str],
    to: Form,
    out: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    dataset_id: str | None = None,
    name: str | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> list[Path]:
    """Write what another tool or site reads.

    Args:
        path: a RUN or the folder of a table.
        to: `hub` (.eval_results/NAME.yaml of a model's repository), `model-index` (README.md with the metadata of a
            model card), `timm-csv` (results.csv), `croissant` (croissant.json, records.csv) or `json` (measures.json).
        out: folder. None: publish/ in the RUN, or next to the table.
        split: of a RUN that was assessed on several.
        dataset_id: of `hub`, the dataset's repository, OWNER/NAME.
        name: of the model; of `croissant`, of the dataset. None: the RUN's; the network's for timm; the folder's.
        replicates, seed: as for `torchvice.measure`.

    Returns:
        The files.

    Raises:
        ViceError: an unknown form, a CSV, a missing `dataset_id`, or a file that is there with other content.
    """
    if to not in FORMS:
        raise ViceError(f"--to must be one of {', '.join(FORMS)}, but is {to!r}.", did_you_mean(to, FORMS))
    if (to == "hub") != (dataset_id is not None):
        if dataset_id is None:
            raise ViceError(
                "Results for the Hub belong to a dataset there, but none is named.",
                "Give its repository: --dataset-id OWNER/NAME. For a model card alone: --to model-index.",
            )
        raise ViceError(f"--dataset-id goes with --to hub, but --to is {to}.", "Leave it out.")
    check_writable(out, "--out", folder=True)
    measured = measure_path(path, split, replicates=0 if to == "croissant" else replicates, seed=seed)
    if measured.samples is None:
        raise ViceError(
            f"A RUN or a table's folder is published, but {path} is a file.", "Assess the model: vice assess."
        )
    folder = Path(out) if out is not None else measured.home / "publish"
    return [
        _written(folder / file, text) for file, text in _texts(measured, measured.samples, to, dataset_id, name).items()
    ]


def _texts(measured: Measured, samples: Samples, to: Form, dataset_id: str | None, name: str | None) -> dict[str, str]:
    """The files of a form: {path: content}."""
    from torchvice.measures import explanations_table
    from torchvice.publish import croissant, eval_results, model_card, timm_row

    measures, manifest = measured.measures, samples.manifest
    model = name or measured.title
    if to == "hub":
        return {f".eval_results/{_slug(model)}.yaml": eval_results(measures, manifest, str(dataset_id))}
    if to == "model-index":
        table = explanations_table(measures) if "vice" in measures.quality else None  # not without `strict` or masks
        return {"README.md": model_card(measures, manifest, model, table)}
    if to == "timm-csv":
        return {"results.csv": timm_row(samples, measures, name or manifest.get("made_by", {}).get("network") or model)}
    if to == "json":
        return {"measures.json": json.dumps(measures.to_json(), indent=1, allow_nan=False) + "\n"}
    dataset = dataset_of(samples)
    if dataset is None:
        root = manifest["dataset"].get("root") or "objects in Python"
        raise ViceError(
            f"Croissant describes the data of the table, {root}, but they are not there.",
            "Change to the folder in which the assessment was started.",
        )
    text, records = croissant(dataset, name or _slug(Path(dataset.root).resolve().name))
    return {"records.csv": records, "croissant.json": text}


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"


def _written(path: Path, text: str) -> Path:
    """Write a file, but over no other content: a model card may have been edited."""
    if path.is_file() and path.read_bytes() != text.encode():
        raise ViceError(
            f"{path} is there with other content, and is kept.", "Give another folder (--out), or remove it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_text(path, text)

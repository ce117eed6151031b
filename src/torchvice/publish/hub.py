"""Evaluation results and a model card for the Hugging Face Hub, by the classes of huggingface_hub."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import PurePath
from typing import Any

import yaml

from torchvice.errors import ViceError
from torchvice.measures import Measures, ResultTable
from torchvice.publish.published import headline, how_made

__all__ = ["eval_results", "model_card"]

_TASK = "image-classification"


def eval_results(measures: Measures, manifest: Mapping[str, Any], dataset_id: str, revision: str | None = None) -> str:
    """The content of a file .eval_results/NAME.yaml of a model's repository.

    Args:
        measures: of the model.
        manifest: of its table.
        dataset_id: the repository of the dataset on the Hub, OWNER/NAME. Its eval.yaml must define the tasks that the
            entries name, such as `strict_vice`.
        revision: the commit of that repository.

    Returns:
        An entry for each headline number, with protocol, maps, images and interval in its notes.

    Raises:
        ViceError: `dataset_id` has another form, or huggingface_hub is not installed or too old.
    """
    entry_of, to_yaml = _of_hub("EvalResultEntry", "eval_result_entries_to_yaml")
    owner, slash, name = dataset_id.partition("/")
    if not (owner and slash and name) or "/" in name or dataset_id.split() != [dataset_id]:
        raise ViceError(
            f"The dataset must be a repository of the Hub, OWNER/NAME, but is {dataset_id!r}.",
            "For example --dataset-id my-group/street-photographs.",
        )
    entries = [
        entry_of(
            dataset_id=dataset_id,
            dataset_revision=revision,
            task_id=one.path.replace(".", "_"),
            value=one.value,
            notes=", ".join(filter(None, [one.label, one.interval, how_made(measures, manifest, one.path)])),
        )
        for one in headline(measures)
    ]
    return _yaml(to_yaml(entries))


def model_card(measures: Measures, manifest: Mapping[str, Any], name: str, table: ResultTable | None) -> str:
    """A section of a model card: the model-index as its metadata, then the verdict and the numbers as text.

    Args:
        measures: of the model.
        manifest: of its table.
        name: of the model.
        table: its explanations and controls, see `torchvice.measures.explanations_table`; None: without pairs of
            `strict`.

    Raises:
        ViceError: huggingface_hub is not installed or too old.
    """
    result_of, card_of = _of_hub("EvalResult", "ModelCardData")
    data = manifest["dataset"]
    split = str(data.get("split") or "") or None
    dataset = PurePath(str(data.get("root") or "")).name or "own images"
    results = [
        result_of(
            task_type=_TASK,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=one.path.replace(".", "_"),
            metric_name=one.label,
            metric_value=one.value,
        )
        for one in headline(measures)
    ]
    index = card_of(model_name=name, eval_results=results, tags=["torchvice", _TASK]).to_yaml()
    lines = ["---", index.strip(), "---", "", f"# {name}", "", "## Is it right for the right reasons?", ""]
    for sentence in measures.verdict.sentences:
        lines += [sentence, ""]
    if measures.verdict.caveats:
        lines += [f"Mind: {' '.join(measures.verdict.caveats)}", ""]
    lines += ["| measure | value | 95 % interval |", "| --- | ---: | --- |"]
    for one in headline(measures):
        interval = one.interval.removeprefix("95 % interval ")
        lines.append(f"| {one.label} | {one.value:.4f} | {interval} |")
    lines += ["", *(f"{one.label}: {one.doubt}\n" for one in headline(measures) if one.doubt)]
    made = how_made(measures, manifest, "strict.vice" if "strict" in manifest["protocols"] else "paper.vice")
    lines += [*([] if table is None else [table.to_markdown().strip(), ""]), f"Made by {made}.", ""]
    return "\n".join(lines)


def _of_hub(*names: str) -> tuple[Any, ...]:
    """Names of huggingface_hub, which comes with timm, but may be older than its results."""
    try:
        hub: Any = import_module("huggingface_hub")
        return tuple(getattr(hub, name) for name in names)
    except (ImportError, AttributeError):
        raise ViceError(
            "Files for the Hub are written by huggingface_hub 1.4 or later, which is not installed.",
            "pip install 'torchvice[publish]'",
        ) from None


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

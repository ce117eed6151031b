"""`vice assess`: steps 2 to 4 on a RUN or on files from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchvice.runs.subject import Subject
    from torchvice.samples import Samples

__all__ = ["assess_subject", "check_names"]


Progress = Callable[[int, int], None]


def check_names(
    method: str,
    layer: str | None,
    choices: Sequence[str],
    device: str,
    protocols: Sequence[str],
    controls: bool | Sequence[str] | None = None,
    also: Sequence[str] = (),
    faithfulness: Sequence[str] = (),
) -> None:
    """Tell what can be told of the arguments of `assess_subject` and `explain_subject` before a model is built.

    Raises:
        ViceError: see `torchvice.assessment.check_asked`.
    """
    from torchvice.assessment.checks import check_asked
    from torchvice.explain import Choices, FaithfulnessChoices

    check_asked(
        protocols,
        method=method,
        layer=layer,
        choices=Choices.parse(choices),
        controls=controls or False,
        also=also,
        faithful=FaithfulnessChoices.parse(faithfulness) if faithfulness else None,
        device=device,
    )


def _how(subject: Subject, method: str, layer: str | None, choices: Sequence[str], device: str) -> dict[str, Any]:
    """The arguments that `assess` and `write_map_files` have in common."""
    from torchvice.explain import Choices

    return {
        "method": method,
        "layer": layer,
        "class_map": subject.class_map,
        "choices": Choices.parse(choices),
        "view_size": subject.view_size,
        "crop": subject.crop,
        "mean": subject.mean,
        "std": subject.std,
        "batch_size": subject.batch_size,
        "device": device,
    }


def assess_subject(
    subject: Subject,
    *,
    protocols: Sequence[Any] = ("paper", "strict"),
    method: str = "auto",
    layer: str | None = None,
    choices: Sequence[str] = (),
    controls: bool | Sequence[str] | None = None,
    also: Sequence[str] = (),
    faithfulness: Sequence[str] = (),
    device: str = "auto",
    workers: int = 2,
    targets: Any = None,
    part: Any = None,
    progress: Progress | None = None,
    passes: Progress | None = None,
) -> Samples:
    """Steps 2 to 4 in one pass, see `torchvice.assess`.

    `choices` are texts, see `torchvice.explain.Choices.parse`, and so is `faithfulness`, see
    `torchvice.explain.FaithfulnessChoices.parse`; `controls` None: those that the table has, where it is begun already;
    all of a new one, where `strict` is assessed. (`torchvice.assess` has none unless they are asked for.)

    Raises:
        ViceError: see `torchvice.assess`; before it begins, files of the dataset that cannot be used, see
            `torchvice.data.check_files`.
    """
    from torchvice.assessment import WHOLE, assess
    from torchvice.data.check import check_files
    from torchvice.explain import FaithfulnessChoices

    check_files(subject.dataset)
    if controls is None:
        controls = _controls_of(subject.out) if "strict" in protocols else False
    return assess(
        subject.model,
        subject.dataset,
        out=subject.out,
        protocols=protocols,
        workers=workers,
        targets=targets,
        controls=controls,
        also=also,
        faithfulness=FaithfulnessChoices.parse(faithfulness) if faithfulness else (),
        made_by=subject.made_by,
        part=part or WHOLE,
        progress=progress,
        passes=passes,
        **_how(subject, method, layer, choices, device),
    )


def _controls_of(folder: Path) -> bool | list[str]:
    """The controls of the table that lies in a folder, finished or not; all where there is none."""
    from torchvice.samples import ShardFolder

    table = ShardFolder(folder)
    if not table.manifest_path.is_file() or not table.shards():
        return True
    manifest = table.manifest()
    known = manifest["explanations"] | manifest["adding"]
    return [name.partition(":")[2] for name, settings in known.items() if settings["role"] == "control"]

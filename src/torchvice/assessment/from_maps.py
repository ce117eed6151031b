"""assess_maps: the maps and logits of another tool become the table that `assess` writes, without a network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from torchvice.assessment.foreign_maps import ForeignMaps, Survey
from torchvice.assessment.images import Dataset, kind_of_targets
from torchvice.assessment.ledger import common_of
from torchvice.assessment.map_settings import MapSettings
from torchvice.assessment.opened import opened_out, refuse_random
from torchvice.assessment.parts import WHOLE, Part, locked_part
from torchvice.assessment.pipeline import Pipeline, Progress
from torchvice.assessment.request import Extras
from torchvice.assessment.scores import Scores, read_scores
from torchvice.errors import ViceError
from torchvice.samples import FOREIGN, Samples, ShardFolder

if TYPE_CHECKING:
    from torchvice.assessment.maps_view import MapsView
    from torchvice.assessment.outputs import Outputs
    from torchvice.explain.maps import Normalisation

__all__ = ["assess_maps"]

OUTPUTS = "Probabilities, or per cent divided by 100: --outputs probabilities. Logits: --outputs logits."


def assess_maps(
    maps: str | os.PathLike[str],
    scores: str | os.PathLike[str],
    dataset: Dataset,
    *,
    out: str | os.PathLike[str],
    normalisation: Normalisation = "max",
    view_size: int = 224,
    controls: bool | Sequence[str] | None = True,
    targets: Literal["multilabel", "exclusive"] | None = None,
    outputs: Outputs | None = None,
    workers: int = 2,
    shard_size: int = 128,
    part: Part = WHOLE,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Samples:
    """Count the maps of another tool against the masks, under `strict`: the table that `assess` writes with a network.

    Maps are cut at 0, enlarged bilinearly to the image and divided by their maximum, as torchvice's own.

    Args:
        maps: folder of maps, see `torchvice.assessment.foreign_maps.ForeignMaps`.
        scores: file of logits, see `torchvice.assessment.scores.read_scores`.
        dataset: see `Dataset`.
        out: folder of the table; created if missing.
        normalisation: see `torchvice.explain.normalise`; "none" takes maps in [0, 1] as they are.
        view_size: pixels, the side of the images that the network saw. Controls are drawn on a grid of 1/32 of it, if
            the maps do not show theirs because they were enlarged before they were saved.
        controls: names of controls that need no network; True: all four; None: those of a resumed table, else all four.
        targets, outputs, workers, shard_size, part, progress: as for `torchvice.assess`; outputs are the scores, and a
            softmax is taken over those of the data's classes.
        say: called with sentences on what was found in the files.

    Returns:
        Samples, read back from `out`.

    Raises:
        ViceError: maps or scores that are missing or cannot be used, a control that needs the network, maps outside
            [0, 1] with the normalisation "none", or an `out` with the table of another assessment or other things.
    """
    from torchvice.explain import Choices

    settings = MapSettings(choices=Choices(normalisation=normalisation), view_size=view_size, outputs=outputs)
    refuse_random(dataset)
    pipeline = Pipeline(dataset, ShardFolder(opened_out(out)), workers, part)  # it checks the dataset
    kind = kind_of_targets(dataset, targets)
    extras = Extras.of(_controls(controls, Path(out)))
    request = _request_of(pipeline, ForeignMaps(maps, dataset), Path(scores), settings, extras, kind, say)
    with locked_part(Path(out), part, common_of(request) | {"shard_size": shard_size}):
        return pipeline.run(request, shard_size, progress)


def _request_of(
    pipeline: Pipeline,
    files: ForeignMaps,
    scores: Path,
    settings: MapSettings,
    extras: Extras,
    kind: str,
    say: Callable[[str], None] | None,
) -> dict[str, Any]:
    """Read the scores and look through the maps; returns the manifest of the requested table."""
    from torchvice.assessment.maps_view import MapsView

    ids = [str(record.image_id) for record in pipeline.dataset.records]
    read = read_scores(scores, list(pipeline.dataset.classes))
    logits = _logits(read, ids, kind == "exclusive", settings.outputs)
    survey = files.survey(pipeline.workers)
    view = MapsView(files, dict(zip(ids, logits, strict=True)), settings)
    _check_range(view, survey)
    for sentence in _sentences(survey, files, read, ids) if say is not None else ():
        say(sentence)  # type: ignore[misc]
    if say is not None and settings.outputs is None and kind != "exclusive" and logits.min(initial=0) >= 0:
        say(f"No score in {read.path} is below 0: as logits, they say that every image has every class. {OUTPUTS}")
    views: dict[str, Any] = {"strict": view}
    made_by = {"maps": files.folder.name, "scores": read.path.name}
    request = pipeline.request(views, extras, kind, made_by, check_outputs=False)
    request["model"] = {"type": FOREIGN, "weights_sha256": "", "class_map": None}
    request["maps"] = {"folder": str(files.folder), "images": survey.to_dict()}
    request["contents"] |= {"maps": survey.digest, "scores": hashlib.sha256(logits.tobytes()).hexdigest()}
    return request


def _controls(controls: bool | Sequence[str] | None, out: Path) -> tuple[str, ...]:
    from torchvice.assessment.controls import CONTROLS

    cheap = tuple(name for name, control in CONTROLS.items() if control.cheap)
    if controls is None:
        held = Extras(controls=None).for_table(out).controls or ()
        return tuple(name for name in held if name in cheap)
    if isinstance(controls, bool):
        return cheap if controls else ()
    if needing := [name for name in controls if name in CONTROLS and name not in cheap]:
        raise ViceError(
            f"The control {needing[0]} needs the network, but maps of another tool come without it.",
            f"Use --controls cheap: {', '.join(cheap)}.",
        )
    return tuple(controls)


def _logits(scores: Scores, ids: Sequence[str], exclusive: bool, outputs: Outputs | None) -> np.ndarray:
    """(N, C) float32."""
    import torch

    from torchvice.assessment.outputs import log_of_softmax, logits_of, refuse_probabilities
    from torchvice.explain.softmax import softmax_logits

    found = scores.of(ids)
    if outputs is None:
        # Without a network there is no other sign of per cent than the numbers, and a logit of 20 is rare: few suffice.
        refuse_probabilities(found, exclusive, f"The scores in {scores.path}", "the file", fewest=1)
    if outputs == "softmax":
        return softmax_logits(log_of_softmax(torch.tensor(found)), log=exclusive).numpy()
    return logits_of(torch.tensor(found), exclusive).numpy() if outputs == "probabilities" else found


def _check_range(view: MapsView, survey: Survey) -> None:
    if view.choices.normalisation == "none" and survey.above_one:
        raise ViceError(
            f"Without normalisation maps must lie in [0, 1], but reach {survey.largest:g} in {len(survey.above_one)} "
            f"images, such as `{survey.above_one[0]}`.",
            "Leave normalisation=none out: each map is then divided by its maximum. Or divide per cent by 100.",
        )


def _sentences(survey: Survey, files: ForeignMaps, scores: Scores, ids: Sequence[str]) -> Iterator[str]:
    """What was found in the files and how it counts."""

    def of(names: Sequence[str]) -> str:
        return f"{len(names)} of {len(ids)} images, such as `{names[0]}`"

    if survey.resized:
        yield f"Maps of another size than the image: {of(survey.resized)}. They are enlarged bilinearly."
    if survey.negative:
        yield f"Maps with values below 0: {of(survey.negative)}. Such values count as 0."
    if survey.not_finite:
        yield f"Maps with NaN or infinite values: {of(survey.not_finite)}. Such a map counts as a miss."
    if survey.above_one:
        yield (
            f"Maps with values above 1 (up to {survey.largest:g}): {of(survey.above_one)}. Each map is divided by its "
            "maximum."
        )
    if survey.surplus:
        yield f"Maps of classes that the image does not have are left out: {of(survey.surplus)}."
    if survey.unknown:
        yield f"{len(survey.unknown)} files in {files.folder} belong to no image, such as {survey.unknown[0]}."
    if beyond := scores.beyond(ids):
        yield f"{len(beyond)} images in {scores.path} are not in the dataset's list, such as `{beyond[0]}`."
    if scores.ignored:
        yield f"Columns of {scores.path} that are no class are ignored: {', '.join(scores.ignored)}."

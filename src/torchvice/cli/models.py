"""`vice assess --models`: many networks in one command."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.folders import image_arguments, opened_data
from torchvice.cli.subject import arguments_of, choice_value, chosen_settings, say_data
from torchvice.cli.terminal import progress_bar, say, stopped
from torchvice.errors import ViceError

if TYPE_CHECKING:
    from torchvice.assessment import Extras, MapSettings, Part
    from torchvice.commands.model_states import ListedModel
    from torchvice.data import FolderDataset
    from torchvice.runs.subject import Subject

__all__ = ["CACHE", "MODELS", "PRETRAINED", "RANDOM_WEIGHTS", "assess_many"]

many_option = functools.partial(typer.Option, rich_help_panel="Many models")
MODELS = many_option(
    None,
    "--models",
    help="Many networks in place of --model: a file with a name a line (and perhaps a file of weights), a wildcard of "
    "timm's names ('resnet*', '*.in1k'), or all. One table each, and models.csv, in --out.",
)
PRETRAINED = typer.Option(
    False, "--pretrained", help="Take timm's pretrained weights, from its cache or by download, in place of --weights."
)
RANDOM_WEIGHTS = typer.Option(
    None, "--random-weights", help="Seed of random weights in place of --weights: an untrained network.", min=0
)
CACHE = many_option(
    None,
    "--cache",
    help="Most memory for decoded images, which the models share, such as 2G or 500M. Default: a quarter of the "
    "machine's. Images that do not fit are assessed block by block.",
)
_ALONE = ("run", "model", "weights", "weights_key", "maps", "scores")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_OWN_WEIGHTS = "Give the files in the list, --pretrained, or --random-weights SEED."


def assess_many(chosen: Mapping[str, Any], extras: Extras, part: Part) -> None:
    """Assess the networks of `--models`; ends with status 1 if one failed.

    Args:
        chosen: the values of the command's options by their parameters.
        extras: see `torchvice.assess`.
        part: of this process.
    """
    from torchvice.assessment.request import check_request
    from torchvice.commands.assess_models import ManyModels, assess_models, default_memory

    _check_alone(chosen)
    settings = chosen_settings(chosen)
    check_request(chosen["protocol"].protocols, extras)
    memory = default_memory() if chosen["cache"] is None else _bytes_of(chosen["cache"])
    models = _models(chosen, settings)
    dataset = _dataset(chosen)
    say_data(dataset)
    out = chosen["out"] or Path("runs") / "models" / dataset.split
    build = functools.partial(_subject, chosen, settings, dataset)
    many = ManyModels(
        models=models,
        build=build,
        dataset=dataset,
        out=out,
        request=_request(chosen, settings, extras),
        protocols=chosen["protocol"].protocols,
        extras=extras,
        targets=choice_value(chosen["targets"]),
        workers=chosen["workers"],
        part=part,
        memory=memory,
        retry=chosen["processes"] == 1,
    )
    with stopped(out / "models.csv"), progress_bar("images") as bar:
        rows = assess_models(many, say, bar, bar.passes)
    states = [row.state for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("done", "failed", "waiting") if state in states)
    say(f"{out / 'models.csv'}: {len(rows)} models: {counts}. Each has its table beside it: vice measure {out}/FOLDER")
    if "failed" in states:
        say("models.csv has the reasons. The same command tries these models again.")
        raise typer.Exit(1)


def _check_alone(chosen: Mapping[str, Any]) -> None:
    """Check that no option of one network is given."""
    for name in _ALONE:
        if chosen[name] is not None:
            option = "A run folder" if name == "run" else f"--{name.replace('_', '-')}"
            raise ViceError(
                f"--models takes the place of one network, but {option} is given too.",
                "Remove one. Files of weights: behind the names, in the file of --models.",
            )
    if chosen["checkpoint"] != "best":
        raise ViceError("--checkpoint names a checkpoint of a run folder, but --models is given.", "Remove one.")


def _dataset(chosen: Mapping[str, Any]) -> FolderDataset:
    data = chosen["data"]
    folders = image_arguments(chosen, f"--data {data}" if data else None)
    if data is None and chosen["images"] is None:
        raise ViceError("--models needs data, but none are given.", "Give --data DIR, or --images DIR and --masks DIR.")
    return opened_data(folders, data, chosen["split"], unlabelled=False)


def _models(chosen: Mapping[str, Any], settings: MapSettings) -> list[ListedModel]:
    """The listed networks, checked for weights; those that are shown one size belong together."""
    from dataclasses import replace

    from torchvice.models.listed import listed_models
    from torchvice.models.named import WITH_WEIGHTS, source_of

    if chosen["pretrained"] and chosen["random_weights"] is not None:
        raise ViceError("--pretrained and --random-weights exclude each other, but both are given.", "Remove one.")
    models = listed_models(chosen["models"], chosen["pretrained"])
    started = chosen["pretrained"] or chosen["random_weights"] is not None
    bare = [one for one in models if one.weights is None and source_of(one.name)[0] not in WITH_WEIGHTS]
    if bare and not started:
        raise ViceError(
            f"Every network needs weights, but {len(bare)} of {len(models)} have none, such as {bare[0].name}.",
            _OWN_WEIGHTS,
        )
    side = settings.view_size if settings.transform is None else settings.transform.side
    return list(models) if side is None else [replace(one, side=side) for one in models]


def _subject(
    chosen: Mapping[str, Any], settings: MapSettings, dataset: FolderDataset, model: ListedModel, out: Path
) -> Subject:
    """A listed network with the data; one that has weights of its own keeps them."""
    from torchvice.models.named import WITH_WEIGHTS, source_of
    from torchvice.runs.subject import subject_from_weights

    own = model.weights is not None or source_of(model.name)[0] in WITH_WEIGHTS
    return subject_from_weights(
        model.name,
        model.weights,
        dataset,
        out,
        chosen["class_map"],
        settings,
        arguments_of(chosen["argument"]),
        None,
        chosen["prompts"],
        pretrained=chosen["pretrained"] and not own,
        random_weights=None if own else chosen["random_weights"],
    )


def _request(chosen: Mapping[str, Any], settings: MapSettings, extras: Extras) -> dict[str, Any]:
    """What the tables of a folder have in common; `extras` may be added later."""
    from torchvice.files import sha256

    plain = {name: value for name, value in settings.to_dict().items() if name not in ("batch_size", "device")}
    files = [Path(str(value)) for value in (chosen["class_map"], chosen["prompts"], *chosen["plugin"]) if value]
    return {
        "protocols": list(chosen["protocol"].protocols),
        "targets": choice_value(chosen["targets"]),
        "class_map": chosen["class_map"],
        "arguments": arguments_of(chosen["argument"]),
        "pretrained": chosen["pretrained"],
        "random_weights": chosen["random_weights"],
        "map_settings": plain,
        "files": {path.name: sha256(path) for path in files if path.is_file()},
        "extras": {
            "controls": extras.controls,
            "also": extras.also,
            "faithfulness": extras.faithfulness and extras.faithfulness.to_dict(),
            "without": extras.without if extras.without in (None, "auto") else extras.without.to_dict(),  # type: ignore[union-attr]
        },
    }


def _bytes_of(text: str) -> int:
    """The bytes of a number with a unit.

    Example:
        >>> _bytes_of("2G"), _bytes_of("1.5M")
        (2147483648, 1572864)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise ViceError(
            f"--cache must be a number of bytes above 0, with K, M, G or T, but is {text!r}.", "Such as 2G."
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])

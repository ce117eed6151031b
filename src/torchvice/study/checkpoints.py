"""Checkpoints that a study names: runs that are assessed without training, and the files that they are made of."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvice.config import Settings, override_settings
from torchvice.config.sections import AssessSettings, ModelSettings, TransformSettings
from torchvice.errors import ViceError, brief, did_you_mean, near_path
from torchvice.models.named import source_of
from torchvice.study.file_digests import FileDigests, pretrained_digest

__all__ = [
    "FIELDS",
    "ORIGIN",
    "PRETRAINED",
    "UNNAMED",
    "Given",
    "GivenRun",
    "check_no_network",
    "check_no_training",
    "given_runs",
    "names_of",
    "without_fields",
]

FIELDS = ("checkpoint", "class_map", "weights_key")  # beside the settings of a level, or in `settings`
ORIGIN = ("origin", "checkpoint_path")  # columns of the table of a study that names checkpoints
PRETRAINED = "pretrained"  # in place of a file: the weights that the network's source has
UNNAMED = "?"  # network and data of a study without a base, until they are named

# What of a run's settings an assessment depends on; a RUN has a network and an input of its own.
_DATA = ("root", "eval_split", "classes", "labels", "masks", "exclusive")
_INPUT = ("crop", "interpolation", "mean", "std")
_OF_DATA = (*(f"data.{name}" for name in (*_DATA, "workers")), "assess.batch_size")
_OF_NETWORK = ("model.name", "model.arguments", "assess.view_size", *(f"transform.{name}" for name in _INPUT))


@dataclass(frozen=True)
class Given:
    """A checkpoint that is assessed without training.

    Attributes:
        checkpoint: as tables show it: the path of a file or RUN, or `pretrained`.
        digest: SHA-256 of the file; of pretrained weights, what they are known by.
        file: that is read; None: pretrained weights.
        run: folder of the RUN that has the checkpoint; "" for weights that torchvice did not train.
        class_map, weights_key: see `torchvice.runs.subject.subject_from_weights`.
    """

    checkpoint: str
    digest: str
    file: str | None
    run: str = ""
    class_map: str | None = None
    weights_key: str | None = None


@dataclass(frozen=True)
class GivenRun:
    """A run from a checkpoint, as planned: its seed, None if it has none, its settings, checkpoint, name and key."""

    seed: int | None
    settings: Settings
    given: Given
    name: str
    key: str


def without_fields(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the changes of a level into settings and the FIELDS of a checkpoint."""
    fields = {name: changes[name] for name in FIELDS if name in changes}
    return {name: value for name, value in changes.items() if name not in FIELDS}, fields


def check_no_training(names: Sequence[str], where: str) -> None:
    """Check that no setting is one of training, which would have no effect.

    Raises:
        ViceError: one is.
    """
    for name in names:
        known = name.split(".")[0] in Settings.model_fields and name not in ("session_name", "work_dir", "seed")
        if not known or _matches(name, (*_OF_DATA, *_OF_NETWORK)):
            continue
        raise ViceError(
            f"`{name}` is a setting of training, but {where} is given as a checkpoint and not trained.",
            "Leave out one of the two.",
        )


def check_no_network(names: Sequence[str], where: str) -> None:
    """Check that no setting is one of the network or its input, which a RUN has of its own.

    Raises:
        ViceError: one is.
    """
    for name in names:
        if _matches(name, _OF_NETWORK):
            raise ViceError(f"`{name}` has no effect on {where}: a RUN has its own.", "Leave it out.")


def given_runs(
    changes: Mapping[str, Any],
    fields: Mapping[str, Any],
    levels: Mapping[str, str],
    seeds: Sequence[int],
    base: Settings,
    beside: Path,
    digests: FileDigests,
) -> list[GivenRun]:
    """Plan the runs of a recipe whose checkpoints are given.

    Args:
        changes: settings of the levels, changed from the base.
        fields: the FIELDS of the levels and of all runs.
        levels: {axis: level}, which the name of a checkpoint may hold in braces.
        seeds: of the study, for names with `{seed}`.
        base: settings of the base.
        beside: folder of the study's file, where relative paths are looked for after the working directory.
        digests: of the files, which the folder of the study keeps.

    Raises:
        ViceError: a checkpoint that does not exist, settings that have no effect, or a field of another form.
    """
    of_levels = ", ".join(f"{axis} {level}" for axis, level in levels.items()) or "the base"
    class_map, key = (_text(fields, name, of_levels) for name in FIELDS[1:])
    class_map = None if class_map is None else _class_map(class_map, beside)
    check_no_training(list(names_of(changes)), f"the run {of_levels}")
    settings = override_settings(base, [f"{name}={json.dumps(value)}" for name, value in changes.items()])
    _check_data(settings, of_levels)
    planned = []
    for seed, text in _texts(fields["checkpoint"], levels, seeds, of_levels):
        if text == PRETRAINED:
            _check_network(settings, text, of_levels)
            digest = pretrained_digest(settings.model.name, digests)
            given, own = Given(PRETRAINED, digest, None, "", class_map, key), None
        else:
            path = _located(text, beside, digests, of_levels)
            own = digests.run_of(path)
            given = Given(str(path), digests.of_checkpoint(path), digests.file_of(path), "", class_map, key)
        if own is None:
            _check_network(settings, text, of_levels)
            run = settings
        else:
            given, run = _of_run(given, own, settings, changes, of_levels)
            seed = own["seed"] if seed is None else seed
        identity = _key(run, given, digests)
        planned.append(GivenRun(seed, run, given, _folder_name(run.model.name, seed, identity), identity))
    return planned


def _of_run(
    given: Given, own: Mapping[str, Any], settings: Settings, changes: Mapping[str, Any], of_levels: str
) -> tuple[Given, Settings]:
    """A checkpoint of a RUN, and the settings with the network and the input of the RUN."""
    fields = [name for name in FIELDS[1:] if getattr(given, name) is not None]
    check_no_network(list(names_of(changes)), f"the run {of_levels}")
    if fields:
        raise ViceError(
            f"`{fields[0]}` has no effect on the run {of_levels}: the outputs of a RUN are its classes.",
            "Leave it out.",
        )
    batch = {"batch_size": settings.assess.batch_size} if "assess.batch_size" in names_of(changes) else {}
    update = {
        "model": ModelSettings.model_validate(own["model"]),
        "transform": TransformSettings.model_validate(own["transform"]),
        "assess": AssessSettings(**{**own["assess"], **batch}),
    }
    return Given(given.checkpoint, given.digest, given.file, own["folder"]), settings.model_copy(update=update)


def _texts(
    value: Any, levels: Mapping[str, str], seeds: Sequence[int], of_levels: str
) -> Iterator[tuple[int | None, str]]:
    """The seeds and names of a recipe's checkpoints: of every seed with `{seed}` or a mapping, otherwise one."""
    entries: dict[Any, Any] = {}
    if isinstance(value, str):
        entries = dict.fromkeys(seeds if "{seed}" in value else (None,), value)
    elif isinstance(value, Mapping):
        entries = dict(value)
    wrong = [text for text in entries.values() if not isinstance(text, str) or not text]
    wrong += [seed for seed in entries if seed is not None and (type(seed) is not int or seed < 0)]
    if wrong or not entries:
        raise ViceError(
            f"`checkpoint` of the run {of_levels} must be a path, {PRETRAINED} or {{seed: path}}, but is "
            f"{brief(value)}.",
            "For several seeds: checkpoint: {1: first.ckpt, 2: second.ckpt}.",
        )
    for seed, text in entries.items():
        known = {**levels, **({} if seed is None else {"seed": str(seed)})}
        for name in re.findall(r"\{([^{}]*)\}", text):
            if name not in known:
                raise ViceError(
                    f"`{{{name}}}` in the checkpoint {text} must be the seed or an axis, but is neither.",
                    did_you_mean(name, ["seed", *levels]),
                )
            text = text.replace(f"{{{name}}}", known[name])
        yield seed, text


def _text(fields: Mapping[str, Any], name: str, of_levels: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise ViceError(f"`{name}` of the run {of_levels} must be a text, but is {brief(value)}.")
    return value


def _class_map(text: str, beside: Path) -> str:
    """The path of a class map, or the name of one that torchvice ships."""
    return next((str(path) for path in (Path(text), beside / text) if path.is_file()), text)


def _located(text: str, beside: Path, digests: FileDigests, of_levels: str) -> Path:
    """Find a file or RUN from the working directory, then from the folder of the study's file."""
    given = Path(os.path.expanduser(text))
    places = (given, beside / given)
    found = next((path for path in places if path.exists()), None)
    # The results of a checkpoint that was assessed and is gone stay.
    found = found or next((path for path in places if digests.knows(path)), None)
    if found is None:
        raise ViceError(
            f"The checkpoint of the run {of_levels} must be a file or a RUN, but {text} does not exist.",
            near_path(given) or f"For the weights that the network's source has: checkpoint: {PRETRAINED}.",
        )
    return found


def names_of(changes: Mapping[str, Any]) -> Iterator[str]:
    """The dotted names of settings, also of those in sections: `transform: {crop: 96}` is transform.crop."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and "." not in name:
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name


def _matches(name: str, known: Sequence[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in known)


def _check_data(settings: Settings, of_levels: str) -> None:
    if settings.data.root == UNNAMED:
        raise ViceError(
            f"The run {of_levels} needs data, but the study has no base and no data.root.",
            "Add settings: {data.root: FOLDER, data.eval_split: NAME}.",
        )


def _check_network(settings: Settings, text: str, of_levels: str) -> None:
    """Check that a network is named, and no code: no file of settings makes code run."""
    name = settings.model.name
    if name == UNNAMED:
        raise ViceError(f"The checkpoint {text} needs a network, but none is named.", "Add model.name beside it.")
    if source_of(name)[0] == "function":
        raise ViceError(
            f"A study's file must not name code that runs, but the network of the run {of_levels} is {name}.",
            f"Assess it by itself: vice assess --model {name}.",
        )


def _key(settings: Settings, given: Given, digests: FileDigests) -> str:
    """Hash what the result of a checkpoint depends on: its contents and not its place."""
    content = {
        "checkpoint": given.digest,
        "model": {"name": settings.model.name, "arguments": settings.model.arguments},
        "data": {name: getattr(settings.data, name) for name in _DATA},
        "input": {name: getattr(settings.transform, name) for name in _INPUT},
        "view_size": settings.assess.view_size,
    }
    if given.class_map is not None:
        content["class_map"] = digests.of_file(given.class_map) or given.class_map
    if given.weights_key is not None:
        content["weights_key"] = given.weights_key
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def _folder_name(network: str, seed: int | None, key: str) -> str:
    """A name of a folder for a network, such as resnet18-s1-0a1b2c3d4e.

    Example:
        >>> _folder_name("torchvision:resnet18", None, "0a1b2c3d4e"), _folder_name("resnet18.a1_in1k", 3, "0a1b2c3d4e")
        ('torchvision-resnet18-0a1b2c3d4e', 'resnet18-s3-0a1b2c3d4e')
    """
    stem = network if ":" in network else network.partition(".")[0]
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")
    return "-".join(part for part in (safe, "" if seed is None else f"s{seed}", key) if part)

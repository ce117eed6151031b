"""The ledger of a table: what made it, and what of it is done, so that a run resumes and explanations can be added."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchvice.assessment.controls import without_row
from torchvice.assessment.faithfulness import lacks_blank, lacks_faithfulness
from torchvice.assessment.interventions import lacks_answers, lacks_interventions
from torchvice.assessment.other_subject import other_mask_values, other_subject
from torchvice.errors import ViceError
from torchvice.samples import (
    Digests,
    Regions,
    Samples,
    ShardFolder,
    changed_images,
    named_images,
)
from torchvice.samples.checks import all_versions

__all__ = ["MEASURED", "Ledger", "common_of", "differences"]

# What is measured of maps in finished shards, now or later: the entry of the explanation's settings, and its test.
MEASURED = {"faithfulness": lacks_faithfulness, "interventions": lacks_interventions}

# What is not compared as a whole when a run resumes: what may differ, and what has a comparison of its own.
# `maps` is what a survey of another tool's files found, and `contents` compares these.
_LOOSE = (
    *("finished", "versions", "explanations", "adding", "added", "without_row", "map_settings", "files", "contents"),
    "maps",
    "later_versions",
)


def common_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What processes that make one table at the same time must have in common."""
    same = {name: v for name, v in manifest.items() if name in ("explanations", "contents") or name not in _LOOSE}
    return same | {"map_settings": _comparable(manifest)}


@dataclass
class Ledger:
    """A folder's manifest, joined with the present request.

    `manifest["explanations"]` are those that every finished shard holds, or will when it is made; `added` those of them
    that lie beside the shards; `adding` {id: settings} those that are being added, which no reader sees yet.
    """

    folder: ShardFolder
    requested: dict[str, Any]
    manifest: dict[str, Any]

    @classmethod
    def open(
        cls,
        folder: ShardFolder,
        requested: dict[str, Any],
        digests: Mapping[str, Digests] | None = None,
        *,
        adds: bool = True,
    ) -> Ledger:
        """Start a table, or resume one; `digests` of the dataset's images, by id, are for the message.

        `adds`: whether the caller can add what is requested to shards that are finished.

        Raises:
            ViceError: the folder holds the table of another assessment, or without `adds` one that needs additions.
        """
        requested = json.loads(json.dumps(requested))  # as it comes back from the manifest: tuples are lists there
        if folder.shards() and not folder.manifest_path.is_file():
            raise ViceError(
                f"{folder.folder} holds shards of a table, but no manifest.json that says which model made them.",
                "Restore the manifest, or delete that folder to begin again.",
            )
        if not folder.shards():  # nothing is lost where nothing was finished
            ledger = cls(folder, requested, {**requested, "added": [], "adding": {}})
        else:
            before = folder.manifest(resumed=True)
            known = before["explanations"] | before["adding"]
            _refuse_another(folder, requested, before, known)
            _refuse_changed(folder, requested["contents"], before.get("contents", {}), digests or {})
            if not adds:
                _refuse_more(folder, requested["explanations"], before["explanations"])
            new = {name: settings for name, settings in requested["explanations"].items() if name not in known}
            kept = {name: before[name] for name in ("added", "finished", "versions")}
            kept["contents"] = before.get("contents", {})  # of the rows that are there
            kept["explanations"] = _joined(before["explanations"], requested["explanations"])
            # Until all shards have what is measured now, the numbers of some images alone must not pass for all.
            kept["finished"] = before["finished"] and not _newly_measured(before["explanations"], kept["explanations"])
            kept["adding"] = _joined(before["adding"], requested["explanations"]) | new
            ledger = cls(folder, requested, {**before, **requested, **kept})
            for name in ("files", "without_row"):  # until the table is finished again
                ledger.manifest.pop(name, None)
        folder.start(ledger.manifest)
        return ledger

    def begin(self) -> None:
        """Note the versions of this process before it makes rows, where others made those that are there."""
        versions = all_versions(self.manifest, self.requested["versions"])
        if versions != all_versions(self.manifest):
            self.manifest["later_versions"] = versions[1:]
            self.folder.start(self.manifest)

    def of_shards(self) -> set[str]:
        """The explanations that lie in the shards themselves."""
        return set(self.manifest["explanations"]) - set(self.manifest["added"])

    def beside(self) -> set[str]:
        """The explanations that lie beside the shards, or will."""
        return set(self.manifest["added"]) | (set(self.manifest["adding"]) & self._wanted())

    def absent(self, number: int) -> set[str]:
        """The explanations that a finished shard lacks."""
        return {name for name in self.beside() if not self.folder.has(number, name)}

    def check_unchanged(self, number: int, digests: Mapping[str, Digests]) -> None:
        """Check that images that were read again are those of a finished shard's rows.

        Raises:
            ViceError: an image or mask has changed.
        """
        changed = changed_images(self.folder.digests_of_images([number]), digests)
        if changed:
            raise _changed(" and ".join(changed), self.folder, named_images(changed, list(changed), len(digests)))

    def need(self, names: Iterable[str]) -> None:
        """Refuse to resume if the table needs an explanation that this request lacks."""
        lacking = sorted(set(names) - self._wanted())
        if lacking:
            raise ViceError(
                f"The table in {self.folder.folder} needs {', '.join(f'`{name}`' for name in lacking)}, "
                "but this request lacks it.",
                "Request it again to finish the table, or delete that folder to start over.",
            )

    def need_measured(self, what: str, names: Iterable[str]) -> None:
        """Refuse to resume if maps need what this request does not measure; `what` is a key of MEASURED."""
        requested = self.requested["explanations"]
        lacking = sorted(name for name in names if what not in requested.get(name, {}))
        if lacking:
            raise ViceError(
                f"The table in {self.folder.folder} needs the {what} of "
                f"{', '.join(f'`{name}`' for name in lacking)}, but this request lacks it.",
                "Request it again to finish the table, or delete that folder to start over.",
            )

    def measured(self, what: str) -> set[str]:
        """The explanations of which `what`, a key of MEASURED, belongs to the table."""
        known = self.manifest["explanations"] | self.manifest["adding"]
        return {name for name, settings in known.items() if what in settings}

    def unmeasured(self, what: str, number: int) -> set[str]:
        """The explanations of a finished shard of which `what` is still missing."""
        mine = self.of_shards()
        held = {name for name in self.measured(what) if name in mine or self.folder.has(number, name)}
        held = {name for name in held if what not in self._done(number, name).get(name, ())}
        lacking = {name for name in held if MEASURED[what](self.regions(number, name), name)}
        # A table of an earlier version is completed where it is asked for again.
        again = {name for name in held if what in self.requested["explanations"].get(name, {})}
        if what == "faithfulness":
            lacking |= {name for name in again if lacks_blank(self.regions(number, name), name)}
        elif self.manifest["targets"] == "exclusive":
            lacking |= {name for name in again if lacks_answers(self.regions(number, name), name)}
        return lacking

    def regions(self, number: int, name: str) -> Regions:
        """The rows of regions that lie where those of an explanation do."""
        return self.folder.regions(number, None if name in self.of_shards() else name)

    def amend(self, number: int, name: str, regions: Regions, what: str) -> None:
        """Put rows in the place of those that lie there; `what`, a key of MEASURED, is measured in them."""
        done = self._done(number, name)
        done |= {name: [*done.get(name, ()), what]}
        self.folder.amend(number, regions, None if name in self.of_shards() else name, done)

    def to_measure(self, names: Iterable[str]) -> dict[str, list[str]]:
        """What new rows of explanations are measured for, by explanation: keys of MEASURED."""
        requested = self.requested["explanations"]
        found = {name: [what for what in MEASURED if what in requested.get(name, {})] for name in names}
        return {name: whats for name, whats in found.items() if whats}

    def _done(self, number: int, name: str) -> dict[str, list[str]]:
        return self.folder.measured(number, None if name in self.of_shards() else name)

    def complete(self, images: int) -> bool:
        """Whether the shards hold that many images with everything requested, so that no part has work left."""
        if len(self.folder.finished_images()) < images:
            return False
        missing = (self.absent(n) or any(self.unmeasured(what, n) for what in MEASURED) for n in self.folder.shards())
        return not any(missing)

    def finish(self) -> Samples:
        """Finish the table: explanations that were being added count from now on.

        A kill between the two writings leaves a table that is whole, and only its counts undone.
        """
        later = self.folder.manifest().get("later_versions", [])  # another part of the work may have noted its own
        if versions := all_versions(self.manifest, *later)[1:]:
            self.manifest["later_versions"] = versions
        adding, wanted = self.manifest["adding"], self._wanted()
        done = {name: settings for name, settings in adding.items() if name in wanted}
        self.manifest |= {
            "explanations": self.manifest["explanations"] | done,
            "added": [*self.manifest["added"], *done],
            "adding": {name: settings for name, settings in adding.items() if name not in done},
        }
        self.folder.start(self.manifest)
        samples = Samples.load(self.folder.folder)
        self.manifest |= {"without_row": without_row(samples), "finished": True, "files": self.folder.digests()}
        self.folder.start(self.manifest)
        return Samples(self.folder.manifest(), samples.images, samples.regions, samples.maps)

    def _wanted(self) -> set[str]:
        return set(self.requested["explanations"])


def _joined(held: Mapping[str, Any], requested: Mapping[str, Any]) -> dict[str, Any]:
    """The explanations of a table, with what the present request measures of them."""
    return {name: settings | requested.get(name, {}) for name, settings in held.items()}


def _newly_measured(held: Mapping[str, Any], joined: Mapping[str, Any]) -> bool:
    """Whether more is measured of a table's explanations than before."""
    return any(what in joined[name] and what not in settings for name, settings in held.items() for what in MEASURED)


def _refuse_more(folder: ShardFolder, requested: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """Refuse explanations that a table lacks, and what was not measured of those that it holds."""
    more = [f"`{name}`" for name in requested if name not in held]
    for name, settings in held.items():
        lacking = [what for what in MEASURED if what in requested.get(name, {}) and what not in settings]
        more += [f"`{what}` of `{name}`" for what in lacking]
    if more:
        raise ViceError(
            f"The table in {folder.folder} was made without {', '.join(more)}, and these rows cannot add it.",
            "Give another folder.",
        )


def _refuse_another(
    folder: ShardFolder, requested: Mapping[str, Any], before: Mapping[str, Any], known: Mapping[str, Any]
) -> None:
    """Refuse a request that differs from the table's: what was assessed is named first, and then the settings."""
    subject = other_subject(before, requested)
    wrong = differences(_comparable(before), _comparable(requested)) if "map_settings" in before else []
    if any("network" in phrase for phrase in subject):  # the place of its maps follows from it
        wrong = [phrase for phrase in wrong if not re.match(r"`layer`|`\w+` of `site`", phrase)]
    if (made := _protocols(before)) and made != (now := _protocols(requested)):
        wrong = [f"`protocol` is {_in_words(made)} in the table, but {_in_words(now)} now"]  # sizes follow from it
    values = other_mask_values(before["dataset"].get("chosen", {}), requested["dataset"].get("chosen", {}))
    wrong += [values.phrase] if values else []
    if not (subject or wrong):  # else the views and explanations below differ as well, and say it less clearly
        names = [name for name in requested if name not in _LOOSE]
        same = before.get("contents") == requested["contents"]
        wrong = differences(_entries(before, names, same), _entries(requested, names, same))
        for name, settings in requested["explanations"].items():
            held = known.get(name, settings)
            later = [what for what in MEASURED if not (what in settings and what in held)]  # now, earlier or later
            held, settings = ({k: v for k, v in each.items() if k not in later} for each in (held, settings))
            wrong += differences(held, settings, f" of the explanation `{name}`")
    parts = [f"is of {', '.join(subject)}"] if subject else []
    parts += [f"was made with other settings: {'; '.join(wrong)}"] if wrong else []
    if parts:
        way_out = "Delete that folder to start over, or write to another one."
        if not subject and all(phrase.startswith("`void` of `interventions`") for phrase in wrong):
            way_out = f"To go on as it was begun, add void={_void_of(known)} to --without; or write to another folder."
        if values and not subject and wrong == [values.phrase]:
            way_out = f"To go on as it was begun, {values.as_before}; or write to another folder."
        raise ViceError(f"The table in {folder.folder} {', and '.join(parts)}.", way_out)


def _void_of(explanations: Mapping[str, Any]) -> str:
    """Which void went with the objects that a table's explanations replaced."""
    return next(str(one["interventions"]["void"]) for one in explanations.values() if "interventions" in one)


def _protocols(manifest: Mapping[str, Any]) -> list[str]:
    """The protocols of the headline explanations, which are called `paper:METHOD` and `strict:METHOD`."""
    made = manifest.get("explanations", {})
    return sorted({name.partition(":")[0] for name, one in made.items() if one.get("role") == "headline"})


def _in_words(protocols: Sequence[str]) -> str:
    return "both" if len(protocols) == 2 else " and ".join(protocols)


def _entries(manifest: Mapping[str, Any], names: Iterable[str], same: bool) -> dict[str, Any]:
    """The entries by name, without what was chosen in the dataset: older tables lack it, and its parts are compared.

    `contents` compares files, and `other_mask_values` what their values mean. Where the contents are the `same`, the
    data may have moved to another folder, which the source of labels may name, too.
    """
    loose = ("chosen", "root", "labels") if same else ("chosen",)
    dataset = {name: value for name, value in manifest["dataset"].items() if name not in loose}
    return {name: manifest.get(name) for name in names} | {"dataset": dataset}


def _refuse_changed(
    folder: ShardFolder, now: Mapping[str, Any], held: Mapping[str, Any], digests: Mapping[str, Digests]
) -> None:
    """Refuse to add to rows of other ids, targets, images or masks; tables of earlier versions do not know theirs."""
    changed = [name for name in {**held, **now} if held and held.get(name) != now.get(name)]
    if changed:
        said = "ids" if "ids" in changed else " and ".join(changed)  # with other ids all the rest is another
        parts = ["masks" if name == "boxes" else name for name in changed]
        which = named_images(changed_images(folder.digests_of_images(), digests), parts, len(digests))
        raise _changed(said, folder, which)


def _changed(what: str, folder: ShardFolder, which: str) -> ViceError:
    return ViceError(
        f"The {what} of the dataset are not those that the table in {folder.folder} was made of.{which}",
        "Delete that folder to start over, write to another one, or restore them.",
    )


def _comparable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The map settings that the rows of a table depend on, those of `choices` one by one."""
    settings = manifest["map_settings"]
    settings = {**settings, "outputs": settings.get("outputs") or "logits"}  # tables of earlier versions have none
    settings = {**settings, **settings["choices"], "site": {**settings["site"], "layer": None}}  # `layer` says it
    unused = {"choices", "batch_size", "device"}
    unused |= set() if "paper" in manifest["protocols"] else {"crop"}
    # `paper` takes one of the choices too.
    unused |= (
        set()
        if "strict" in manifest["protocols"]
        else {"view_size", "interpolation", *settings["choices"]} - {"eigen_smooth"}
    )
    return {name: value for name, value in settings.items() if name not in unused}


def differences(held: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> list[str]:
    """A phrase for every field that differs; fields of a dictionary one by one."""
    phrases = []
    for name in {**held, **now}:
        a, b = held.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            phrases += differences(a, b, f" of `{name}`{where}")
        elif a != b and not (name == "code_sha256" and _is_incomparable(a, b)):
            values = ["not set" if value is None else reprlib.repr(value) for value in (a, b)]
            phrases.append(f"`{name}`{where} is {values[0]} in the table, but {values[1]} now")
    return phrases


def _is_incomparable(held: str | None, now: str | None) -> bool:
    """Whether digests of code say nothing: a table of an earlier version has none, and another Python has others."""
    return held is None or now is None or held.partition(":")[0] != now.partition(":")[0]

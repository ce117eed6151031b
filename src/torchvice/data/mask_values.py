"""What the values of masks mean where no file says it: one class of two values, or the classes that are given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from torchvice.data.images import MANY, VOID, present_values, read_grey_mask
from torchvice.data.named_values import NamedValues, suggestion
from torchvice.errors import ViceError, brief
from torchvice.metrics.overlap import void_of

__all__ = [
    "FULL",
    "ONE_CLASS",
    "MaskValues",
    "forms_of",
    "found_values",
    "mask_values",
    "refuse_forms",
    "refuse_mixed",
    "spread",
    "values_from",
]

FULL = (VOID, (1 << 16) - 1)  # white of 8 and of 16 bits, which is the object where masks hold nothing but it and 0
ONE_CLASS = "object"  # the name of the one class of masks without a list of classes
FORMS = 16  # masks that are read for their form
CHUNK = 64  # masks that are read at once; reading ends with the first chunk that decides


@dataclass(frozen=True)
class MaskValues:
    """What a mask's values mean.

    Attributes:
        classes: (C,) names.
        object_value: the value of the one object in masks of 0, this value and void; None: masks hold labels.
        note: a sentence that says so, or "".
        named: what the values of the one object's masks mean, as the user says.
    """

    classes: tuple[str, ...]
    object_value: int | None = None
    note: str = ""
    named: NamedValues | None = None

    def read(self, path: Path, label: int = 1) -> np.ndarray:
        """Read the labels of a mask, (H, W) integers; `label` is that of the one object.

        Raises:
            ViceError: see `torchvice.data.read_mask`; or another value in masks of one object.
        """
        return self.labels_of(read_grey_mask(path, labels=self.white_is_void), f"The mask {path}", label)

    def labels_of(self, mask: np.ndarray, name: str, label: int = 1) -> np.ndarray:
        """Return the labels of a mask's values, of any shape; `name` is for messages.

        Raises:
            ViceError: another value in masks of one object.
        """
        if self.named is not None:
            return self.named.labels_of(mask, name, label, self.void)
        if self.object_value is None:
            return mask
        ignored = (mask == VOID) | (mask == self.void)
        strange = mask[(mask != 0) & (mask != self.object_value) & ~ignored]
        if strange.size:
            raise ViceError(f"{name} must hold 0 and {self.object_value} only, but holds {int(strange[0])}.")
        labels = np.where(mask == self.object_value, label, np.where(ignored, self.void, 0))
        return labels.astype(np.uint8 if self.void == VOID else np.int32)

    @property
    def void(self) -> int:
        """The label of void."""
        return void_of(len(self.classes))

    @property
    def white_is_void(self) -> bool:
        """Whether 255 is void, so that a mask in black and white has no object."""
        return self.object_value != VOID if self.named is None else self.named.meaning_of(VOID) == "void"

    def labels_in(self, found: Iterable[int], name: str) -> list[int]:
        """Return the labels of classes among the values of a mask.

        Raises:
            ViceError: see `torchvice.data.check_mask` and `labels_of`.
        """
        values = self.labels_of(np.array(sorted(found), dtype=np.int64), name)
        outside = values[((values < 0) | (values > len(self.classes))) & (values != self.void)]
        if outside.size:
            raise ViceError(
                f"{name} must hold 0 to {len(self.classes)} and {self.void}, but holds {int(outside[0])}.",
                "Give the names of all classes, in the order of their labels: classes=[...].",
            )
        return [int(value) for value in values if value not in (0, self.void)]


def mask_values(
    masks: Sequence[Path], classes: Sequence[str] | None, where: str, named: NamedValues | None = None
) -> MaskValues:
    """Tell masks of one class and two values, 0 and 255 or 0 and 1, from masks of labels.

    Masks that cannot be read are passed over: they are reported where they are read.

    Args:
        masks: the files.
        classes: C names; None: not known.
        where: the folder or dataset, for messages.
        named: what the values mean, as the user says.

    Raises:
        ViceError: masks without an object; several classes, and masks that hold 0 and 255 only; no classes, and masks
            that hold more than two values; one class, and masks of other values than 0, 1 and 255; `named` values of
            several classes.
    """
    return values_from([] if named else found_values(masks), classes, where, named)


def values_from(
    drawn: Iterable[Set[int]], classes: Sequence[str] | None, where: str, named: NamedValues | None = None
) -> MaskValues:
    """Tell what masks mean from the values of each, see `mask_values`."""
    drawn = list(drawn)
    if named is not None:
        return _of_one_class(named, classes)
    found = set().union(*drawn)
    objects = found - {0}
    refuse_mixed(drawn, classes, where)
    full = max(objects, default=VOID) if objects <= set(FULL) and len(objects) < 2 else VOID
    if found and found <= {0, full} and classes and len(classes) > 1:
        raise ViceError(
            f"The masks of {where} hold only 0 and {full}, which is one class, but {len(classes)} are given: "
            f"{', '.join(classes)}.",
            f"Give its one name, such as --classes {classes[0]}, or masks with the value c + 1 for class c.",
        )
    if classes is not None and len(classes) == 1 and full == VOID:
        refuse_forms(drawn, {0, 1, VOID}, where)
    if found in ({0}, {full}) or (classes is None and len(found) == 1):
        raise ViceError(
            f"The masks of {where} must hold an object and the background, but hold only {min(found)}.",
            f"Draw the object as {VOID} (or 1) and the background as 0.",
        )
    if found == {0, full} or (classes is None and found == {0, 1}):
        name = ONE_CLASS if classes is None else classes[0]
        note = f"Masks hold only 0 and {max(found)}: {max(found)} is the class `{name}`, 0 is background."
        note += " Another name: --classes NAME (classes=['NAME'])." if classes is None else ""
        return MaskValues((name,), max(found), note)
    if classes is None and found:
        raise _without_classes(drawn, where)
    note = ""
    if _like_trimaps(found):
        note = f"No mask holds 0: no pixel is background. If the masks are trimaps of one class: {_option(found)}."
    return MaskValues(tuple(classes or (ONE_CLASS,)), note=note)


def _without_classes(drawn: Sequence[Set[int]], where: str) -> ViceError:
    """The error of masks of several values whose classes nobody names, or of one object with soft edges."""
    found = set().union(*drawn)
    objects = found - {0}
    labels = objects - {VOID}
    in_order = 0 in found and labels == set(range(1, len(labels) + 1))
    names = "--classes a,b,c (classes=['a', 'b', 'c']), or one name per line in classes.txt next to the folder."
    message = (
        f"Masks without a list of classes must hold two values, 0 and 255, but those of {where} hold "
        f"{brief(sorted(objects))[1:-1]} and {'0' if 0 in found else 'no 0'}"
    )
    if _are_soft(drawn):
        return ViceError(
            f"{message}: their edges may be soft.",
            f"If they draw one object, say which values are the object: {_option(found)}. If the values are classes, "
            f"name those of 1 to {max(labels)}, in this order: {names}",
        )
    one = "" if in_order else f" If the masks draw one object, say what their values mean, such as {_option(found)}."
    return ViceError(f"{message}.", f"Name the classes in the order of their values, 1, 2 and so on: {names}{one}")


def _are_soft(drawn: Sequence[Set[int]]) -> bool:
    """Whether masks look as if drawn in 0 and white with soft edges: many values in one mask, up to almost white."""
    grey = set().union(*drawn) - set(FULL)
    many = max(map(len, drawn), default=0) > MANY
    return many and any(0.9 * white < max(grey) < white for white in FULL)


def _like_trimaps(found: Set[int]) -> bool:
    return {1, 2} <= found <= {1, 2, 3}


def _of_one_class(named: NamedValues, classes: Sequence[str] | None) -> MaskValues:
    """The meaning of masks whose values the user names."""
    if classes is not None and len(classes) > 1:
        raise ViceError(
            f"--mask-values is for masks of one class, but {len(classes)} are given: {', '.join(classes)}.",
            "Give the one name, or write dataset.yaml in a folder with lists: it names the values of several classes.",
        )
    name = ONE_CLASS if classes is None else classes[0]
    return MaskValues((name,), None, named.note(f"the class `{name}`"), named)


def _option(found: Set[int]) -> str:
    """The option that fits the values of masks, with its form in Python."""
    return _option_of(suggestion(found).partition(" ")[2])


def _option_of(values: str) -> str:
    return f"--mask-values {values} (mask_values='{values}')"


def refuse_forms(drawn: Sequence[Set[int]], labels: Set[int], where: str) -> None:
    """Refuse masks most of which hold other values than labels, or that look like trimaps: a form, and no mistake.

    Args:
        drawn: the values of each mask.
        labels: values that are expected, 0 and void included.
        where: the folder of the masks, for messages.

    Raises:
        ViceError: such masks; the message names the option that says what their values mean.
    """
    held = [each for each in drawn if each]
    found = set().union(*held)
    strange = [each for each in held if not each <= labels]
    if min(found, default=0) < 0:
        raise ViceError(
            f"The masks of {where} must hold {brief(sorted(labels))[1:-1]}, but hold {min(found)}.",
            f"Write void as {max(labels)}, and the background as 0.",
        )
    if _like_trimaps(found) and any(len(each) > 1 for each in held):
        raise ViceError(
            f"The masks of {where} must hold 0, the background, but hold {brief(sorted(found))[1:-1]} and no 0: they "
            "look like trimaps.",
            f"Say what the values mean: {_option(found)}.",
        )
    if 2 * len(strange) > len(held):
        several = _name_all(found) if labels == {0, 1, VOID} else ""
        raise ViceError(
            f"The masks of {where} must hold {brief(sorted(labels))[1:-1]}, but {len(strange)} of {len(held)} hold "
            f"other values, such as {min(strange[0] - labels)}.",
            f"{several}If they draw one object, say what the values mean: {_option(found)}.",
        )


def _name_all(found: Set[int]) -> str:
    """The way out for masks whose values are 1, 2 and so on: to name as many classes; "" for others."""
    top = max(found - {VOID}, default=0)
    if not 2 <= top <= len(ascii_lowercase) or not set(range(1, top + 1)) <= found:
        return ""
    names = ascii_lowercase[:top]
    return f"If they are {top} classes, name all: --classes {','.join(names)} (classes={list(names)}). "


def spread(masks: Sequence[Path]) -> Sequence[Path]:
    """At most FORMS masks, spread over all of them."""
    return masks[:: -(-len(masks) // FORMS)] if masks else masks


def forms_of(drawn: Sequence[Set[int]], classes: Sequence[str], named: bool) -> tuple[str, ...]:
    """Sentences on masks of labels that may be of another form: trimaps, and two values for one object.

    Args:
        drawn: the values of each mask.
        classes: C names.
        named: whether the user named them.

    Raises:
        ViceError: masks that look like trimaps, and classes that nobody named.
    """
    found = set().union(*drawn)
    if _like_trimaps(found) and max(found) <= len(classes) and any(len(each) > 1 for each in drawn):
        sentence = f"masks hold {brief(sorted(found))[1:-1]} and no 0: no pixel is background."
        way_out = "If they are trimaps of one object, write in dataset.yaml "
        way_out += "`names: {object: 1}`, `background: 2`, `void: 3`."
        if not named:
            raise ViceError(
                f"Without classes.txt, the classes are VOC's, but the {sentence}",
                f"{way_out} Else name the classes in classes.txt, one per line.",
            )
        return (f"The {sentence} {way_out}",)
    void, one = [each for each in drawn if each - {0} == {VOID}], [each for each in drawn if each - {0} == {1}]
    if len(classes) == 1 and void and one and all(len(each - {0}) < 2 for each in drawn):
        return (
            f"{len(void)} of the {len(drawn)} masks read hold {VOID}, which is void, where {len(one)} hold 1, which is "
            f"`{classes[0]}`. If {VOID} is the object there, write 1.",
        )
    return ()


def refuse_mixed(drawn: Sequence[Set[int]], classes: Sequence[str] | None, where: str) -> None:
    """Refuse masks of one class of which some hold 0 and 255 and the others 0 and 1, and none 1 and 255."""
    objects = set().union(*drawn) - {0, VOID}
    if len(objects) != 1 or len(classes or (ONE_CLASS,)) != 1 or any(len(each - {0}) > 1 for each in drawn):
        return
    value = next(iter(objects))
    counts = {name: sum(name in each for each in drawn) for name in (value, VOID)}
    if all(counts.values()):
        raise ViceError(
            f"The masks of {where} must draw the object with one value, but {counts[value]} hold {value} and "
            f"{counts[VOID]} hold {VOID}.",
            f"Write {VOID} in all of them, or "
            + ("1." if value == 1 else f"say that both are the object: {_option_of(f'object={value},object={VOID}')}."),
        )


def found_values(masks: Sequence[Path]) -> list[set[int]]:
    """The values of each mask, of all while they are 0, white and one more; else of the first that hold others."""
    found: list[set[int]] = []

    def values(path: Path) -> set[int]:
        try:
            return set(present_values(read_grey_mask(path)).tolist())
        except ViceError:
            return set()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(masks), CHUNK):
            found.extend(pool.map(values, masks[start : start + CHUNK]))
            if len(set().union(*found) - {0, *FULL}) > 1:
                break
    return found

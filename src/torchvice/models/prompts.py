"""Prompts: the texts that stand for each class of a zero-shot classifier."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import read_yaml

__all__ = ["TEMPLATE", "ClassNames", "Prompts", "prompts_schema", "read_prompts", "refuse_prompts"]

TEMPLATE = "a photo of a {}."
_FORMS = (
    "For example `cat: a photo of a cat.` for each class, or `templates: ['a photo of a {}.', 'a drawing of a {}.']`."
)


@dataclass(frozen=True)
class Prompts:
    """The texts of each class, in the order of the classes.

    `texts` holds one list a class; `origin` says where they come from.
    """

    texts: tuple[tuple[str, ...], ...]
    origin: str

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        prompts: Mapping[str, str | Sequence[str]] | Sequence[str] | str | None = None,
        origin: str | None = None,
    ) -> Prompts:
        """Write the texts of each class.

        Args:
            classes: names, in the order of the outputs.
            prompts: for every class its text or list of texts; or templates, in which {} stands for the name; or one
                template. None: `TEMPLATE`. In names, _ becomes a space.
            origin: what the prompts are called in messages and in the manifest.

        Raises:
            ViceError: no classes, a class without a text or with an empty one, an unknown class, or a template
                without {}.

        Example:
            >>> Prompts.of(["cat", "sea_lion"]).texts
            (('a photo of a cat.',), ('a photo of a sea lion.',))
        """
        if not classes:
            raise ViceError(
                "A zero-shot classifier needs the names of the classes, but there are none.",
                "Give data with classes, or --classes cat,dog.",
            )
        if isinstance(prompts, Mapping) and not (set(prompts) == {"templates"} and "templates" not in classes):
            texts = _of_classes(classes, prompts)
            return cls(tuple(texts), origin or "prompts for each class")
        given = prompts["templates"] if isinstance(prompts, Mapping) else prompts
        templates = _listed("The list of templates", TEMPLATE if given is None else given)
        for template in templates:
            if "{}" not in template:
                way_out = f"For example {TEMPLATE!r}, where {{}} stands for the name of the class."
                raise ViceError(f"A template must hold {{}}, but is {template!r}.", way_out)
        names = [name.replace("_", " ") for name in map(str, classes)]
        texts = [tuple(template.replace("{}", name) for template in templates) for name in names]
        return cls(tuple(texts), origin or ("the template " + repr(TEMPLATE) if given is None else "templates"))

    @property
    def sha256(self) -> str:
        """The digest of the texts."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()


def read_prompts(path: str | os.PathLike[str] | None, classes: Sequence[str]) -> Prompts:
    """Read the prompts of the classes from a YAML or JSON file; None: one plain template.

    Args:
        path: a mapping from class to text or list of texts; or `templates:` with a list of them, see `Prompts.of`.
        classes: names, in the order of the outputs.

    Raises:
        ViceError: no such file, another content, or as `Prompts.of`.
    """
    if path is None:
        return Prompts.of(classes)
    content = read_yaml(path, "The file of prompts")
    if not isinstance(content, Mapping):
        came = f"a {type(content).__name__}" if content is not None else "empty"
        raise ViceError(f"The file of prompts {path} must map classes to prompts, but is {came}.", _FORMS)
    return Prompts.of(classes, content, os.path.basename(path))


@dataclass(frozen=True)
class ClassNames:
    """What a zero-shot classifier is made of: the names of the `classes`, and a `file` of prompts or None."""

    classes: tuple[str, ...] = ()
    file: str | os.PathLike[str] | None = None

    def prompts(self) -> Prompts:
        """Read the prompts, see `read_prompts`."""
        return read_prompts(self.file, self.classes)


def refuse_prompts(network: str) -> ViceError:
    """Return the error for prompts with a network that has a classifier already."""
    return ViceError(
        f"--prompts are for zero-shot classifiers, but {network} has a classifier of its own.",
        "Leave --prompts out, or give open_clip:NAME or transformers:FOLDER of a CLIPModel or SiglipModel.",
    )


def _of_classes(classes: Sequence[str], prompts: Mapping[str, str | Sequence[str]]) -> list[tuple[str, ...]]:
    """The texts of each class, where each is given by its name."""
    known = {str(name): value for name, value in prompts.items()}
    if "templates" in known and "templates" not in classes:
        raise ViceError(
            "Prompts must be templates or texts of each class, but both are given.",
            "Leave `templates` out, or give it alone.",
        )
    unknown = [name for name in known if name not in classes]
    if unknown:
        message = f"The prompts name `{unknown[0]}`, which is no class of the data."
        raise ViceError(message, did_you_mean(unknown[0], classes))
    missing = [name for name in classes if name not in known]
    if missing:
        raise ViceError(
            f"Every class needs a prompt, but {len(missing)} of {len(classes)} have none: {brief(missing)}.",
            "Add them, or give `templates` for all classes in place of single prompts.",
        )
    return [_listed(f"The prompts of `{name}`", known[name]) for name in classes]


def _listed(what: str, given: object) -> tuple[str, ...]:
    """One text or several, none of them empty."""
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not texts:
        raise ViceError(f"{what} must be a text or a list of texts, but is {brief(given)}.", _FORMS)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ViceError(f"{what} must be texts, but one is {text!r}.", _FORMS)
    return tuple(texts)


def prompts_schema() -> dict[str, Any]:
    """The JSON Schema of a file of prompts; that its classes are those of the data is checked where it is read."""
    text = {"type": "string", "pattern": "\\S"}
    texts = {"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]}
    return {"type": "object", "additionalProperties": texts, "minProperties": 1}

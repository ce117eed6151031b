"""The page: one HTML file that shows what was measured, and the images where performance and explanation part.

It needs no server and no network. Pixels come through a reader; images are read one by one and written as they come, so
that memory does not grow with their number.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.files import atomic
from torchvice.measures import QUALITIES, Measures
from torchvice.measures.catalogue import OF_A_TABLE, compared_label
from torchvice.measures.quadrants import QUADRANTS
from torchvice.metrics.overlap import void_of
from torchvice.report.page.cases import Cases, common_cases, model_disagreement, order_by_strength
from torchvice.report.page.charts import charts_of
from torchvice.report.page.definitions import definitions_of
from torchvice.report.page.downloads import downloads_of
from torchvice.report.page.instead import strips_of
from torchvice.report.page.numbers import (
    number_rows,
    numbers_of_models,
    shown,
    shown_path,
    tables_of,
    undefined_by_reason,
)
from torchvice.report.page.pixels import map_bytes, outlines, thumbnail
from torchvice.report.page.text import facts_of, sentences_of
from torchvice.report.style import HEAT

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

__all__ = ["TEMPLATES", "Reader", "Shown", "embedded", "intervals_of", "joined", "template", "write_page"]

# Image id -> image (H, W, 3) uint8 and mask (H, W) or None; None if the image is missing.
Reader = Callable[[str], tuple[np.ndarray, np.ndarray | None] | None]
TEMPLATES = Path(__file__).parents[1] / "templates"
SCRIPTS = ("base.js", "maps.js", "figures.js", "scatter.js", "browser.js", "address.js", "shell.js", "start.js")
MOST_CASES = 2000
# Bytes of all pictures and outlines; in base64 a third more: with maps and table a page stays below 25 MB.
ROOM = 16_000_000
LARGEST = 40_000  # bytes of one picture


@dataclass(frozen=True)
class Shown:
    """A model on the page: its `name`, its measures and, if it has a table, its cases.

    `stands_out`: rows of the classes that stand out, see `torchvice.report.page.instead.strips_of`; None: those of the
    measures' verdict.
    """

    name: str
    measures: Measures
    cases: Cases | None
    stands_out: Sequence[Mapping[str, Any]] | None = None

    @property
    def classes_apart(self) -> Sequence[Mapping[str, Any]]:
        """The rows of the classes that stand out."""
        return self.measures.verdict.stands_out if self.stands_out is None else self.stands_out


def intervals_of(models: Sequence[Shown]) -> tuple[int, str]:
    """Replicates of the intervals, the fewest of the models, and a digest of the numbers that they belong to."""
    numbers = [model.measures.to_json() for model in models]
    values = [[content[name] for name in OF_A_TABLE] for content in numbers]
    replicates = min(content["source"].get("inference", {}).get("replicates") or 0 for content in numbers)
    return replicates, hashlib.sha256(json.dumps(values).encode()).hexdigest()


def write_page(
    path: str | os.PathLike[str],
    models: Shown | Sequence[Shown],
    reader: Reader | None = None,
    *,
    title: str = "",
    folder: bool = False,
    most_cases: int = MOST_CASES,
    comparison: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of a model, or of several on the same images, as one file that opens from disk.

    Args:
        path: the file; with `folder` the folder that gets index.html, pictures/ and cases/.
        models: one, or several to compare.
        reader: image id -> image (H, W, 3) uint8 and mask (H, W) or None. Without a reader the page holds no pixel of
            the data: maps, which are the model's, and numbers only.
        title: of the page; else the models' names.
        folder: pictures and cases as files, of all images.
        most_cases: how many images get their case embedded, the strongest first.
        comparison: what `torchvice.measures.compare` found, as JSON; None: not computed.
        progress: called with the images done and their number.

    Raises:
        ViceError: no model, several without tables, tables that have no images in common, or several qualities.
    """
    models = [models] if isinstance(models, Shown) else list(models)
    if not models:
        raise ViceError("A page needs a model, but none is given.")
    qualities = {model.measures.quality.get("name", "ji") for model in models}
    qualities |= {model.cases.quality_name for model in models if model.cases is not None}
    if len(qualities) > 1:
        raise ViceError(f"A page is of one quality, but measures and cases are of {' and '.join(sorted(qualities))}.")
    tables = [model.cases for model in models if model.cases is not None]
    if len(models) > 1:
        if len(tables) < len(models):
            raise ViceError("Models are compared image by image, but one of them has no table.", "Name RUNs.")
        tables = common_cases(tables)
    path = Path(path)
    page = _Page(models, tables, reader, folder, most_cases, progress, title, comparison, qualities.pop())
    target = path / "index.html" if folder else path
    with atomic(target) as part, open(part, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.writelines(page.pieces(path))
    return target


@dataclass(frozen=True)
class _Page:
    """The page of some `models`. Numbers and sentences are of each model's whole table; the figures of single cases and
    the case browser are of `tables`, the images and pairs that all models share."""

    models: Sequence[Shown]
    tables: Sequence[Cases]
    reader: Reader | None
    folder: bool
    most: int
    progress: Callable[[int, int], None] | None
    title: str
    comparison: Mapping[str, Any] | None
    quality: str

    def pieces(self, path: Path) -> Iterator[str]:
        """The page's text, the cases last: it can be used while they are still being read."""
        cases = self._case_files(path) if self.folder else self._case_scripts()
        yield from template("page.html.jinja").generate(**self._context(), cases=cases)

    @property
    def count(self) -> int:
        """How many images have a case on the page."""
        images = len(self.tables[0]) if self.tables else 0
        return images if self.folder else min(images, self.most)

    @property
    def chosen(self) -> str:
        """Which images have a case, if not all have; see `order_by_strength`."""
        if not self.tables or not self.tables[0].pairs:
            which = "that come first by their id"
        elif len(self.tables) > 1:
            which = "on which the models disagree most"
        else:
            which = "that belong most strongly to their quadrant (in turn)"
        return f"{self.count} images {which}"

    @property
    def definitions(self) -> dict[str, tuple[str, str]]:
        """The definitions of the page's terms."""
        return definitions_of(self.quality, any(table.exclusive for table in self.tables))

    def _context(self) -> dict[str, Any]:
        title = self.title or " against ".join(model.name for model in self.models)
        return {
            "title": title,
            "intervals": intervals_of(self.models),
            "models": [self._model(model) for model in self.models],
            "names": [*(self.tables[0].classes if self.tables else ()), *(model.name for model in self.models)],
            "instead": any(model.classes_apart for model in self.models),
            "definitions": self.definitions,
            "quality": QUALITIES[self.quality],
            "headline": self.quality == "ji",
            "quadrants": QUADRANTS,
            "images": len(self.tables[0]) if self.tables else 0,
            "count": self.count,
            "chosen": self.chosen,
            "pictures": self.reader is not None,
            "folder": self.folder,
            "compared": len(self.models) > 1,
            "comparison": self.comparison,
            "beside": numbers_of_models([model.measures for model in self.models]),
            "scaled": any("temperature" in model.measures.diagrams.reliability for model in self.models),
            "css": joined(["page.css"]),
            "scripts": joined(SCRIPTS),
            "data": embedded(self._data(title)),
        }

    def _model(self, model: Shown) -> dict[str, Any]:
        """What the template writes of a model, ready as text."""
        measures, images = model.measures, set(self.tables[0].image_id.tolist() if self.tables else ())
        return {
            "name": model.name,
            "facts": facts_of(measures, model.cases),
            "verdict": measures.verdict,
            "sentences": sentences_of(measures, model.cases),
            "numbers": number_rows(measures),
            "undefined": undefined_by_reason(measures.undefined),
            "excluded": measures.shares(),
            "notes": [note for path, note in measures.notes.items() if path.startswith("strict.")],
            "all_notes": {shown_path(path): note for path, note in measures.notes.items()},
            "tables": tables_of(measures),
            "downloads": downloads_of(measures, model.name),
            "instead": strips_of(
                model.classes_apart, self.reader, "" if model is self.models[0] else model.name, images
            ),
            "counts": model.cases.counts() if model.cases is not None and model.cases.pairs else None,
        }

    def _data(self, title: str) -> dict[str, Any]:
        """What the scripts draw from."""
        content: dict[str, Any] = {
            "title": title,
            "definitions": self.definitions,
            "quality": {"name": self.quality, "label": QUALITIES[self.quality].label},
            "heat": HEAT,
            "quadrants": [[key, words] for key, words in QUADRANTS.items()],
            "folder": self.folder,
            "pictures": self.reader is not None,
            "models": [{"name": m.name, "charts": charts_of(m.measures, m.cases)} for m in self.models],
            "classes": [],
            "ids": [],
        }
        if not self.tables:
            return content
        first = self.tables[0]
        for table, entry in zip(self.tables, content["models"], strict=True):
            entry |= _columns(table)
        content |= {
            "classes": list(first.classes),
            "cutoffs": first.cutoffs,
            "by": {"name": first.quadrant_quality, "label": QUALITIES[first.quadrant_quality].label},
            "ids": first.image_id.tolist(),
            "chosen": self.chosen,
            "height": _packed(first.height, "u16"),
            "width": _packed(first.width, "u16"),
            "hasMask": _packed(first.has_mask, "u8"),
            **_sets("true", first.targets),
            "entryImage": _packed(first.entry_image, "u32"),
            "entryClass": _packed(first.entry_class, "i16"),
            "area": _packed(first.area, "f32"),
        }
        if len(self.tables) > 1:
            content["disagreement"] = _packed(model_disagreement(self.tables), "f32")
        # Which images have a case: a bit each, known before the cases are made.
        kept = np.zeros(len(first), bool)
        kept[list(islice(order_by_strength(self.tables), self.count))] = True
        return {**content, "kept": _packed(kept, "u8")}

    def _cases(self) -> Iterator[tuple[int, dict[str, Any], tuple[bytes, str] | None]]:
        if not self.tables:
            return
        room = min(LARGEST, ROOM // max(1, self.count))
        for done, row in enumerate(islice(order_by_strength(self.tables), self.count)):
            yield row, *_case(self.tables, row, self.reader, LARGEST if self.folder else room)
            if self.progress is not None:
                self.progress(done + 1, self.count)

    def _case_scripts(self) -> Iterator[tuple[int, str]]:
        for row, case, picture in self._cases():
            if picture is not None:
                content, kind = picture
                case["p"] = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
            yield row, embedded(case)

    def _case_files(self, home: Path) -> Iterator[tuple[int, str]]:
        """Every case as a script of its own, which a page opened from disk may load; nothing is embedded."""
        for row, case, picture in self._cases():
            place = f"{row // 1000:03d}/{row}"  # a thousand files a folder
            if picture is not None:
                content, kind = picture
                case["p"] = f"pictures/{place}.{kind}"
                with atomic(home / case["p"], sync=False) as part:
                    part.write_bytes(content)
            with atomic(home / f"cases/{place}.js", sync=False) as part:
                part.write_text(f"viceCase({row},{embedded(case)})\n", encoding="utf-8")
        yield from ()


def _case(
    tables: Sequence[Cases], row: int, reader: Reader | None, room: int
) -> tuple[dict[str, Any], tuple[bytes, str] | None]:
    """One image for the browser: `m` each model's maps {class: [h, w, bytes, status]}, `q` its probabilities of the
    labels that are true or predicted; on a grid of `g` the mask's outlines, `o` of objects and `v` of objects and void;
    and its picture. Picture and outlines share `room`, bytes before base64."""
    first = tables[0]
    case: dict[str, Any] = {"m": [], "q": []}
    for table in tables:
        maps = {}
        for c, (plane, status) in sorted(table.maps.get(row, {}).items()):
            height, width, content = map_bytes(plane)
            maps[c] = [height, width, base64.b64encode(content).decode(), status]
        case["m"].append(maps)
        classes = np.flatnonzero(first.targets[row] | table.predicted[row])
        case["q"].append([[int(c), round(float(table.probability[row, c]), 4)] for c in classes])
    found = reader(str(first.image_id[row])) if reader is not None else None
    if found is None:
        return case, None
    image, mask = found
    if mask is not None:
        value = void_of(len(first.classes))
        wide, tall, paths = outlines(mask, value)
        void = paths.pop(value, None)
        case |= {"g": [wide, tall], "o": {label - 1: path for label, path in paths.items()}}
        case |= {} if void is None else {"v": void}
        room -= 3 * (len(void or "") + sum(map(len, paths.values()))) // 4
    return case, thumbnail(image, room)


def _columns(table: Cases) -> dict[str, Any]:
    return {
        "loss": _packed(table.loss, "f32"),
        "ji": _packed(table.ji, "f32"),
        "confidence": _packed(table.confidence, "f32"),
        "accuracy": _packed(table.accuracy, "f32"),
        **_sets("said", table.predicted),
        "probability": _packed(table.pair_probability, "f32"),
        "pairLoss": _packed(table.pair_loss, "f32"),
        "iou": _packed(table.quality, "f32"),
        "quadrant": _packed(table.quadrant, "u8"),
        "strength": _packed(table.strength, "f32"),
    }


_KINDS = {"u8": "<u1", "u16": "<u2", "i16": "<i2", "u32": "<u4", "f32": "<f4"}


def _packed(values: np.ndarray, kind: str) -> list[str]:
    """A column as the bytes of a typed array: [kind, base64]."""
    return [kind, base64.b64encode(np.ascontiguousarray(values, _KINDS[kind]).tobytes()).decode()]


def _sets(name: str, members: np.ndarray) -> dict[str, Any]:
    """(N, C) bool as a list of classes and where each image's begin."""
    starts = np.concatenate([[0], np.cumsum(members.sum(axis=1))])
    return {f"{name}At": _packed(starts, "u32"), f"{name}Of": _packed(np.nonzero(members)[1], "u16")}


def template(name: str) -> Template:
    """A page of TEMPLATES, with the filters that it uses."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    environment.filters |= {"shown": shown, "script_hash": script_hash, "compared_label": compared_label}
    environment.filters["isolated"] = isolated
    return environment.get_template(name)


def isolated(text: str, names: Iterable[str]) -> Markup:
    """Put <bdi> around those names in a text that are written from right to left, so that what follows stays put."""
    from markupsafe import Markup, escape

    turned = {name for name in names if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)}
    if not turned:
        return escape(text)
    longest_first = sorted(turned, key=lambda name: (-len(name), name))
    parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    return Markup().join(Markup("<bdi>{}</bdi>").format(part) if at % 2 else part for at, part in enumerate(parts))


def script_hash(text: str) -> str:
    """The source expression by which a Content-Security-Policy allows the inline script of this text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def joined(names: Sequence[str]) -> str:
    """Style sheets or scripts of TEMPLATES, one after the other."""
    return "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def embedded(content: Any) -> str:
    """JSON that may stand inside a script element: neither `</script>` nor `<!--` can be in it, and it is ASCII."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

"""The page of a ranking: a table of models that sorts and filters, and VICE against accuracy."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchvice.files import atomic
from torchvice.measures.rank import LOWER, Ranking, ranking_label
from torchvice.measures.rank_sentences import set_text
from torchvice.measures.reduced import MEASURES
from torchvice.measures.wording import decimals, decimals_between, interval_text
from torchvice.report.page.page import embedded, joined, template
from torchvice.report.ranking.text import RANK_SET, definition_key, facts_of_ranking, ranking_definitions

__all__ = ["write_ranking_page"]

STYLES = ("page.css", "study.css", "ranking.css")
SCRIPTS = ("base.js", "figures.js", "sortable.js", "front.js", "shell.js", "ranking.js")
# Whether a model is among the best K: the class of its bar, and what its cell says.
BEST = (("sure", "surely"), ("able", "possibly"), ("", "no"))
HEADLINES = ("vice", "ml_accuracy", "mean_average_precision", "ji")


def write_ranking_page(path: str | os.PathLike[str], ranking: Ranking, *, title: str = "") -> Path:
    """Write a ranking as one file that opens from disk and asks nothing of any network.

    Args:
        path: file to write.
        ranking: from `torchvice.rank`.
        title: of the page; default: the number of models and the measure that ranks.
    """
    path = Path(path)
    title = title or f"{len(ranking.ranked):,} models by {ranking_label(ranking.by, ranking.protocol)}"
    text = template("ranking.html.jinja").render(_context(ranking, title))
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return path


def _context(ranking: Ranking, title: str) -> dict[str, Any]:
    definitions = ranking_definitions(ranking)
    measures = _measures(ranking)
    methods = sorted({row["method"] for row in ranking.models if row["method"]})
    data = {
        "title": title,
        "definitions": definitions,
        "quadrants": [],
        "models": [],
        "ids": [],
        "ranking": {
            "accuracy": _name(ranking.accuracy),
            "vice": ranking_label("vice", ranking.protocol),
            "top": ranking.top,
            "rows": [_point(row, ranking.accuracy) for row in ranking.models],
        },
    }
    return {
        "title": title,
        "sentences": [re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", sentence) for sentence in ranking.sentences],
        "names": [row["name"] for row in ranking.models],
        "rank_set": RANK_SET,
        "facts": facts_of_ranking(ranking),
        "definitions": definitions,
        "accuracy": (_name(ranking.accuracy), definition_key(ranking.accuracy, ranking.protocol)),
        "vice": (ranking_label("vice", ranking.protocol), definition_key("vice", ranking.protocol)),
        "heads": _heads(ranking, measures),
        "rows": [_cells(row, ranking, measures) for row in ranking.models],
        "methods": methods if len(methods) > 1 else [],
        "left_out": ranking.left_out,
        "top": ranking.top,
        "undefined": _undefined(ranking),
        "given": any(row["given_accuracy"] is not None for row in ranking.models),
        "drawn": sum(row["on_front"] is not None for row in ranking.models),
        "css": joined(STYLES),
        "scripts": joined(SCRIPTS),
        "data": embedded(data),
    }


def _measures(ranking: Ranking) -> list[str]:
    """The measures in the order of the columns: the one that ranks, VICE, accuracy, the others."""
    return list(dict.fromkeys((ranking.by, "vice", ranking.accuracy, *HEADLINES, *MEASURES)))


def _name(measure: str) -> str:
    return ranking_label(measure, "strict").removesuffix(" (strict)")


def _heads(ranking: Ranking, measures: list[str]) -> list[tuple[str, str, bool, bool]]:
    """Name, key of the definition, whether the column holds numbers, and whether they are sorted rising at first."""
    named = [(_name(one), definition_key(one, ranking.protocol), True, one in LOWER) for one in measures]
    place = measures.index("ji")
    given = [("VICE given accuracy", "rank.given", True, False), ("On the front", "rank.front", True, False)]
    heads = [("Model", "", False, False), ("Rank", "rank.rank", True, True), ("Rank set", "rank.set", True, True)]
    heads += [(f"Among the best {ranking.top}", "rank.top", True, True)] if ranking.top else []
    last = [("Set alone", "rank.alone", True, True), ("Method", "", False, False)]
    return [*heads, *named[: place + 1], *given, *named[place + 1 :], *last]


def _cells(row: Mapping[str, Any], ranking: Ranking, measures: list[str]) -> list[dict[str, Any]]:
    """The cells of a row: text, what stands below, and the key by which they are sorted (None: last)."""
    place, count = measures.index("ji"), len(ranking.ranked)
    named = [_number(row, measure) for measure in measures]
    front = None if row["front_share"] is None else 100 * row["front_share"]
    given = [_number(row, "given_accuracy", "+"), _cell("–" if front is None else f"{front:.0f} %", front)]
    network = row["network"] if row["network"] != row["name"] else ""
    cells = [_cell(row["name"], row["name"], network), _cell(_whole(row["rank"]), row["rank"]), _bar(row, count)]
    cells += [_of_best(row)] if ranking.top else []
    alone = "–" if row["rank"] is None else set_text(row["alone_low"], row["alone_high"])
    cells += [*named[: place + 1], *given, *named[place + 1 :], _cell(alone, row["alone_high"])]
    return [*cells, _cell(row["method"] or "–", row["method"] or None)]


def _undefined(ranking: Ranking) -> list[tuple[str, str, list[str]]]:
    """Numbers that are undefined: the measure, the reason, and the models with this reason."""
    names: dict[tuple[str, str], list[str]] = {}
    for row in ranking.models:
        for measure, reason in row["undefined"].items():
            names.setdefault((_name(measure), reason), []).append(row["name"])
    return [(*of, models) for of, models in names.items()]


def _cell(text: str, key: Any, below: str = "", **more: Any) -> dict[str, Any]:
    return {"text": text, "below": below, "key": key, **more}


def _whole(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _number(row: Mapping[str, Any], measure: str, sign: str = "") -> dict[str, Any]:
    value, low, high = (row.get(f"{measure}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return _cell("–", None)
    if low is None or high is None:
        return _cell(decimals(value, 3, sign), value)
    return _cell(decimals(value, decimals_between(low, high), sign), value, interval_text(low, high, 3, sign))


def _best(row: Mapping[str, Any]) -> int:
    """Whether a model is among the best K, as an index into BEST."""
    return 0 if row["sure"] else 1 if row["candidate"] else 2


def _of_best(row: Mapping[str, Any]) -> dict[str, Any]:
    return _cell("–", None) if row["rank"] is None else _cell(BEST[_best(row)][1], _best(row))


def _bar(row: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The rank set as a bar on the scale of all ranks, its ends in shares of the width."""
    if row["rank"] is None:
        return _cell("–", None)
    left, right = (row["rank_low"] - 1) / count, row["rank_high"] / count
    bar = {"left": 100 * left, "width": 100 * (right - left), "at": 100 * (row["rank"] - 0.5) / count}
    kind = BEST[_best(row)][0]
    return _cell(set_text(row["rank_low"], row["rank_high"]), row["rank_high"], bar=bar, kind=kind)


def _point(row: Mapping[str, Any], accuracy: str) -> dict[str, Any]:
    """What the figure and the filters need of a row."""
    given = row["given_accuracy"]
    beyond = 0
    if given is not None:
        beyond = 1 if row["given_accuracy_low"] > 0 else -1 if row["given_accuracy_high"] < 0 else 0
    return {
        "name": row["name"],
        "x": row[accuracy],
        "y": row["vice"],
        "across": [row[f"{accuracy}_low"], row[f"{accuracy}_high"]],
        "up": [row["vice_low"], row["vice_high"]],
        "predicted": row["predicted"],
        "given": None if given is None else [given, row["given_accuracy_low"], row["given_accuracy_high"]],
        "beyond": beyond,
        "front": bool(row["on_front"]),
        "candidate": row["candidate"],
        "sure": row["sure"],
        "method": row["method"],
    }

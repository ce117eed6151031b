"""What measures and a table look like in a notebook: HTML that brings all it needs, every text escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.measures.wording import decimals, interval_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["measures_html", "samples_html"]

DASH = "–"
DPI = 110
MOST_CLASSES = 12
FAINT = "opacity:.7;font-size:90%"  # no colour: notebooks are light or dark


def measures_html(measures: Any, rows: Sequence[tuple[str, str, str]], quality: str) -> str:
    """The verdict, the measures of both protocols side by side, the controls, and the VICE diagrams.

    Args:
        measures: a `torchvice.Measures`.
        rows: a label and the paths of both columns, see `torchvice.measures.catalogue.overview`.
        quality: what the quality of a map is called.

    Returns:
        HTML. An undefined number is a dash whose title is the reason; a number that must be read with care has a
        question mark whose title says why.
    """
    body = [[escape(label), *(_cell(measures, path) for path in cells)] for label, *cells in rows]
    parts = [
        f"<p><b>Measures</b> of {measures.images} images</p>",
        "".join(f"<p>{escape(sentence)}</p>" for sentence in measures.verdict.sentences),
        _table(["", "paper", "strict"], [row for row in body if any(row[1:])]),
        _controls(measures, quality),
        _sentences([measures.notes["maps"]] if "maps" in measures.notes else []),
        _sentences(f"{share} {reason}" for reason, share in measures.shares().items()),
        _sentences(measures.verdict.caveats),
        _diagrams(measures),
    ]
    return "<div>" + "".join(parts) + "</div>"


def _cell(measures: Any, path: str) -> str:
    if not path:
        return ""
    value = measures.value(path)
    if value != value:
        reason = measures.undefined.get(path, "")
        return f'<span title="{escape(reason)}" aria-label="undefined: {escape(reason)}">{DASH}</span>'
    limits = measures.intervals.get(path) or {}
    text = f"{decimals(value, 4)}{_span(limits)}"
    if limits.get("reliable") is False:
        text += f' <span title="{escape(measures.notes.get(path, "The interval is not reliable."))}">?</span>'
    return text


def _span(limits: Mapping[str, Any]) -> str:
    low, high = limits.get("low"), limits.get("high")
    if low is None or high is None or not np.isfinite([low, high]).all():
        return ""
    level = f"{limits.get('level', 0.95):.0%}".replace("%", " %")
    return f' <span style="{FAINT}" title="{level} interval">({interval_text(low, high, 2)})</span>'


def _controls(measures: Any, quality: str) -> str:
    rows = [
        [
            escape(name),
            *(DASH if value is None else decimals(value) for value in (row.vice, row.quality)),
            DASH
            if row.difference is None
            else f"{decimals(row.difference)}{_span({'low': row.difference_low, 'high': row.difference_high})}",
            {True: "above", False: "not clearly above", None: "undefined"}[row.beaten],
        ]
        for name, row in measures.controls.items()
    ]
    if not rows:
        return ""
    heads = ["control", "VICE", quality, "difference of VICE", ""]
    note = [measures.notes["controls"]] if "controls" in measures.notes else []
    return "<p>Does it beat the controls?</p>" + _table(heads, rows) + _sentences(note)


def _diagrams(measures: Any) -> str:
    """The VICE diagrams that have numbers, that of `strict` first."""
    from torchvice.report.diagrams import vice_diagrams_of

    pictures = []
    for protocol, figure in sorted(vice_diagrams_of(measures).items(), reverse=True):
        value = getattr(measures, protocol)["vice"]
        said = "undefined" if value != value else decimals(value)
        pictures.append(_picture(figure, f"VICE diagram of {protocol}, VICE {said}"))
    return "".join(pictures)


def _picture(figure: Figure, words: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{content}">'


def samples_html(samples: Any) -> str:
    """What a table of samples holds: images, classes, where they come from, and its explanations.

    Args:
        samples: a `torchvice.Samples`.
    """
    images, manifest = samples.images, samples.manifest
    count = len(np.unique(images.image_id.astype(str)))
    masked = len(np.unique(images.image_id[images.has_mask.astype(bool)].astype(str)))
    names = list(samples.classes)
    shown = ", ".join(names[:MOST_CLASSES]) + (" …" if len(names) > MOST_CLASSES else "")
    data = manifest.get("dataset", {})
    source = " ".join(str(data[key]) for key in ("root", "split") if data.get(key))
    facts = [
        ("images", f"{count}, {masked} with a mask"),
        ("classes", f"{len(names)}: {shown}"),
        ("targets", manifest["targets"]),
        ("dataset", source or "unknown"),
        ("model", (manifest.get("made_by") or {}).get("network") or manifest.get("model", {}).get("type", "unknown")),
        ("views", ", ".join(sorted(set(images.view.tolist())))),
    ]
    parts = [
        "<p><b>Samples</b>: the table of an assessment</p>",
        _table(None, [[f"<b>{name}</b>", escape(str(value))] for name, value in facts], align="left"),
        _explanations(samples),
    ]
    return "<div>" + "".join(parts) + "</div>"


def _explanations(samples: Any) -> str:
    of = samples.regions.explanation
    uses = {entry["explanation"]: name for name, entry in samples.manifest["protocols"].items()}
    rows = []
    for name, settings in samples.manifest["explanations"].items():
        here = of == name
        status = samples.regions.status[here]
        maps = int((status != "none").sum())
        odd = [
            f"{int((status == kind).sum())} {kind}" for kind in ("zero", "constant", "nan") if (status == kind).any()
        ]
        role = f"{settings.get('role', '')} of {uses[name]}" if name in uses else settings.get("role", "")
        rows.append([escape(name), escape(str(role)), str(maps), escape(", ".join(odd))])
    return _table(["explanation", "role", "maps", "of these"], rows, align="left") if rows else ""


def _sentences(lines: Iterable[str]) -> str:
    return "".join(f'<p style="{FAINT};margin:0">{escape(line)}</p>' for line in lines)


def _table(heads: Sequence[str] | None, rows: Sequence[Sequence[str]], align: str = "right") -> str:
    """A table; heads are escaped, the cells are HTML already. The first column stands at the left."""

    def line(cells: Sequence[str], tag: str) -> str:
        sides = ["left", *[align] * (len(cells) - 1)]
        return "".join(
            f'<{tag} style="text-align:{side}">{cell}</{tag}>' for side, cell in zip(sides, cells, strict=True)
        )

    head = "" if heads is None else f"<thead><tr>{line([escape(text) for text in heads], 'th')}</tr></thead>"
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"

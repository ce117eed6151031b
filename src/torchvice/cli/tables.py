"""Measures and comparisons as tables on the terminal, 80 columns wide, in the words of the page and the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torchvice.cli.streams import visible
from torchvice.cli.terminal import add_row, console, number, say

if TYPE_CHECKING:
    from rich.table import Table

    from torchvice.measures import Comparison, Measures
    from torchvice.report.page.numbers import NumberTable

__all__ = [
    "WIDTH",
    "interval_cell",
    "number_cell",
    "paragraph",
    "plain_table",
    "print_all",
    "print_comparison",
    "print_measures",
    "print_table",
]

WIDTH = 80
SENTENCES = 5
AP = ("classification.mean_average_precision", "strict.mean_average_precision")
PROTOCOLS = ("paper", "strict")
# Printed without --all.
NOTES = ("table", "versions", "classes", *AP, "maps", "controls", "thresholds", "paper.vice", "scaling")


def plain_table(title: str) -> Table:
    """A table with a rule below its heads, and no other lines: seven columns of numbers fit."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    return Table(
        title=Text(visible(title)),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def _table(title: str, *columns: str, whole: str = "name") -> Table:
    """A table whose first column are names, the others numbers; `whole` says which of the two never break a line."""
    from rich.text import Text

    table = plain_table(title)
    for place, column in enumerate(columns):
        name = place == 0
        side = "left" if name else "right"
        table.add_column(Text(column), justify=side, no_wrap=name == (whole == "name"))  # type: ignore[arg-type]
    return table


def print_table(table: Table, most: int = WIDTH) -> None:
    """Print a table between two empty lines, as wide as the screen allows, but `most` columns at most."""
    screen = console()
    screen.print()
    screen.print(table, width=min(most, screen.width))
    screen.print()


def print_measures(measures: Measures, title: str) -> None:
    """Print the verdict, the table of both protocols with intervals, and what changes how they are read."""
    verdict = measures.verdict.sentences
    others = _sentences(measures)[: SENTENCES - 1] if len(verdict) < 2 else []
    for sentence in (*verdict, *others):
        paragraph(sentence)
    shown = _print_overview(measures, title)
    replicates = measures.source.get("inference", {}).get("replicates")
    if replicates and measures.intervals:
        say(f"In brackets: 95 % intervals, {replicates} resamplings of the images.")
    of_shown = {*shown, *(f"intervals.{path}" for path in shown)}
    _print_undefined({path: reason for path, reason in measures.undefined.items() if path in of_shown})
    for reason, share in measures.shares(left_out=True).items():
        paragraph(f"{share} {reason}")
    for path in NOTES:
        if path in measures.notes:
            label = "VICE (paper): " if path == "paper.vice" else ""
            paragraph(f"{label}{measures.notes[path]}")
    if measures.verdict.caveats:
        paragraph(f"Mind: {' '.join(measures.verdict.caveats)}")


def _print_overview(measures: Measures, title: str) -> list[str]:
    """Print the table of both protocols, without rows and columns without a number; return the paths of its cells."""
    from torchvice.report.page.numbers import number_rows

    rows = [
        (row["name"], [(cell["path"], _with_interval(measures, cell)) for cell in row["cells"]])
        for row in number_rows(measures, "overview")
    ]
    rows = [(name, cells) for name, cells in rows if any(_is_number(text) for _, text in cells)]
    made = measures.source.get("protocols", PROTOCOLS)  # mAP stands under both, also where one was not assessed
    shown = [
        place
        for place, protocol in enumerate(PROTOCOLS)
        if protocol in made and any(_is_number(cells[place][1]) for _, cells in rows)
    ]
    if not rows:
        say("")
        return []
    images = f"{measures.images} image{'' if measures.images == 1 else 's'}"
    table = _table(f"{title} · {images}", "", *(PROTOCOLS[place] for place in shown))
    for name, cells in rows:
        add_row(table, [name, *(cells[place][1] for place in shown)])
    print_table(table)
    return [path for _, cells in rows for place in shown for path in [cells[place][0]] if path]


def _is_number(text: str) -> bool:
    return bool(text.strip("– "))


def _sentences(measures: Measures) -> list[str]:
    """The sentences below the verdict on the page, as text."""
    from torchvice.report.page.text import sentences_of

    parts = (sentence for sentence in sentences_of(measures, None))
    return ["".join(part if isinstance(part, str) else part.text for part in sentence) for sentence in parts]


def paragraph(text: str) -> None:
    """Text wrapped at words; a number keeps its percent sign."""
    import re
    import textwrap

    kept = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text)
    for line in textwrap.wrap(kept, WIDTH, break_long_words=False, break_on_hyphens=False):
        say(line.replace("\N{NO-BREAK SPACE}", " "))


def _with_interval(measures: Measures, cell: Mapping[str, str]) -> str:
    path = cell["path"]
    if not path:
        return ""
    section, name = path.split(".")
    value = number(getattr(measures, section).get(name, float("nan")))
    limits = measures.intervals.get(path)
    if limits is None:
        return value
    doubt = " ?" if limits.get("reliable") is False else ""
    return f"{value} ({interval_cell(limits['low'], limits['high'])}){doubt}"


def print_all(measures: Measures) -> None:
    """Print everything else that the measures hold: all tables of the page, exclusions, and what is undefined."""
    from torchvice.report.page.numbers import shown_path, tables_of

    for table in (_quadrants(measures), *tables_of(measures, classes=True)):
        if table is not None:
            _print_numbers(table)
    for reason, share in measures.shares(left_out=False).items():
        paragraph(f"{share} {reason}")
    for path, note in measures.notes.items():
        if path not in NOTES:
            paragraph(f"{shown_path(path)}: {note}")
    _print_undefined(measures.undefined)


def _print_undefined(undefined: Mapping[str, str]) -> None:
    """Print what is undefined, reason by reason."""
    from torchvice.report.page.numbers import undefined_by_reason

    for reason, names in undefined_by_reason(undefined).items():
        more = f" and {len(names) - 3} more" if len(names) > 4 else ""
        paragraph(f"Undefined: {', '.join(names[:3] if more else names)}{more}. {reason}")


def _print_numbers(numbers: NumberTable) -> None:
    """A table of the page. Intervals stand next to their numbers, or below them where there are many columns."""
    from rich.text import Text

    table = plain_table(numbers.caption)
    between = "\n" if len(numbers.heads) > 3 else "  "
    rows = [
        [f"{text}{between}{interval.rpartition('interval ')[2]}" if interval else text for text, interval in row]
        for row in numbers.rows
    ]
    for place, (head, numeric) in enumerate(zip(numbers.heads, numbers.numeric, strict=True)):
        # Texts wrap between words, numbers not at all.
        parts = [part for row in rows for part in (row[place].split("\n") if numeric else row[place].split())]
        side: Any = "right" if numeric and place else "left"
        table.add_column(Text(head), justify=side, min_width=max(map(len, [*head.split(), *parts, ""])))
    for row in rows:
        add_row(table, row)
    print_table(table)


def _quadrants(measures: Measures) -> NumberTable | None:
    from torchvice.measures.quadrants import QUADRANTS
    from torchvice.measures.qualities import QUALITIES
    from torchvice.report.page.numbers import NumberTable

    if not measures.quadrants:
        return None
    cut, counts = measures.quadrants["cutoffs"], measures.quadrants["counts"]
    label = QUALITIES[measures.quadrants["by"]].label
    right = "the likeliest class" if cut["probability"] is None else f"p above {cut['probability']:g}"
    rows = [[(words, ""), (str(counts[key]), "")] for key, words in QUADRANTS.items()]
    if measures.quadrants["undefined"]:
        rows.append([(f"in none: their {label} is undefined", ""), (str(measures.quadrants["undefined"]), "")])
    caption = f"Labels (right: {right}; at the object: {label} {cut['iou']:g} or more)"
    return NumberTable(caption, "quadrant", ("quadrant", "pairs"), rows)


def interval_cell(low: float | None, high: float | None) -> str:
    """An interval for a table, such as "0.62 to 0.71"; a dash where an end is undefined."""
    from torchvice.measures.wording import interval_text

    return "–" if low is None or high is None else interval_text(low, high, 2)


def number_cell(value: float | None, digits: int = 3) -> str:
    """A number for a table; a dash where it is undefined."""
    return "–" if value is None else number(value, digits)


def print_comparison(found: Comparison) -> None:
    """The models side by side, their differences, and in words what is established and what is not."""
    from torchvice.measures.catalogue import DIFFERENCES, compared_label

    short = {row["name"]: _letter(place) for place, row in enumerate(found.models)}
    title = f"{len(found.models)} models · {found.images} images · quality: {found.quality}"
    table = _table(
        title, "model", *(compared_label(m, found.quality) for m in (*DIFFERENCES, "ece_ml")), whole="numbers"
    )
    for row in found.models:
        # Narrow: five of them stand side by side.
        spans = [interval_cell(row[f"{m}_low"], row[f"{m}_high"]).replace(" to ", "–") for m in DIFFERENCES]
        cells = [f"{number_cell(row[m])}\n{span}" for m, span in zip(DIFFERENCES, spans, strict=True)]
        add_row(table, [f"{short[row['name']]}  {row['name']}", *cells, number_cell(row["ece_ml"])])
    print_table(table)
    if any("without_object" in row for row in found.models):
        table = _table(compared_label("without_object"), "model", "share", "95 %", whole="numbers")
        for row in found.models:
            span = interval_cell(row.get("without_object_low"), row.get("without_object_high"))
            add_row(table, [f"{short[row['name']]}  {row['name']}", number_cell(row.get("without_object")), span])
        print_table(table)
    if found.seeds:
        table = _table("VICE between groups, over seeds and images", "", "seeds", "difference", "95 %", "p (Holm)")
        for row in found.seeds:
            seeds = f"{row['seeds_first']} and {row['seeds_second']}"
            cells = [number_cell(row["difference"]), interval_cell(row["low"], row["high"]), _p_cell(row)]
            add_row(table, [f"{row['first']} - {row['second']}", seeds, *cells])
        print_table(table)
    else:
        _print_pairs(found, short)
    for reason, count in found.excluded.items():
        paragraph(f"{count} {reason}")
    for sentence in found.sentences:
        paragraph(sentence)


def _print_pairs(found: Comparison, short: Mapping[str, str]) -> None:
    """The differences of every pair of models, as they are and at equal likelihood."""
    from torchvice.measures.catalogue import compared_label

    table = _table("Differences, paired over images", "", "measure", "difference", "95 %", "p (Holm)")
    for row in found.differences:
        pair = f"{short[row['first']]} - {short[row['second']]}"
        add_row(table, [pair, compared_label(row["measure"], found.quality), *_difference_cells(row)])
    print_table(table)
    if any(row["difference"] is not None for row in found.matched):
        table = _table("VICE at equal likelihood", "", "first", "second", "difference", "95 %", "no partner")
        for row in found.matched:
            cells = [number_cell(row[key]) for key in ("vice_first", "vice_second", "difference")]
            span = interval_cell(row["low"], row["high"])
            pair = f"{short[row['first']]} - {short[row['second']]}"
            add_row(table, [pair, *cells, span, number_cell(row["without_partner"], 2)])
        print_table(table)


def _letter(place: int) -> str:
    """What a model is called within the tables: A to Z, then numbers."""
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def _difference_cells(row: Mapping[str, Any]) -> list[str]:
    return [number_cell(row["difference"]), interval_cell(row["low"], row["high"]), _p_cell(row)]


def _p_cell(row: Mapping[str, Any]) -> str:
    from torchvice.measures.wording import p_text

    return "–" if row["p_holm"] is None else p_text(row["p_holm"], row["p_at_floor"])

"""`vice rank`: many models on the same images, with confidence sets of their ranks."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchvice.cli.explain import OneProtocol
from torchvice.cli.numbers import SEED, output_option, statistics_option
from torchvice.cli.tables import WIDTH, interval_cell, number_cell, paragraph, plain_table, print_table
from torchvice.cli.terminal import add_row, console, progress_bar, say

if TYPE_CHECKING:
    from torchvice.measures.rank import Ranking

__all__ = ["rank"]

NAME = 26  # characters of a name in a terminal of 80 columns; in a wider one the name has the rest


class RankBy(StrEnum):
    """The measures that rank."""

    vice = "vice"
    ji = "ji"
    ml_accuracy = "ml_accuracy"
    mean_average_precision = "mean_average_precision"
    loss = "loss"


class Bootstrap(StrEnum):
    """How replicates are made."""

    auto = "auto"
    exact = "exact"
    linear = "linear"


def rank(
    tables: list[str] = typer.Argument(
        ..., help="RUNs, tables, folders that hold them at any depth, or wildcards; two or more."
    ),
    protocol: OneProtocol = typer.Option(OneProtocol.strict, "--protocol", help="strict or paper; never mixed."),
    by: RankBy = typer.Option(RankBy.vice, "--by", help="The measure that ranks the models."),
    top: int | None = typer.Option(
        None, "--top", min=1, help="Also say which models cannot be excluded from the best K."
    ),
    split: str | None = typer.Option(None, "--split", help="Split of RUNs that were assessed on several."),
    replicates: int = statistics_option(
        2000, "--replicates", min=100, help="Number of bootstrap replicates over images, the same for all models."
    ),
    seed: int = SEED,
    bootstrap: Bootstrap = statistics_option(
        Bootstrap.auto,
        "--bootstrap",
        help="exact: VICE and mAP again in every replicate; linear: from derivatives; auto: by size, and says which.",
    ),
    processes: int | None = typer.Option(
        None, "--processes", min=1, help="Number of processes that read tables. Default: one per core from 16 tables."
    ),
    rows: int = output_option(20, "--rows", min=1, help="Number of models that are printed."),
    json: Path | None = output_option(None, "--json", help="Write the ranking to this file, too."),
    csv: Path | None = output_option(None, "--csv", help="Write a table in the form of timm's results."),
    out: Path | None = output_option(None, "--out", help="Write a page that sorts and filters, an .html file."),
    title: str | None = output_option(None, "--title", help="Title of the page. Default: the measure that ranks."),
) -> None:
    """Rank many models on the same images, with 95 % confidence sets of their ranks."""
    from torchvice.commands.rank import rank as rank_tables
    from torchvice.commands.report import check_html
    from torchvice.files import check_writable, write_json, write_text
    from torchvice.publish.ranking_csv import ranking_csv
    from torchvice.report.ranking.page import write_ranking_page

    check_writable(json, "--json", "ranking.json")
    check_writable(csv, "--csv", "ranking.csv")
    check_writable(out, "--out", "page.html")
    check_html(out)
    with progress_bar("tables") as progress:
        found = rank_tables(
            tables,
            split,
            protocol=protocol.value,
            by=by.value,
            top=top,
            replicates=replicates,
            seed=seed,
            bootstrap=bootstrap.value,
            processes=processes,
            progress=progress,
        )
    _print(found, rows)
    written = [write_json(json, found.to_json())] if json else []
    written += [write_text(csv, ranking_csv(found))] if csv else []
    written += [write_ranking_page(out, found, title=title or "")] if out else []
    if written:
        say("Written: " + ", ".join(map(str, written)))


def _print(found: Ranking, most: int) -> None:
    """The first models as a table, and what the ranking says."""
    from rich.text import Text

    from torchvice.measures.rank import ranking_label

    label, width = ranking_label(found.by, found.protocol), console().width
    table = plain_table(f"{len(found.ranked):,} models · {found.images:,} images · by {label}")
    columns = dict.fromkeys((found.by, "vice", found.accuracy, "ji"))
    heads = [ranking_label(name, found.protocol).removesuffix(f" ({found.protocol})") for name in columns]
    table.add_column(Text("rank"), justify="right")
    table.add_column(Text("95 % set"), justify="right", no_wrap=True)
    table.add_column(Text("model"), overflow="fold", max_width=NAME + max(0, width - WIDTH))
    for place, head in enumerate(heads):
        table.add_column(Text(head), justify="right", no_wrap=True)
        if not place:
            table.add_column(Text("95 %"), justify="right", no_wrap=True)
    for row in found.models[:most]:
        add_row(table, _cells(row, list(columns), found.by))
    print_table(table, width)
    if len(found.models) > most:
        paragraph(
            f"The first {most} of {len(found.models):,} models. All: --rows {len(found.models)}, --csv FILE or --out "
            "PAGE.html."
        )
    paragraph("95 % set: the ranks that the model may have. Intervals and sets hold for all models at once.")
    for sentence in found.sentences:
        paragraph(sentence)


def _cells(row: Mapping[str, Any], columns: list[str], by: str) -> list[str]:
    from torchvice.measures.rank_sentences import set_text

    ranks = ["–", "–"] if row["rank"] is None else [str(row["rank"]), set_text(row["rank_low"], row["rank_high"])]
    numbers = [number_cell(row[name]) for name in columns]
    return [*ranks, row["name"], numbers[0], interval_cell(row[f"{by}_low"], row[f"{by}_high"]), *numbers[1:]]

"""The commands, in the order of the five steps, and the one place where an error becomes a sentence and a status."""

from __future__ import annotations

import os
import sys

import typer

from torchvice import __version__
from torchvice.cli import assess, data, demo, explain, export, numbers, report, study, train, weights
from torchvice.cli.streams import prepare_streams, visible
from torchvice.errors import as_vice_error

__all__ = ["app", "main"]

app = typer.Typer(
    name="vice",
    help="Is an image classifier right for the right reasons? VICE, ECE-ML and the explanations behind them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.command("pretrain")(train.pretrain)
app.command("train")(train.train)
app.command("explain")(explain.explain)
app.command("evaluate")(numbers.evaluate)
app.command("assess")(assess.assess)
app.command("measure")(numbers.measure)
app.command("report")(report.report)
app.command("compare")(numbers.compare)
app.add_typer(export.app, name="export")
app.command("study")(study.study)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"torchvice {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the command."""


def main() -> None:
    """Run `vice`. A user mistake gives one sentence on standard error and exit status 2."""
    # Idle threads sleep instead of spinning, unless the user sets otherwise: on shared cores an assessment took 250 s
    # of CPU time instead of 20. torch, which reads this when it is loaded, is imported later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.pop("TORCHVICE_WITH_PARENT", None):
        from torchvice.files.process import end_with_parent

        end_with_parent()
    prepare_streams()
    try:
        app()
    except Exception as error:
        sentence = as_vice_error(error)
        if sentence is None:
            raise
        print(visible(f"vice: {sentence}"), file=sys.stderr)
        sys.exit(2)

"""The commands, in the order of the five steps, and the one place where an error becomes a sentence and a status."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup

from torchvice import __version__
from torchvice.cli import (
    assess,
    data,
    demo,
    explain,
    export,
    numbers,
    publish,
    rank,
    report,
    schemas,
    study,
    train,
    weights,
)
from torchvice.cli.streams import prepare_streams, visible
from torchvice.errors import as_vice_error, brief

__all__ = ["app", "main"]


class _Group(TyperGroup):
    """The group of all commands, which says what came where an option's value is refused."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            details = getattr(error.__cause__, "errors", None)  # of pydantic
            if details is not None:
                error.message = _refusal(details()[0])
            elif type(error).__name__ == "MissingParameter" and not error.message:
                # click's, or that of typer, which has its own in newer versions; it is followed by the choices.
                error.message = getattr(error.param, "help", None) or ""
            raise


def _refusal(details: Mapping[str, Any]) -> str:
    """What is wrong with an option's value, from pydantic's details.

    Example:
        >>> _refusal({"type": "greater_than_equal", "msg": "Input should be greater than or equal to 1", "input": "0"})
        'must be greater than or equal to 1, but is 0'
    """
    from torchvice.config.settings import problem_of

    rule = problem_of(details["msg"])
    if details["type"] == "value_error":
        return rule.removesuffix(".")
    return f"{rule}, but is {brief(details['input']).strip(chr(39))}"


app = typer.Typer(
    name="vice",
    cls=_Group,
    help="Is an image classifier right for the right reasons? VICE, ECE-ML and the explanations behind them.",
    no_args_is_help=True,
    add_completion=True,
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
app.command("rank")(rank.rank)
app.command("table")(numbers.table)
app.command("publish")(publish.publish)
app.add_typer(export.app, name="export")
app.command("study")(study.study)
app.command("schema")(schemas.schema)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"torchvice {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the command."""
    from torchvice.files.process import keep_freed_memory

    keep_freed_memory()


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

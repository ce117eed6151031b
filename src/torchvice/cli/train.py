"""`vice train` and `vice pretrain`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import typer

from torchvice.cli.terminal import say, stopped
from torchvice.errors import ViceError, as_vice_error

if TYPE_CHECKING:
    from torchvice.config import Settings

__all__ = ["pretrain", "train"]

PRESET = typer.Argument(..., help="A preset (demo, finetune, resnet50, vision_transformer), a YAML file or a RUN.")
OVERRIDE = typer.Option([], "--override", "-o", help="A setting, such as optimizer.lr=0.01. Repeatable.")
# Overrides of what a pre-training shares with the training that starts from its weights.
_SHARED = re.compile(r"(data|transform|model)\s*=|(data|transform)\.|model\.(name|arguments)\b")
RESUME = typer.Option(False, "--resume", help="Resume from the last checkpoint.")


def train(preset: str = PRESET, override: list[str] = OVERRIDE, resume: bool = RESUME) -> None:
    """Step 1: train a timm network on a multi-label dataset."""
    from torchvice.config import load_settings
    from torchvice.training.run import train as train_run

    settings = load_settings(preset, override)
    with _resumable(settings.folder / "config.yaml"):
        run = train_run(settings, resume=resume)
    say(f"{run.folder}: trained. Next: vice assess {quote(str(run.folder))}")


def pretrain(
    preset: str = PRESET,
    scheme: str = typer.Option(..., "--scheme", help="byol, moco_v3, dino or, for transformers, mae."),
    override: list[str] = OVERRIDE,
    choice: list[str] = typer.Option([], "--choice", help="Parameter of the scheme, such as lr=0.1. Repeatable."),
    out: Path | None = typer.Option(None, "--out", help="Folder. Default: work_dir/session_name-SCHEME."),
    resume: bool = RESUME,
) -> None:
    """Before step 1: pre-train a network on images without labels. The result is a file of weights."""
    from torchvice.config import load_settings
    from torchvice.training.pretrain import MANIFEST, default_folder
    from torchvice.training.pretrain import pretrain as pretrain_network

    settings = load_settings(preset, override)
    folder = out or default_folder(settings, scheme)
    with _resumable(folder / MANIFEST):
        weights = pretrain_network(settings, scheme, choice, folder=folder, resume=resume)
    say(f"{weights}: pre-trained. Next: vice train {quote(preset)} {_for_training(override, settings, weights)}")


def _for_training(overrides: Sequence[str], settings: Settings, weights: Path) -> str:
    """The options of `vice train` that start from pre-trained weights with the same network, input and data.

    Args:
        overrides: those of the pre-training. Its length, batches and start are not repeated.
        settings: of the pre-training.
        weights: the file that it wrote.
    """
    kept = [text for text in overrides if _SHARED.match(text)]
    start = ["model.scheme=auto"] if settings.model.scheme != "auto" else []  # that of the weights it started from
    return " ".join(f"-o {quote(text)}" for text in (*kept, *start, f"model.weights={weights}"))


@contextmanager
def _resumable(manifest: Path) -> Iterator[None]:
    """Say that a training that stops inside the block is resumed with --resume, if it has started.

    Args:
        manifest: the file that every started training has.
    """
    again = "run the same command again with --resume"
    try:
        with stopped(manifest, f"To resume, {again}."):
            yield
    except ViceError:
        raise
    except Exception as error:
        sentence = as_vice_error(error, again) if manifest.is_file() else None
        if sentence is None:
            raise
        raise sentence from error

"""`vice train` and `vice pretrain`."""

from __future__ import annotations

from pathlib import Path

import typer

from torchvice.cli.terminal import say

__all__ = ["pretrain", "train"]

PRESET = typer.Argument(..., help="A preset (demo, finetune, resnet50, vision_transformer) or a YAML file.")
OVERRIDE = typer.Option([], "--override", "-o", help="A setting, such as optimizer.lr=0.01. Repeatable.")
RESUME = typer.Option(False, "--resume", help="Resume from the last checkpoint.")


def train(preset: str = PRESET, override: list[str] = OVERRIDE, resume: bool = RESUME) -> None:
    """Step 1: train a timm network on a multi-label dataset."""
    from torchvice.config import load_settings
    from torchvice.training.run import train as train_run

    run = train_run(load_settings(preset, override), resume=resume)
    say(f"{run.folder}: trained. Next: vice assess {run.folder}")


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
    from torchvice.training.pretrain import pretrain as pretrain_network

    weights = pretrain_network(load_settings(preset, override), scheme, choice, folder=out, resume=resume)
    say(f"{weights}: pre-trained. Next: vice train {preset} -o model.weights={weights}")

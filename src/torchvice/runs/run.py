"""Run: a folder with the settings, checkpoints, dataset and results of one training."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from torchvice.config import Settings, load_settings
from torchvice.errors import ViceError
from torchvice.files import existing_file

if TYPE_CHECKING:
    from torch import nn

    from torchvice.data import FolderDataset

__all__ = ["Run"]


class Run:
    """A run's folder. Files are read on first use; only the model needs torch.

    Args:
        folder: where config.yaml lies.

    Raises:
        ViceError: the folder is not a run's.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.config.is_file():
            is_table = (self.folder / "manifest.json").is_file()
            raise ViceError(
                f"A run must be a folder with config.yaml, but {self.folder} "
                + ("is the folder of a table." if is_table else "has no such file."),
                "To resume or extend the table, repeat the command that made it: vice assess --model ... --out FOLDER."
                if is_table
                else "`vice train` makes one and prints its name; for another checkpoint: vice assess --model ...",
            )

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def config(self) -> Path:
        """The file of the settings."""
        return self.folder / "config.yaml"

    @functools.cached_property
    def settings(self) -> Settings:
        """What the run was trained with; the class names are filled in."""
        return load_settings(self.config)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The C class names, in the order of the network's outputs.

        Raises:
            ViceError: the settings do not name them.
        """
        if self.settings.data.classes is None:
            raise ViceError(f"A run's settings must name its classes, but {self.config} has no data.classes.")
        return self.settings.data.classes

    @property
    def checkpoints(self) -> Path:
        """The folder of best.ckpt and last.ckpt."""
        return self.folder / "checkpoints"

    def checkpoint(self, which: str | os.PathLike[str] = "best") -> Path:
        """The file of a checkpoint: `best`, `last`, or any path.

        Raises:
            ViceError: the checkpoint does not exist (yet).
        """
        if which not in ("best", "last"):
            return existing_file(which, "The checkpoint", "Give best, last or the path of a file.")
        path = self.checkpoints / f"{which}.ckpt"
        way_out = f"Finish the first epoch: vice train {quote(str(self.folder))} --resume."
        return existing_file(path, f"The checkpoint `{which}`", way_out)

    def model(self, checkpoint: str | os.PathLike[str] = "best") -> nn.Module:
        """The trained network, (N, 3, H, W) -> (N, C) logits, in eval mode, on the CPU.

        Raises:
            ViceError: no such checkpoint, or one that is damaged or of another network.
        """
        from torchvice.models.build import build_model

        path = self.checkpoint(checkpoint)
        chosen = self.settings.model
        model = build_model(chosen.name, len(self.classes), weights=path, arguments=chosen.arguments)
        return model.eval()

    def dataset(
        self, split: str | os.PathLike[str] | None = None, root: str | os.PathLike[str] | None = None
    ) -> FolderDataset:
        """A split of the run's dataset, or of another one with the same classes.

        Args:
            split: a split's name or a list file; None: data.eval_split.
            root: the dataset's folder; None: data.root.

        Raises:
            ViceError: the settings name a folder that is not there; else see VocDataset.
        """
        from torchvice.data import open_dataset

        data = self.settings.data
        if root is None and not Path(data.root).exists():
            relative = not Path(data.root).is_absolute()
            raise ViceError(
                f"The data of the RUN {self.folder} must be in {Path(data.root).absolute()}, but that is not there.",
                f"{'Change to the folder in which the training was started, or say' if relative else 'Say'} where they "
                "are: --data DIR.",
            )
        split = data.eval_split if split is None else split
        return open_dataset(
            data.root if root is None else root,
            split,
            classes=self.classes,
            labels=data.labels,
            masks=data.masks,
            exclusive=data.exclusive,
        )

    def assess_dir(self, split: str | os.PathLike[str] | None = None) -> Path:
        """Where the table of a split lies; a list file gives its name without the ending."""
        name = Path(self.settings.data.eval_split if split is None else split).name
        return self.folder / "assess" / name.removesuffix(".txt")

    @property
    def logs(self) -> Path:
        """The folder of Lightning's CSV and TensorBoard logs, one version_N a start."""
        return self.folder / "logs"

    @property
    def measures_json(self) -> Path:
        """The file of all numbers."""
        return self.folder / "measures.json"

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.folder / "figures"

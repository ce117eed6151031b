"""Lightning's loggers by name, and figures for them, for which they have no method in common."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.config.sections import LOGGERS
from torchvice.errors import ViceError, did_you_mean, reason_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_loggers", "log_figures", "log_once", "loggers_of", "pixels_of"]

# The packages that each needs, one of them.
_PACKAGES = {
    "csv": (),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "comet": ("comet_ml",),
}
_PROJECT = "torchvice"


def loggers_of(names: Sequence[str], folder: Path) -> list[Any]:
    """Lightning's loggers of these names, for a run in a folder.

    Files go into the folder's `logs`. Nothing is sent anywhere unless the services' own variables say so: W&B is
    offline without WANDB_API_KEY or WANDB_MODE, MLflow keeps files without MLFLOW_TRACKING_URI, and Comet an archive
    without COMET_API_KEY.

    Args:
        names: of LOGGERS.
        folder: of the RUN or table; its name is that of the run.

    Raises:
        ViceError: an unknown name, a package that is not installed, or a logger that does not start.
    """
    from lightning.pytorch.loggers import CSVLogger

    check_loggers(names)
    csv, found = CSVLogger(folder, name="logs"), list[Any]()
    for name in dict.fromkeys(names):
        try:
            found.append(csv if name == "csv" else _logger(name, folder, csv.version))
        except Exception as error:  # each package has exceptions of its own
            raise ViceError(f"The logger `{name}` does not start: {reason_of(error, '')}.", "Leave it out.") from None
    return found


def check_loggers(names: Sequence[str]) -> None:
    """Check that loggers of these names are there, see `loggers_of`.

    Raises:
        ViceError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            known = ", ".join(LOGGERS)
            raise ViceError(f"A logger must be one of {known}, but is {name!r}.", did_you_mean(name, LOGGERS))
        packages = _PACKAGES[name]
        if packages and not any(importlib.util.find_spec(package) for package in packages):
            extra = f"pip install 'torchvice[{name}]'"
            raise ViceError(f"The logger `{name}` needs {packages[0]}, which is not installed.", f"Install it: {extra}")


def _logger(name: str, folder: Path, version: Any) -> Any:
    """One logger; Lightning imports its package when it is made."""
    from lightning.pytorch import loggers

    if name == "tensorboard":
        return loggers.TensorBoardLogger(folder, name="logs", version=version, default_hp_metric=False)
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    if name == "wandb":
        offline = not os.environ.keys() & {"WANDB_API_KEY", "WANDB_MODE"}
        return loggers.WandbLogger(name=folder.name, project=_PROJECT, save_dir=logs, offline=offline)
    if name == "comet":
        return _comet(folder.name, logs)
    store = os.environ.get("MLFLOW_TRACKING_URI")
    files = None if store else (logs / "mlflow").absolute().as_uri()
    store = store or f"sqlite:///{(logs / 'mlflow.db').absolute()}"
    return loggers.MLFlowLogger(_PROJECT, folder.name, tracking_uri=store, artifact_location=files)


def _comet(name: str, logs: Path) -> Any:
    """Comet's logger, which records neither code, packages nor what is printed."""
    from lightning.pytorch.loggers import CometLogger

    unasked = ("log_code", "log_git_metadata", "log_git_patch", "log_env_details", "auto_output_logging", "parse_args")
    settings: dict[str, Any] = {**dict.fromkeys(unasked, False), "display_summary_level": 0}
    offline = not os.environ.keys() & {"COMET_API_KEY", "COMET_START_ONLINE"}
    if offline:  # with Lightning's own `online=False` the experiment would keep nothing
        os.environ["COMET_START_ONLINE"] = "0"
    try:
        return CometLogger(project=_PROJECT, name=name, offline_directory=str(logs), **settings)
    finally:
        if offline:
            del os.environ["COMET_START_ONLINE"]


def log_once(loggers: Iterable[Any], numbers: Mapping[str, float], figures: Mapping[str, Figure]) -> None:
    """Log numbers and figures by name, and close the loggers: what they keep is written."""
    for logger in loggers:
        logger.log_metrics(dict(numbers), step=0)
        log_figures([logger], figures, 0)
        logger.save()
        logger.finalize("success")
        if hasattr(logger.experiment, "end"):  # Comet's, which writes its archive then
            logger.experiment.end()


def log_figures(loggers: Iterable[Any], figures: Mapping[str, Figure], step: int) -> list[str]:
    """Log figures to the loggers that can show images: TensorBoard's, W&B's, MLflow's and Comet's.

    Args:
        loggers: Lightning's loggers, such as `trainer.loggers`; the others are skipped.
        figures: figures by name.
        step: the global step to log them at.

    Returns:
        Class names of the loggers that received the figures.
    """
    names = []
    for logger in loggers:
        take = _taking(logger)
        if take is not None:
            for name, figure in figures.items():
                take(name, pixels_of(figure), step)
            names.append(type(logger).__name__)
    return names


def _taking(logger: Any) -> Callable[[str, np.ndarray, int], object] | None:
    """How a logger takes a picture: by name, pixels (H, W, 3) uint8 and step."""
    from lightning.pytorch import loggers as kinds
    from PIL import Image

    if isinstance(logger, kinds.TensorBoardLogger):
        return lambda name, pixels, step: logger.experiment.add_image(name, pixels, step, dataformats="HWC")
    if isinstance(logger, kinds.WandbLogger):
        return lambda name, pixels, step: logger.log_image(name, [Image.fromarray(pixels)])
    if isinstance(logger, kinds.MLFlowLogger):
        experiment: Any = logger.experiment
        return lambda name, pixels, step: experiment.log_image(logger.run_id, pixels, f"{name}_{step}.png")
    if isinstance(logger, kinds.CometLogger):
        return lambda name, pixels, step: logger.experiment.log_image(Image.fromarray(pixels), name=name, step=step)
    return None


def pixels_of(figure: Figure) -> np.ndarray:
    """Draw the figure as (H, W, 3) uint8, without loading pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]

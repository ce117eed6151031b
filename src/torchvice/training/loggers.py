"""Figures in the logs: Lightning's loggers take numbers of themselves, pictures only where one knows how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["log_figures", "pixels_of"]


def log_figures(loggers: Iterable[Any], figures: Mapping[str, Figure], step: int) -> list[str]:
    """Give figures to the loggers that can show them: TensorBoard's and W&B's.

    Args:
        loggers: Lightning's, such as `trainer.loggers`; those that take no pictures are passed over.
        figures: by name.
        step: the training step that they belong to.

    Returns:
        The names of the loggers' classes that took them.
    """
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    took = []
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, figure in figures.items():
                logger.experiment.add_image(name, pixels_of(figure), global_step=step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            from PIL import Image

            for name, figure in figures.items():
                logger.log_image(name, [Image.fromarray(pixels_of(figure))])
        else:
            continue
        took.append(type(logger).__name__)
    return took


def pixels_of(figure: Figure) -> np.ndarray:
    """The figure drawn, (H, W, 3) uint8; matplotlib's pyplot is not loaded for it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]

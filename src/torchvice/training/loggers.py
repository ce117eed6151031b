"""Figures for Lightning's loggers, which have one method for numbers but none in common for images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["log_figures", "pixels_of"]


def log_figures(loggers: Iterable[Any], figures: Mapping[str, Figure], step: int) -> list[str]:
    """Log figures to the loggers that can show images: TensorBoard's and W&B's.

    Args:
        loggers: Lightning's loggers, such as `trainer.loggers`; the others are skipped.
        figures: figures by name.
        step: the global step to log them at.

    Returns:
        Class names of the loggers that received the figures.
    """
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    names = []
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
        names.append(type(logger).__name__)
    return names


def pixels_of(figure: Figure) -> np.ndarray:
    """Draw the figure as (H, W, 3) uint8, without loading pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]

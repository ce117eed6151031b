"""A RUN is a folder; a subject is a model and the data it is assessed on."""

from torchvice.runs.run import Run

__all__ = ["Run"]

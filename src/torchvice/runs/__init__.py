"""A RUN is a folder; a subject is a model, the data it is assessed on, and the settings."""

from torchvice.runs.run import Run

__all__ = ["Run"]

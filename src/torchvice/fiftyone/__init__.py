"""A table as a dataset that FiftyOne opens: pictures, labels, masks and maps, with their loss and IoU as fields."""

from torchvice.fiftyone.writing import MEDIA, write_fiftyone

__all__ = ["MEDIA", "write_fiftyone"]

"""Write a table as a FiftyOne dataset: images, labels, masks and maps, with loss and IoU as fields."""

from torchvice.fiftyone.writing import MEDIA, write_fiftyone

__all__ = ["MEDIA", "write_fiftyone"]

"""Images, class labels and masks: the layout of VOC 2012, the embedded digits, and what a network is fed.

`transforms` needs torch and `digits` scikit-learn: import them by their own names.
"""

from torchvice.data.check import Problem, SplitSurvey, check_files, survey
from torchvice.data.dataset import Dataset, FolderDataset
from torchvice.data.items import from_items
from torchvice.data.open import open_dataset, open_images
from torchvice.data.voc import (
    VOC_CLASSES,
    VOID,
    Record,
    VocDataset,
    check_mask,
    read_image,
    read_list,
    read_mask,
)

__all__ = [
    "VOC_CLASSES",
    "VOID",
    "Dataset",
    "FolderDataset",
    "Problem",
    "Record",
    "SplitSurvey",
    "VocDataset",
    "check_files",
    "check_mask",
    "from_items",
    "open_dataset",
    "open_images",
    "read_image",
    "read_list",
    "read_mask",
    "survey",
]

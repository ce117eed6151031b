"""What a training does not print."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchvice.training.trainer import process_state_kept


def test_more_workers_than_cores_print_no_warning() -> None:
    images = TensorDataset(torch.zeros(4, 1))
    with pytest.warns(UserWarning, match="This DataLoader will create"):
        DataLoader(images, num_workers=4096)
    with warnings.catch_warnings(record=True) as caught, process_state_kept():
        DataLoader(images, num_workers=4096)
    assert not [str(warning.message) for warning in caught if "worker" in str(warning.message)]

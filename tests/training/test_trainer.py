"""What training changes of the process, and what it keeps quiet."""

from __future__ import annotations

import warnings

from torch.utils.data import DataLoader

from torchvice.training.trainer import process_state_kept


def test_more_workers_than_cores_are_no_warning_of_every_loader() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        DataLoader([0, 1], num_workers=999)
        assert caught  # torch still says it where nobody asks it not to
        caught.clear()
        with process_state_kept():
            DataLoader([0, 1], num_workers=999)
    assert not [str(warning.message) for warning in caught]

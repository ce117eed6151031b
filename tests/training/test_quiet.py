"""What a training does not print."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchvice.errors import as_vice_error
from torchvice.training.trainer import process_state_kept


def test_more_workers_than_cores_print_no_warning() -> None:
    images = TensorDataset(torch.zeros(4, 1))
    with pytest.warns(UserWarning, match="This DataLoader will create"):
        DataLoader(images, num_workers=4096)
    with warnings.catch_warnings(record=True) as caught, process_state_kept():
        DataLoader(images, num_workers=4096)
    assert not [str(warning.message) for warning in caught if "worker" in str(warning.message)]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", b"logs/events"), ZeroDivisionError("a bug")])
def test_what_a_thread_of_tensorboard_raises_is_printed_unless_it_becomes_a_sentence(monkeypatch, error) -> None:
    class Writer(threading.Thread):
        __module__ = "tensorboard.summary.writer.event_file_writer"

        def run(self) -> None:
            raise error

    heard: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: heard.append(raised.exc_value))
    hook = threading.excepthook
    for thread in (Writer(), threading.Thread(target=Writer(name="other").run)):
        with process_state_kept():
            thread.start()
            thread.join()
        assert threading.excepthook is hook
        silent = isinstance(error, OSError) and isinstance(thread, Writer)
        assert heard == ([] if silent else [error])
        heard.clear()
    sentence = as_vice_error(error)
    assert sentence is None or sentence.message == "The disk is full: logs/events cannot be written."

"""errors: the sentence and the way out, and the checks of arguments."""

from __future__ import annotations

import errno
import pickle

import numpy as np
import pytest
import torch

from torchvice.errors import ViceError, as_array, as_vice_error, did_you_mean, not_utf8_error, same_length, to_numpy


def test_message_and_way_out_are_two_lines() -> None:
    error = ViceError("Expected a.", "Do b.")
    assert str(error) == "Expected a.\n    Do b."
    assert (error.message, error.way_out) == ("Expected a.", "Do b.")
    assert isinstance(error, ValueError)


def test_without_a_way_out_there_is_one_line() -> None:
    assert str(ViceError("Expected a.")) == "Expected a."


def test_error_comes_whole_out_of_a_worker_process() -> None:
    back = pickle.loads(pickle.dumps(ViceError("Expected a.", "Do b.")))
    assert (type(back), back.message, back.way_out) == (ViceError, "Expected a.", "Do b.")


def test_nearest_names_one_or_lists_all() -> None:
    assert did_you_mean("learning_rat", ["learning_rate", "epochs"]) == "Did you mean `learning_rate`?"
    assert did_you_mean(None, ["seeds"]) == "Known: seeds."  # a key of a YAML file
    assert did_you_mean("zzz", iter(["learning_rate", "epochs"])) == "Known: learning_rate, epochs."


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_plain_takes_tensors_with_a_graph(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0.5, -2.0], dtype=dtype, requires_grad=True)
    array = to_numpy(tensor)
    assert array.tolist() == [0.5, -2.0]
    assert array.dtype == (np.float64 if dtype == torch.float64 else np.float32)


def test_plain_keeps_small_integers_and_what_is_no_tensor() -> None:
    assert to_numpy(torch.tensor([1, 2], dtype=torch.uint8)).dtype == np.uint8
    value = [1, 2]
    assert to_numpy(value) is value


@pytest.mark.parametrize("value", [[["a"]], [[1, 2], [3]], [[object()]], [torch.ones(2, requires_grad=True)]])
def test_as_array_refuses_what_is_not_numbers(value: object) -> None:
    with pytest.raises(ViceError, match="`scores` must be an array of numbers with 2 dimensions"):
        as_array("scores", value, 2)


def test_as_array_refuses_another_number_of_dimensions() -> None:
    with pytest.raises(ViceError, match=r"`scores` must have 2 dimensions, but has shape \(3,\)"):
        as_array("scores", [1.0, 2.0, 3.0], 2)


def test_as_array_gives_float64_and_never_a_changed_input() -> None:
    given = np.array([[1, 2]], dtype=np.int32)
    array = as_array("scores", given, 2)
    array += 1
    assert given.tolist() == [[1, 2]]
    assert array.dtype == np.float64


def test_same_length_gives_it_or_names_all() -> None:
    assert same_length(a=[1, 2], b=np.zeros((2, 5))) == 2
    with pytest.raises(ViceError, match="must have one length, but have `a` 1, `b` 2 rows"):
        same_length(a=[1], b=[1, 2])


@pytest.mark.parametrize(
    ("name", "known", "suggested"),
    [
        ("strict.VICE", ["strict.ji", "strict.vice"], "strict.vice"),
        ("VICE", ["strict.ji", "strict.vice"], "strict.vice"),
        ("iou", ["ji", "soft_iou", "box_iou"], "ji"),
        ("strict.iou", ["strict.vice", "strict.ji"], "strict.ji"),
        ("gradcam++", ["cam", "gradcam", "gradcampp"], "gradcampp"),
        ("Grad-CAM", ["cam", "gradcam"], "gradcam"),
        ("optimiser", ["model", "optimizer"], "optimizer"),
    ],
)
def test_the_same_name_in_another_spelling_is_suggested_first(name: str, known: list[str], suggested: str) -> None:
    assert did_you_mean(name, known) == f"Did you mean `{suggested}`?"


def test_text_that_an_ascii_terminal_lacks_is_a_sentence() -> None:
    error = UnicodeEncodeError("ascii", "0.5 \u2013", 4, 5, "ordinal not in range(128)")
    assert "must be ascii, but holds '\\u2013'" in not_utf8_error(error).message


def test_full_memory_and_missing_shared_memory_are_sentences() -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")):
        assert "The memory is full." in str(as_vice_error(error))
        assert "and run it with --resume; finished work is kept." in str(as_vice_error(error, "run it with --resume"))
    for error in (
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.ENOSYS, "Function not implemented"),
        RuntimeError("unable to open shared memory object </torch_1> in read-write mode"),
    ):
        assert "Several processes cannot work together here" in str(as_vice_error(error))
        assert "--processes 1" in str(as_vice_error(error))
    hiding = RuntimeError("Please call `iter(combined_loader)` first.")
    hiding.__context__ = OSError(errno.EROFS, "Read-only file system")
    assert "Several processes cannot work together here" in str(as_vice_error(hiding))
    assert as_vice_error(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None

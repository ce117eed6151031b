"""What refusals of files and of locks say, done."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy
import numpy as np
import pytest
from PIL import Image

from torchvice.data import open_dataset
from torchvice.errors import ViceError
from torchvice.files import existing_file, read_npy_dict
from torchvice.files.lock import locked
from ways_out import tried

HOLD = """
import sys
from torchvice.files.lock import locked
with locked(sys.argv[1], "x"):
    print("in", flush=True)
    sys.stdin.read()
"""


def taken(path):
    with locked(path, "The study"):
        return path.read_text()


@pytest.mark.parametrize("how", ["wait", "end it"])
def test_a_folder_is_free_after_the_process_that_holds_it(tmp_path, how):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()

        def right():
            if how == "wait":
                holder.stdin.close()
            else:
                holder.kill()
            holder.wait()
            return taken(path)

        says = "Wait until it ends, or end it, and run the same command again: it resumes there."
        assert '"pid"' in tried(lambda: taken(path), says, right)


def test_a_file_that_is_not_there_is_the_one_that_is_suggested(tmp_path):
    (tmp_path / "scores.csv").write_text("x")
    with pytest.raises(ViceError) as told:
        existing_file(tmp_path / "score.csv", "The file")
    name = re.search(r"Did you mean `(.*)`\?", told.value.way_out)[1]
    found = tried(
        lambda: existing_file(tmp_path / "score.csv", "The file"),
        "Did you mean `",
        lambda: existing_file(name, "The file"),
    )
    assert found.read_text() == "x"


def test_the_way_out_of_the_caller_holds_for_files_and_for_links(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "link.csv").symlink_to("gone.csv")
    for wrong in ("gone.csv", "link.csv"):
        found = tried(
            lambda wrong=wrong: existing_file(tmp_path / wrong, "The file", "Give a.csv."),
            "Give a.csv.",
            lambda: existing_file(tmp_path / "a.csv", "The file", "Give a.csv."),
        )
        assert found.read_text() == "x"


@pytest.mark.parametrize("content", [b"no", "array"])
def test_a_dictionary_is_written_by_the_words_of_the_refusal(tmp_path, content):
    path = tmp_path / "a.npy"
    if content == "array":
        np.save(path, np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(ViceError) as told:
        read_npy_dict(path)
    code = re.search(r"(np\.save\(path, \{\.\.\.\}\))", told.value.way_out)[1]

    def right():
        exec(code.replace("{...}", "{0: np.ones(2)}"), {"np": numpy, "path": path})
        return read_npy_dict(path)

    found = tried(lambda: read_npy_dict(path), "Write it again with np.save(path, {...}).", right)
    assert found[0].tolist() == [1, 1]


def labels(root):
    """The labels of two images, whatever file of labels lies there."""
    return open_dataset(root, "val").targets.tolist()


def test_a_damaged_file_of_labels_is_written_again(tmp_path):
    for part in ("JPEGImages", "SegmentationClass"):
        (tmp_path / part).mkdir()
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "val.txt").write_text("0\n1\n")
    for name in "01":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "SegmentationClass" / f"{name}.png")
    (tmp_path / "cls_labels.npy").write_bytes(b"no")
    vectors = {"0": np.array([1, 0]), "1": np.array([0, 1])}

    def right():
        np.save(tmp_path / "cls_labels.npy", vectors)
        return labels(tmp_path)

    found = tried(lambda: labels(tmp_path), "Write it again with np.save(path, {...}).", right)
    assert found == [[1, 0], [0, 1]]

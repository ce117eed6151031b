"""Each way out that errors.py and interop.py name, done."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import nn

from torchvice.cli.app import app
from torchvice.data.digits import write_digits
from torchvice.errors import as_vice_error, errors_quoted
from torchvice.explain import FaithfulnessChoices
from torchvice.interop import read_maps, read_table, write_maps
from ways_out import tried


@contextlib.contextmanager
def as_the_command_does() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise as_vice_error(error) or error from error


def command(*words: Any) -> None:
    with as_the_command_does():
        typer.main.get_command(app).main([str(word) for word in words], standalone_mode=False)


@pytest.fixture
def files(tmp_path: Path) -> list[Any]:
    """The words of `vice evaluate` for two images."""
    (tmp_path / "list.txt").write_text("a\nb\n")
    from PIL import Image

    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        mask = np.array([[1, 0], [0, 2]], np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
        np.savez(tmp_path / "maps" / f"{name}.npz", keys=[0, 1], maps=np.stack([mask == 1, mask == 2]).astype(float))
    words = ["evaluate", "--list", tmp_path / "list.txt", "--predictions", tmp_path / "maps", "--curve"]
    return [*words, "--ground-truth", tmp_path / "masks", "--type", "npz", "--classes", 2]


def test_a_setting_of_a_list_of_names_is_suggested() -> None:
    found = tried(
        lambda: FaithfulnessChoices.parse(["deletion", "step=10"]),
        "Did you mean `steps`?",
        lambda: FaithfulnessChoices.parse(["deletion", "steps=10"]),
    )
    assert found.steps == 10


def test_code_of_the_user_is_tried_by_itself() -> None:
    dataset: Any = {0: ("image", 1)}

    def item(index: int) -> Any:
        with errors_quoted(f"The dataset must give item {index}", f"Try dataset[{index}]."):
            return dataset[index]

    def repaired() -> Any:
        with pytest.raises(KeyError):
            dataset[1]
        dataset[1] = ("image", 0)
        return item(1)

    assert tried(lambda: item(1), "Try dataset[1].", repaired) == ("image", 0)


def test_space_is_freed_and_the_same_command_run_again(
    files: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def again() -> str:
        monkeypatch.undo()
        command(*files, "--processes", 1, "--json", tmp_path / "found.json")
        return (tmp_path / "found.json").read_text()

    monkeypatch.setattr(os, "replace", full)
    says = "Free some space and run the same command again"
    assert "mean_iou" in tried(
        lambda: command(*files, "--processes", 1, "--json", tmp_path / "found.json"), says, again
    )


def test_another_path_is_given_for_a_folder_that_is_a_file(files: list[Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    given = (*files, "--processes", 1, "--json")
    tried(
        lambda: command(*given, tmp_path / "file" / "found.json"),
        "Give another path.",
        lambda: command(*given, tmp_path / "folder" / "found.json"),
    )
    assert (tmp_path / "folder" / "found.json").is_file()


class Hungry(nn.Module):
    """A network without memory for three images at once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise MemoryError
        logits: torch.Tensor = self.fc(self.conv(images).relu().mean((2, 3)))
        return logits


def test_smaller_batches_fit_into_the_memory() -> None:
    """Of a pass that no command makes: an assessment halves such batches by itself."""
    network = Hungry().eval()

    def passed(batch_size: int) -> torch.Tensor:
        with as_the_command_does():
            logits: torch.Tensor = network(torch.zeros(batch_size, 3, 48, 48))
            return logits

    assert len(tried(lambda: passed(3), "use smaller batches", lambda: passed(2))) == 2


def without_memory_of_processes(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def test_one_process_needs_no_shared_memory(files: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import concurrent.futures

    import torchvice.commands.evaluate as evaluate

    monkeypatch.setattr(evaluate, "CHUNK", 1)
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", without_memory_of_processes)
    target = tmp_path / "found.json"
    tried(
        lambda: command(*files, "--processes", 2),
        "One process needs none of it: --processes 1",
        lambda: command(*files, "--processes", 1, "--json", target),
    )
    assert target.is_file()


def test_a_training_without_workers_needs_no_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.data import dataloader

    write_digits(tmp_path / "set", train=4, val=2, test=2, size=48)
    given = ["train", "demo"]
    for setting in (
        *(f"data.root={tmp_path / 'set'}", f"work_dir={tmp_path / 'runs'}", "trainer.epochs=1", "transform.crop=32"),
        *("model.name=test_resnet", "model.arguments={}", "trainer.batch_size=2", "trainer.accelerator=cpu"),
    ):
        given += ["-o", setting]

    def refused(self: Any, loader: Any) -> None:
        self._shutdown = True
        without_memory_of_processes()

    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "__init__", refused)
    tried(
        lambda: command(*given, "-o", "data.workers=1", "-o", "session_name=two"),
        "training: -o data.workers=0)",
        lambda: command(*given, "-o", "data.workers=0", "-o", "session_name=one"),
    )
    assert (tmp_path / "runs" / "one" / "checkpoints" / "best.ckpt").is_file()


def test_one_process_of_an_assessment_needs_no_further_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvice.assessment.parts as parts
    from torchvice.cli.shards import part_of

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def part(processes: int) -> Any:
        with as_the_command_does():
            return part_of(processes, None)

    monkeypatch.setattr(parts.subprocess, "Popen", refused)
    assert tried(lambda: part(2), "--processes 1", lambda: part(1)).count == 1


def test_a_stream_in_utf8_takes_every_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed(encoding: str) -> bytes:
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with as_the_command_does():
            print("0.5 \u2013 0.6", file=stream, flush=True)
        return stream.buffer.getvalue()

    found = tried(lambda: printed("ascii"), "Set PYTHONIOENCODING=utf-8.", lambda: printed("utf-8"))
    assert found.decode() == "0.5 \u2013 0.6\n"


def test_a_file_whose_name_is_not_utf8_is_renamed(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.jpg"))
    path.touch()

    def listed() -> str:
        with as_the_command_does():
            names = "\n".join(file.name for file in tmp_path.glob("*.jpg"))
            (tmp_path / "list.txt").write_text(names, encoding="utf-8")
            return (tmp_path / "list.txt").read_text(encoding="utf-8")

    def renamed() -> str:
        path.rename(tmp_path / "b.jpg")
        return listed()

    assert tried(listed, "Rename the file or folder of this name.", renamed) == "b.jpg"


HEADER = "name_image,loss,miou"


def table(path: Path, text: str, encoding: str = "utf-8") -> Any:
    path.write_text(text, encoding=encoding)
    return read_table(path)


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        ("name_image;loss\na;0.5\n", "Separate the cells by commas, not by ';'.", "name_image,loss\na,0.5\n"),
        ("name_image\tloss\na\t0.5\n", "Separate the cells by commas, not by '\\t'.", "name_image,loss\na,0.5\n"),
        ("image,loss\na,0.5\n", "Only name_image is required.", "name_image\na\n"),
        (f"{HEADER}\na,0.5", "If the file is incomplete, write it again.", f"{HEADER}\na,0.5,0.25\n"),
        (f"{HEADER}\na,0.5,25", "Divide per cent by 100.", f"{HEADER}\na,0.5,{25 / 100}\n"),
    ],
)
def test_a_table_is_written_as_it_is_said(wrong: str, says: str, right: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    found = tried(lambda: table(path, wrong), says, lambda: table(path, right))
    assert found.name_image.tolist() == ["a"]


@pytest.mark.parametrize(("text", "encoding"), [("name_image\nbär\n", "latin-1"), ('name_image\n"a"b\n', "utf-8")])
def test_a_table_is_saved_as_csv_in_utf8(text: str, encoding: str, tmp_path: Path) -> None:
    def saved() -> Any:
        with open(tmp_path / "table.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([[line] for line in text.splitlines()])
        return read_table(tmp_path / "table.csv")

    found = tried(lambda: table(tmp_path / "table.csv", text, encoding), "Save it as CSV UTF-8.", saved)
    assert found.name_image.tolist() == [text.splitlines()[1]]


@pytest.mark.parametrize(
    ("says", "maps", "options"),
    [
        ("Scale them,", np.full((1, 2, 2), 1.0), {}),
        ("write them with dtype=numpy.float32.", np.full((1, 2, 2), 1e6), {"dtype": np.float32}),
    ],
)
def test_large_maps_are_scaled_or_written_in_float32(
    says: str, maps: np.ndarray, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    tried(lambda: write_maps(path, [0], np.full((1, 2, 2), 1e6)), says, lambda: write_maps(path, [0], maps, **options))
    assert (read_maps(path)[1][0] == maps[0]).all()


PLANE = np.eye(2, dtype=np.float32)


def saved_dict(path: Path, content: dict[Any, Any]) -> Any:
    np.save(path, content, allow_pickle=True)
    return read_maps(path)


def saved_npz(path: Path, **arrays: Any) -> Any:
    np.savez(path, **arrays)
    return read_maps(path)


def test_maps_of_a_dictionary_have_integers_as_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    classes, maps = tried(
        lambda: saved_dict(path, {"cat": PLANE}),
        "Save np.save(path, {class_index: map, ...}) with integers from 0 on.",
        lambda: saved_dict(path, {0: PLANE}),
    )
    assert (classes.tolist(), maps[0].tolist()) == ([0], PLANE.tolist())


def test_a_damaged_archive_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(pickle.dumps([1]))
    classes, _ = tried(
        lambda: read_maps(path),
        "write it again: np.savez(path, keys=..., maps=...).",
        lambda: saved_npz(path, keys=[3], maps=PLANE[None]),
    )
    assert classes.tolist() == [3]


@pytest.mark.parametrize("name", ["cams", "high_res", "attn_highres", "cam"])
@pytest.mark.parametrize("save", [saved_npz, lambda path, **arrays: saved_dict(path.with_suffix(".npy"), arrays)])
def test_maps_have_one_of_the_names_that_are_said(name: str, save: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {"keys": np.array([3])}
    classes, _ = tried(
        lambda: save(path, **arrays, saliency=PLANE[None]),
        f"{name}" + (";" if name == "cam" else ""),
        lambda: save(path, **arrays, **{name: PLANE[None]}),
    )
    assert classes.tolist() == [3]

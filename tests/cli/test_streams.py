"""Terminals of other encodings, and names that hold control characters."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planted import planted
from torchvice.cli.streams import prepare_streams, visible


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"0.5 - ... ? a\xffb"),
        ("latin-1", b"0.5 - ... \xe9 a\xffb"),
        ("cp1252", b"0.5 \x96 \x85 \xe9 a\xffb"),
        ("utf-8", "0.5 – … é a".encode() + b"\xffb"),
    ],
)
def test_every_encoding_is_written(monkeypatch, encoding: str, written: bytes) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    prepare_streams()
    print("0.5 – … é a\udcffb", end="", flush=True)
    assert raw.getvalue() == written


def test_control_characters_are_shown() -> None:
    assert visible("a\x1b]0;title\x07b\x9b1m\r") == r"a\x1b]0;title\x07b\x9b1m\r"
    assert visible("left\u202eright") == r"left\u202eright"
    assert visible("two\nlines\tand café") == "two\nlines\tand café"


def test_names_are_text_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    from torchvice.cli.terminal import add_row, console, say

    table = Table()
    table.add_column("name")
    for name in ("cat[red]dog", "a[/b]", ":cat:", "x\x1b[2Jy"):
        add_row(table, [name])
        say(name)
    console().print(table)
    output = capsys.readouterr().out
    assert all(output.count(name) == 2 for name in ("cat[red]dog", "a[/b]", ":cat:", r"x\x1b[2Jy"))
    assert "\x1b[2J" not in output


def test_a_bar_is_drawn_from_its_first_progress_on(capsys: pytest.CaptureFixture[str]) -> None:
    from torchvice.cli.terminal import progress_bar

    with pytest.raises(ZeroDivisionError), progress_bar("images"):
        raise ZeroDivisionError
    assert capsys.readouterr().err.strip() == ""
    with progress_bar("images") as bar:
        bar(1, 2)
    assert "1/2" in capsys.readouterr().err


def test_the_line_of_an_error_shows_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvice.cli.app import main

    monkeypatch.setattr(sys, "argv", ["vice", "measure", "no\x1b[2Jsuch.csv"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert r"no\x1b[2Jsuch.csv" in error
    assert "\x1b" not in error


def test_an_ascii_terminal_shows_undefined_numbers(tmp_path) -> None:
    import os
    import subprocess

    (tmp_path / "t.csv").write_text("name_image,label,prediction\na,[0 1],[0]\nb,[1],[1]\n")
    command = [sys.executable, "-m", "torchvice.cli", "measure", str(tmp_path / "t.csv"), "--no-figures", "--all"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False)
    assert done.returncode == 0, done.stderr
    assert b"--classes" in done.stdout


def test_what_is_computed_is_written_although_nobody_reads_what_is_printed(tmp_path: Path) -> None:
    planted(60).save(tmp_path / "table")
    words = [sys.executable, "-m", "torchvice.cli", "measure", "table", "--replicates", "100", "--no-figures", "--all"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "table" / "measures.json").read_text())["images"] == 60

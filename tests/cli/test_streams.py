"""Terminals of other encodings, and names that hold control characters."""

from __future__ import annotations

import io
import sys

import pytest

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

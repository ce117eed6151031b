"""The page as a PDF: by a browser where there is one, else one sentence, and the page is kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import CHROMIUM, page_of, shown

from command import vice
from planted import planted
from torchvice.errors import ViceError
from torchvice.report import write_page
from torchvice.report.pdf import write_pdf
from ways_out import tried


def _browser(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str = "") -> Path:
    """A folder that is the whole PATH, with a `chromium` that runs a program of the shell, if one is given."""
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    if program:
        (folder / "chromium").write_text(f"#!/bin/sh\n{program}\n")
        (folder / "chromium").chmod(0o755)
    return folder


@pytest.mark.skipif(CHROMIUM is None, reason="the page is printed by chromium, which is absent")
def test_the_page_is_printed_whole(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path)
    file = write_pdf(page)
    assert file == tmp_path / "report.pdf"
    content = file.read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > 3
    sizes = re.findall(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)", content)
    assert {(round(float(w)), round(float(h))) for w, h in sizes} == {(595, 842)}  # A4 in points
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.pdf"]


def test_without_a_browser_one_sentence_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    planted(40).save(tmp_path / "table")
    _browser(tmp_path / "bin", monkeypatch)
    status, _, err = vice(capsys, "report", tmp_path / "table", "--pdf", "--out", tmp_path / "page.html")
    assert status == 2
    assert "A PDF is printed by Chromium, Chrome or Edge, but none of chromium," in err
    assert "open the page in any browser and print it" in err
    assert not (tmp_path / "page.html").exists()


def test_a_browser_that_fails_leaves_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_page(tmp_path / "page.html", shown(planted(40)))
    _browser(tmp_path / "bin", monkeypatch, "echo no display >&2; exit 1")
    with pytest.raises(ViceError, match="but wrote no PDF: no display"):
        write_pdf(page)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "page.html"]


def test_installing_a_browser_is_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_page(tmp_path / "page.html", shown(planted(40)))
    folder = _browser(tmp_path / "bin", monkeypatch)

    def installed() -> Path:
        written = (
            'for word; do case "$word" in --print-to-pdf=*) printf "%s" "%PDF-1.4 %%EOF" > "${word#*=}";; esac; done'
        )
        (folder / "google-chrome").write_text(f"#!/bin/sh\n{written}\n")
        (folder / "google-chrome").chmod(0o755)
        return write_pdf(page, tmp_path / "other.pdf")

    assert tried(lambda: write_pdf(page), "Install one", installed).read_bytes() == b"%PDF-1.4 %%EOF"

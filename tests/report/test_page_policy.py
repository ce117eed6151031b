"""The second wall of every page: markup that got into it would not run, and the page's own scripts do."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from pages import CHROMIUM, Watched, current, found, page_of, pictures, shown
from studies import COMPARED, rows_of, study_folder

from tables import scenes, table_of
from torchvice.report import write_page
from torchvice.report.study.page import write_study_page
from torchvice.report.study.recipes import read_study
from variants import slow_but

RUNS = "<script>window.ran = 'inline'</script><img src=x onerror=\"window.ran = 'handler'\">"


def folder_page(folder: Path) -> Path:
    made = scenes(12)
    return write_page(folder / "page", shown(table_of(made)), pictures(made), folder=True)


def study_page(folder: Path) -> Path:
    study = study_folder(folder / "study", rows_of(), COMPARED, name="four networks", axes={"network": list("abcd")})
    return write_study_page(study / "report.html", read_study(study))


PAGES = {
    "file": lambda folder: page_of(folder)[0],
    "folder": folder_page,
    "study": study_page,
}


@pytest.mark.parametrize("kind", PAGES)
def test_the_policy_names_each_inline_script_by_its_hash(tmp_path: Path, kind: str) -> None:
    text = PAGES[kind](tmp_path).read_text("utf-8")
    policy = re.search(r"script-src ([^;]*);", text)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    from_files = ["'strict-dynamic'", "'self'", "file:"] if kind == "folder" else []
    assert policy[1].split() == [*(f"'sha256-{digest}'" for digest in hashes), *from_files]


@pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is absent")
@pytest.mark.parametrize("kind", slow_but(PAGES, "file"))
def test_injected_scripts_do_not_run(watched: Watched, tmp_path: Path, kind: str) -> None:
    file = PAGES[kind](tmp_path)
    (file.parent / "other.js").write_text("window.ran = 'file'")
    text = file.read_text("utf-8")
    injected = RUNS + '<script src="other.js"></script>'
    file.write_text(text.replace("<main>", f"<main>{injected}").replace("</main>", f"{injected}</main>"), "utf-8")
    page = watched.open(file)
    page.wait_for_load_state()
    assert page.evaluate("window.ran") is None
    refused = [text for text in watched.trouble if "Content Security Policy" in text]
    assert len(refused) >= 4
    watched.trouble[:] = [text for text in watched.trouble if text not in refused and "ERR_FILE_NOT_FOUND" not in text]
    if kind != "study":
        watched.settled()
        order = found(page)
        page.locator("#case").focus()
        page.keyboard.press("ArrowRight")
        watched.settled()
        assert current(page) == order[1]
    page.locator("#help-open").click()
    assert page.locator("#help").is_visible()

"""Documentation: every command parses, the navigation has every page, and the site builds without a warning."""

from __future__ import annotations

import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from torchvice.cli.app import app
from torchvice.measures.catalogue import paths

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.ipynb")])
API = {  # package: its page
    "torchvice": "torchvice",
    "torchvice.metrics": "metrics",
    "torchvice.explain": "explain",
    "torchvice.measures": "measures",
    "torchvice.samples": "samples",
    "torchvice.data": "data",
    "torchvice.report": "report",
    "torchvice.fiftyone": "fiftyone",
}
# The flags of the original's own documentation, by step.
ORIGINAL = [
    *("train_multi_scale", "gen_mask_for_multi_crop", "network", "session_name", "optimizer.lr", "crop_size"),
    *("weights", "infer_list", "eval_list", "fignote", "--options", "--list", "--predict_dir", "--gt_dir"),
    *("--comment", "--type", "--curve", "--dir_csv", "--plot_title"),
]


def blocks(text: str) -> list[str]:
    """The commands `vice ...` in code blocks, one per line, without comments."""
    commands = []
    for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ")
            if re.match(r"vice [\w-]", command):
                commands.append(command)
    return commands


def mentions(text: str) -> list[str]:
    """The commands `vice ...` in running text."""
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(command.split()) for command in re.findall(r"`(vice [^`]+)`", outside)]


def commands() -> list[tuple[str, str, bool]]:
    rows = []
    for page in PAGES:
        text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
        rows += [(name, command, True) for command in blocks(text)]
        rows += [(name, command, False) for command in mentions(text)]
    return rows


@functools.cache
def command_group() -> Any:
    """The command `vice`, which takes a while to build."""
    return typer.main.get_command(app)


def parsed(command: str, whole: bool) -> str:
    """The error of a command, or "". A command that is not `whole` may lack required arguments."""
    group = command_group()
    words = shlex.split(command, comments=True)[1:]
    while hasattr(group, "commands") and words and not words[0].startswith("-"):
        if words[0] not in group.commands:
            return f"no command {words[0]!r}"
        group = group.commands[words.pop(0)]
    if not whole and not words:
        return ""
    try:
        group.make_context("vice", list(words))
    except Exception as error:  # from click or from typer's copy of it, depending on the version
        name, message = type(error).__name__, str(getattr(error, "message", error))
        missing = name == "MissingParameter" or "requires an argument" in message
        if name == "Exit" or (missing and not whole):
            return ""
        return f"{name}: {message}"
    return ""


@pytest.mark.parametrize(("page", "command", "whole"), commands())
def test_every_command_in_the_docs_parses(page: str, command: str, whole: bool) -> None:
    # An ellipsis is a placeholder for a value, or for nothing.
    error = parsed(command, whole) and parsed(command.replace(" ...", ""), whole)
    assert not error, f"{page}: {command}"


def test_the_parser_finds_what_is_wrong() -> None:
    assert "no command" in parsed("vice nothing runs/x", True)
    assert "--nonsense" in parsed("vice measure runs/x --nonsense", True)
    assert parsed("vice measure", True).startswith("MissingParameter")
    assert not parsed("vice measure", False)
    assert not parsed("vice assess --controls", False)
    assert parsed("vice assess runs/x --controls", True)
    assert parsed("vice assess --protocol neither", False)
    assert not parsed("vice assess runs/x --protocol strict  # half the price", True)


def test_the_navigation_has_every_page_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"(\S+\.(?:md|ipynb))$", text.partition("\nnav:")[2], re.MULTILINE)
    on_disk = {str(path.relative_to(DOCS)) for ending in ("md", "ipynb") for path in DOCS.rglob(f"*.{ending}")}
    assert len(named) == len(set(named))
    assert set(named) == on_disk


def test_every_link_between_pages_leads_to_a_page() -> None:
    links = 0
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        text = re.sub(
            r'^--8<-- "([^"]+)"$', lambda m: (ROOT / m[1]).read_text(encoding="utf-8"), text, flags=re.MULTILINE
        )
        text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", text):
            if ":" not in target:
                assert (page.parent / target).is_file(), (page.relative_to(ROOT), target)
                links += 1
    assert links > 50


def test_nothing_is_fetched_for_a_page() -> None:
    class Loader(yaml.SafeLoader):
        """YAML with mkdocs' variables of the environment."""

    Loader.add_constructor("!ENV", lambda loader, node: loader.construct_sequence(node)[-1])
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    assert settings["site_url"] == ""  # pages that are opened from disk have none
    assert settings["strict"] is True
    assert settings["theme"]["font"] is False
    assert "repo_url" not in settings  # the theme would fetch the repository's stars
    # The search runs on pages opened from disk, with a file of ours in place of the one that the plugin would fetch.
    assert {"search", "offline"} <= {name for name in settings["plugins"] if isinstance(name, str)}
    assert [(DOCS / name).is_file() for name in settings["extra"]["polyfills"]] == [True]


CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="the search is tested in chromium, which is absent")
def test_a_worker_answers_on_a_page_opened_from_disk(tmp_path: Path) -> None:
    browsers = pytest.importorskip("playwright.sync_api")
    shutil.copy(DOCS / "iframe-worker.js", tmp_path)
    (tmp_path / "more.js").write_text("const twice = (n) => 2 * n;")
    worker = (
        "addEventListener('message', async (e) => { await importScripts('more.js'); postMessage(twice(e.data)); });"
    )
    (tmp_path / "worker.js").write_text(worker)
    page = """<body><script src="iframe-worker.js"></script><script>
        const worker = new Worker(new URL("worker.js", location));
        worker.addEventListener("message", (event) => { document.title = event.data; });
        worker.postMessage(21);
    </script></body>"""
    (tmp_path / "page.html").write_text(page)
    with browsers.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.goto((tmp_path / "page.html").as_uri())
        opened.wait_for_function("document.title === '42'", timeout=20_000)
        browser.close()


def test_the_page_on_the_original_names_every_flag_of_it() -> None:
    page = (DOCS / "original-scripts.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    for flag in ORIGINAL:
        assert any(re.search(rf"(?<![\w.-]){re.escape(flag)}\b", row) for row in rows), flag


def test_every_step_has_the_options_of_its_command() -> None:
    of_data = ("data check", "data voc", "data coco", "data digits")
    for name in (*of_data, "train", "explain", "evaluate", "assess", "measure", "report", "compare", "rank"):
        page = (DOCS / "steps" / f"{name.split()[0]}.md").read_text(encoding="utf-8")
        assert f"<!-- options: {name} -->" in page
    page = (DOCS / "pretraining.md").read_text(encoding="utf-8")
    assert all(f"<!-- options: {name} -->" in page for name in ("pretrain", "weights inspect", "weights convert"))


def test_the_page_lists_every_number_of_three_sections() -> None:
    page = (DOCS / "steps" / "measure.md").read_text(encoding="utf-8")
    for section in ("paper", "strict", "classification"):
        row = re.search(rf"^\| `{section}` \| (.*) \|$", page, re.MULTILINE)
        assert row, section
        assert set(re.findall(r"`(\w+)`", row[1])) == {path.partition(".")[2] for path in paths(section)}


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_for_nothing(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocstrings", "mkdocs_llmstxt"):
        pytest.importorskip(package, reason="the extra `docs` is not installed")
    program = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(program, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+", text)
        assert not [tag for tag in loaded if "canonical" not in tag], page.name
    for package, page in API.items():
        text = (tmp_path / "api" / f"{page}.html").read_text(encoding="utf-8")
        shown = set(re.findall(r'id="?([\w.]+)"?', text))
        for name in importlib.import_module(package).__all__:
            constant = name.isupper() or name in ("__version__", "metrics")
            # A function with the name of its module is on the page under either name.
            assert constant or shown & {f"{package}.{name}", f"{package}.{name}.{name}"}, f"{package}.{name}"
    assert (tmp_path / "search" / "search_index.js").is_file()  # for pages opened from disk
    assert "--batch-size N" in (tmp_path / "steps" / "assess.html").read_text(encoding="utf-8")
    for_assistants = (tmp_path / "llms.txt").read_text(encoding="utf-8")
    named = re.findall(r"\]\(/(\S+\.md)\)", for_assistants)
    assert len(named) > 30
    assert not [name for name in named if not (tmp_path / name).is_file()]
    assert "--batch-size N" in (tmp_path / "steps" / "assess.md").read_text(encoding="utf-8").replace("\\", "")

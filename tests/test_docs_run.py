"""docs/: every command and every Python or YAML block of every page runs as it stands, in the order of its page.

The commands are read from the pages. This file holds what the pages cannot: which options make a command short, which
Python names a page takes for granted, and what is not run, with the reason. docs_world.py writes the files they name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import matplotlib.pyplot as plt
import pytest
import torch
import yaml

from command import status_of
from docs_world import NARROW, SHALLOW, SIZES, Clip, Hybrid, tokenizer, write_described, write_world
from torchvice.data import VocDataset, digits
from torchvice.explain import METHODS
from torchvice.models.prompts import read_prompts

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHANNELS = json.dumps(NARROW["channels"], separators=(",", ":"))
# Options that are added to every command that matches. Nothing is downloaded here, and a page has seconds: one epoch,
# few images, narrow or shallow networks, few resamplings, archives and folders that are a part of the published ones.
SHORT = {
    r"vice (train (?!runs/)|pretrain|demo)": "-o trainer.epochs=1 -o trainer.batch_size=4 -o data.workers=0",
    r"vice (train|pretrain) resnet50|vice demo .*--model resnet50": (
        f"-o transform.crop=64 -o model.arguments.channels={CHANNELS}"
    ),
    r"vice train vision_transformer": f"-o model.arguments.depth={SHALLOW['depth']}",
    r"vice train .*convnext_tiny": "-o model.arguments.depths=[1,1,1,1] -o optimizer.backbone_lr=null",
    r"vice train (?!runs/)(?!.*model\.weights)|vice pretrain": "-o model.pretrained=false",
    r"vice pretrain": "--choice hidden=16 --choice outputs=8",
    r"vice (assess|explain) .*--model resnet": f"--argument channels={CHANNELS}",
    r"vice assess .*--images imagenet/val": "--class-map imagenet-wordnet",  # three of the 1000 folders are there
    r"vice assess .*--faithfulness": "--faithfulness insertion,deletion,steps=5",
    r"vice study trained": f"-o model.arguments.channels={CHANNELS} -o transform.crop=64 -o assess.view_size=64",
    r"vice data digits": " ".join(f"--{name} {value}" for name, value in SIZES.items()),
    r"vice data voc": "--unverified",
    r"vice (measure (?!.*csv)|compare|rank|report (?!runs/(.*study|trained))|table|publish)": "--replicates 100",
}
# The status of a check that does not pass, as the page says; a network of one epoch passes none.
STATUS = {"--fail-under": 1, "--fail-if": 1}
# What is not run: the page, how the line or the block begins, and why.
EXCUSED = [
    ("index.md", "make demo", "sets up .venv with pip and runs `vice demo`, which runs"),
    ("pretraining.md", "pip install", "installs from PyPI"),
    ("original-scripts.md", "python ", "the paper's scripts, which are not in this repository"),
    ("fiftyone.md", "import fiftyone", "fiftyone is installed apart, and the app is a server: test_fiftyone_reader.py"),
    ("fiftyone.md", "from fiftyone", "fiftyone is installed apart: test_fiftyone_reader.py reads the views"),
    ("studies.md", "vice study digits --jobs 2", "54 trainings; tests/study runs small ones, --dry-run plans this one"),
    ("ray.md", "import ray", "needs Ray and starts a cluster: test_ray.py runs the same"),
    ("ray.md", "images = ray.data", "needs Ray: test_ray.py gives its columns"),
    ("ray.md", "from ray.data", "needs Ray and starts a cluster: test_ray.py runs the same"),
    ("your-model.md", "vice assess --model open_clip:", "needs open_clip_torch: test_zero_shot.py runs it"),
]
if importlib.util.find_spec("mlcroissant") is None:
    EXCUSED.append(("publish.md", "vice publish runs/r50 --to croissant", "mlcroissant is not installed"))
if importlib.util.find_spec("duckdb") is None:
    EXCUSED.append(("sql.md", "import duckdb", "duckdb is not installed"))
if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
    EXCUSED.append(("sql.md", "from pyspark", "pyspark or Java is not installed"))


@dataclass(frozen=True)
class Step:
    """What a reader types: a line of a shell, or a block of Python or YAML."""

    language: str
    text: str


def steps(page: str) -> list[Step]:
    """The steps of a page, in its order."""
    found = []
    for language, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        lines = text.replace("\\\n", " ").splitlines() if language == "" else []
        found += [
            Step(language or "shell", part.strip() if lines else part) for part in lines or [text] if part.strip()
        ]
    return found


ALL = {str(path.relative_to(DOCS)): steps(str(path.relative_to(DOCS))) for path in sorted(DOCS.rglob("*.md"))}
# `text` is what a page includes.
TYPED = {page: typed for page, found in ALL.items() if (typed := [step for step in found if step.language != "text"])}


def reason(page: str, step: Step) -> str | None:
    """Why a step is not run; None: it is run."""
    return next((why for where, start, why in EXCUSED if where == page and step.text.startswith(start)), None)


def added_options(line: str) -> str:
    """The options that are added to a command."""
    return " ".join(options for pattern, options in SHORT.items() if re.match(pattern, line))


def outputs_of(step: Step) -> list[str]:
    """What a step writes: it is not there before."""
    if step.language == "python":
        return re.findall(r'write_digits\("([^"]+)"', step.text)
    if step.text.startswith("vice data voc"):  # its archives are there, in place of a download
        return []
    folders = re.findall(r"--out (\S+)", step.text)
    if step.text.startswith("vice explain"):
        folders += re.findall(r"--maps (\S+)", step.text)
    return folders + [f"runs/{name}" for name in re.findall(r"session_name=(\S+)", step.text)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that pages name."""
    home = tmp_path_factory.mktemp("docs") / "world"
    home.mkdir()
    write_world(home)
    return home


def prepare_home(page: str, world: Path, home: Path) -> None:
    """Copy the world, without what the page itself writes."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith((".pth", ".safetensors", ".tar")) else shutil.copy2)(source, target)

    shutil.copytree(world, home, symlinks=True, copy_function=copy)
    for place in [home / name for step in TYPED[page] for name in outputs_of(step)]:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
    if page == "publish.md":  # timm's results are of one label an image
        shutil.rmtree(home / "runs" / "r50")
        (home / "runs" / "single").rename(home / "runs" / "r50")
    if page == "studies.md":  # its study of checkpoints, "this file"
        for step in TYPED[page]:
            if named := re.match(r"# (\w+\.yaml)\n", step.text):
                (home / named[1]).write_text(step.text)
    if page == "explanations.md":  # its methods, "in a file"
        blocks = [step.text for step in TYPED[page] if step.language == "python"]
        (home / "mine.py").write_text("\n\n".join(blocks))


def run_line(line: str) -> None:
    """Run a command: `vice` in this process, anything else by a shell."""
    if not line.startswith("vice "):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(["bash", "-c", line], env=os.environ | {"PATH": path}, check=False)
        assert done.returncode == 0
        return
    # The demo writes the digits in the size that --train, --val and --test would give.
    small = mock.patch.object(digits, "write_digits", partial(digits.write_digits, **SIZES))
    words = shlex.split(line, comments=True)[1:] + shlex.split(added_options(line))
    with small if line.startswith("vice demo") else contextlib.nullcontext():
        status = status_of(*words)
    assert status == next((value for option, value in STATUS.items() if option in line), 0)


def run_python(code: str, page: str, names: dict[str, Any]) -> None:
    """Run a block of Python with the names of the blocks before it, and with the model that it is about."""
    classes = 1 if "polyp" in code else 20 if "voc12" in code or "VOC_CLASSES" in code else 10
    torch.manual_seed(0)
    names["model"] = Clip() if "zero_shot" in code else Hybrid(classes).eval()
    with methods_restored():
        exec(compile(code, f"docs/{page}", "exec"), names)
    plt.close("all")


@contextlib.contextmanager
def methods_restored() -> Iterator[None]:
    """Forget the methods that the block registers."""
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def read_yaml(text: str, number: int) -> None:
    """Read a block of YAML as what it is: a study, the description of a dataset, or prompts."""
    content = yaml.safe_load(text)
    file = Path(f"block-{number}.yaml")
    if named := re.match(r"# yaml-language-server: \$schema=(\S+)", text):
        jsonschema.validate(content, json.loads(Path(named[1]).read_text()))
    if "axes" in content:
        file.write_text(text)
        assert status_of("study", file, "--dry-run") == 0
    elif "names" in content:
        folder = Path(f"block-{number}")
        folder.mkdir()
        (folder / "dataset.yaml").write_text(text)
        write_described(folder, content)
        assert status_of("data", "check", folder) == 0
    else:
        file.write_text(text)
        assert read_prompts(file, ["cat", "crane"]).texts
        Path("prompts.yaml").write_text(text)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", TYPED)
def test_everything_on_a_page_runs_in_its_order(
    page: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare_home(page, world, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    names: dict[str, Any] = {"__name__": "page", "dataset": VocDataset(world / "digits", "val"), "tokenizer": tokenizer}
    with methods_restored():
        for number, step in enumerate(TYPED[page]):
            if reason(page, step):
                continue
            capfd.readouterr()
            try:
                if step.language == "shell":
                    run_line(step.text)
                elif step.language == "python":
                    run_python(step.text, page, names)
                else:
                    read_yaml(step.text, number)
            except Exception as error:
                out, err = capfd.readouterr()
                pytest.fail(
                    f"docs/{page}:\n{step.text}\n{added_options(step.text)}\n{error!r}\n{out[-1500:]}\n{err[-1500:]}"
                )


def test_no_block_and_no_command_escapes() -> None:
    for page, found in ALL.items():
        text = (DOCS / page).read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(BLOCK.findall(text)), page
        assert not re.findall(r"^(?: {2,}|\t)vice ", BLOCK.sub("", text), re.MULTILINE), page
        assert {step.language for step in found} <= {"shell", "python", "yaml", "text"}, page
    assert sum(len(found) for found in TYPED.values()) > 100


def test_every_excuse_and_every_rule_is_of_something_on_a_page() -> None:
    for page, start, why in EXCUSED:
        assert why
        assert any(step.text.startswith(start) for step in TYPED[page]), (page, start)
    lines = [step.text for found in TYPED.values() for step in found if step.language == "shell"]
    for pattern in SHORT:
        assert any(re.match(pattern, line) for line in lines), pattern
    for option in STATUS:
        assert any(option in line for line in lines), option
    for page, found in TYPED.items():  # what is no command of torchvice is excused, or run by a shell
        others = [step.text for step in found if step.language == "shell" and not step.text.startswith("vice ")]
        assert all(reason(page, Step("shell", line)) or "python " in line for line in others), page

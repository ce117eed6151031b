"""docs/in-training.md: every Python block runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "in-training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"docs/in-training.md, block {number}", "exec"), {"__name__": "page"})
    said = capsys.readouterr().out
    assert "nan" not in said.splitlines()[-1]
    assert re.search(r"-?0\.\d+", said)


def test_there_are_four() -> None:
    assert len(BLOCKS) == 4

"""docs/sql.md: the queries of DuckDB and of Spark, as the page has them, give the numbers of `measure`."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulated import simulated
from tables import scenes, table_of
from torchvice.measures import measure
from torchvice.metrics import confidence, sample_accuracy, sample_loss, sigmoid
from torchvice.samples import Samples, ShardFolder

PAGE = (Path(__file__).parents[1] / "docs" / "sql.md").read_text(encoding="utf-8")
EXCLUSIVE = re.search(r"```text\n(.*)\n```", PAGE)


def block(start: str) -> str:
    """The block of Python that begins with an import."""
    (code,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if text.startswith(start))
    return code


def queried(code: str, samples: Samples, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the block leaves, run where the table lies in two shards at the path of the page."""
    target = ShardFolder(folder / re.search('TABLE = "(.*)"', code)[1])  # type: ignore[index]
    target.start(samples.manifest)
    names = np.unique(samples.images.image_id.astype(str))
    for part in np.array_split(names, 2):
        target.append(*(each.where(np.isin(each.image_id.astype(str), part))
                        for each in (samples.images, samples.regions, samples.maps)))  # fmt: skip
    monkeypatch.chdir(folder)
    found: dict[str, Any] = {}
    exec(compile(code, "docs/sql.md", "exec"), found)
    return found


def both_protocols(seed: int = 0) -> Samples:
    """A table of both protocols, with the columns that `vice assess` derives for `paper`."""
    samples = table_of(scenes(60, seed))
    images = samples.images
    logits = np.where(images.logits == 0, np.float32(0.25), images.logits)  # no probability of one half: see the page
    p = sigmoid(logits)
    columns = {"loss": sample_loss(logits, images.targets), "accuracy": sample_accuracy(p > 0.5, images.targets)}
    return replace(samples, images=replace(images, logits=logits, confidence=confidence(p), **columns))


def assert_those_of_measure(found: dict[str, Any], samples: Samples) -> None:
    expected = measure(samples, replicates=0)
    assert found["vice"] == pytest.approx(expected.strict["vice"], abs=1e-9)
    qualities = {row.name: row.quality for row in expected.classes if row.quality is not None}
    assert found["classes"] == pytest.approx(qualities, abs=1e-9, rel=0)


@pytest.mark.parametrize("seed", range(3))
def test_duckdb(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb")
    samples = both_protocols(seed)
    found = queried(block("import duckdb"), samples, tmp_path, monkeypatch)
    assert_those_of_measure(found, samples)
    assert found["ece_ml"] == pytest.approx(measure(samples, replicates=0).paper["ece_ml"], abs=1e-9)


def test_duckdb_reads_the_headline_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb")
    samples = simulated(90, others={"strict:gradcam": {"role": "method", "dependence": -2.0}})
    code = block("import duckdb").partition("(ece_ml,)")[0]  # the table is of `strict` alone
    assert_those_of_measure(queried(code, samples, tmp_path, monkeypatch), samples)


def test_duckdb_where_classes_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb")
    samples = simulated(90, targets="exclusive")
    first = samples.images.targets.argmax(axis=1)  # the only class that stays of each image
    images = replace(samples.images, targets=np.eye(len(samples.classes), dtype=np.uint8)[first])
    own = dict(zip(images.image_id.tolist(), (first + 1).tolist(), strict=True))
    kept = [own[name] == label for name, label in zip(samples.regions.image_id, samples.regions.label, strict=True)]
    samples = replace(samples, images=images, regions=samples.regions.where(np.array(kept)))
    code = block("import duckdb").partition("(ece_ml,)")[0]
    assert code.count("logits[label] AS logit") == 1
    assert EXCLUSIVE is not None
    found = queried(code.replace("logits[label] AS logit", EXCLUSIVE[1]), samples, tmp_path, monkeypatch)
    assert_those_of_measure(found, samples)


@pytest.mark.slow
def test_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    samples = both_protocols()
    found = queried(block("from pyspark"), samples, tmp_path, monkeypatch)
    try:
        assert_those_of_measure(found, samples)
    finally:
        found["spark"].stop()

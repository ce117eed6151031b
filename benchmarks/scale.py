"""VICE, Spearman and ECE-ML of 10 or 100 million rows of Parquet, against pandas, scipy, torchmetrics and DuckDB.

Each contender runs in a separate process, so that its memory peak can be measured. The table and the contenders' own
files are written to a temporary folder, which is removed at the end. DuckDB runs if it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import processor

COLUMNS = ["loss", "ji", "confidence", "accuracy"]
SHARD = 1_000_000


def write_table(folder: Path, rows: int) -> int:
    """Image shards of `rows` images as `vice assess` names them; returns their bytes on disk."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from torchvice.samples import ShardFolder

    manifest = {
        "classes": ["cat"],
        "targets": "multilabel",
        "thresholds": [0.5],
        "explanations": {"paper:cam": {"role": "headline", "protocol": "paper"}},
        "protocols": {"paper": {"view": "crop", "explanation": "paper:cam"}},
        **{name: {} for name in ("model", "dataset", "versions")},
    }
    ShardFolder(folder).start(manifest)
    for number, start in enumerate(range(0, rows, SHARD)):
        n = min(SHARD, rows - start)
        rng = np.random.default_rng([0, number])
        hidden, confidence = rng.normal(size=n), rng.uniform(0.3, 1, n)
        columns = {
            "view": pa.array(["crop"] * n),
            "has_mask": pa.array(np.ones(n, bool)),
            "loss": np.exp(1.6 * hidden - 2),
            "ji": 1 / (1 + np.exp(hidden + 2 * rng.normal(size=n))),
            "confidence": confidence,
            "accuracy": (rng.random(n) < confidence**1.5).astype(float),
        }
        path = folder / f"images-{number:05d}.parquet"
        pq.write_table(pa.table(columns), path, compression="zstd", write_page_checksum=True)
    return sum(path.stat().st_size for path in folder.glob("*.parquet"))


def ours(folder: Path) -> dict[str, float]:
    from torchvice.measures.stream import stream_measures

    found = stream_measures(folder)
    return {"vice": found.vice, "spearman": found.spearman, "ece": found.ece_ml}


def ours_without_ranks(folder: Path) -> dict[str, float]:
    from torchvice.measures.stream import stream_measures

    found = stream_measures(folder, spearman=False)
    return {"vice": found.vice, "ece": found.ece_ml}


def scipy_and_torchmetrics(folder: Path) -> dict[str, float]:
    import pandas as pd
    import torch
    from scipy import stats
    from torchmetrics.functional.classification import binary_calibration_error

    frame = pd.read_parquet(sorted(folder.glob("*.parquet")), columns=COLUMNS)
    sure, right = (torch.from_numpy(frame[name].to_numpy(copy=True)) for name in ("confidence", "accuracy"))
    return {
        "vice": -stats.pearsonr(frame["loss"], frame["ji"]).statistic,
        "spearman": -stats.spearmanr(frame["loss"], frame["ji"]).statistic,
        "ece": binary_calibration_error(sure, right.int(), n_bins=20).item(),
    }


def pandas_only(folder: Path) -> dict[str, float]:
    import pandas as pd

    frame = pd.read_parquet(sorted(folder.glob("*.parquet")), columns=COLUMNS)
    bins = pd.cut(frame["confidence"], np.linspace(0, 1, 21))
    means = frame.groupby(bins, observed=True)[["confidence", "accuracy"]].agg(["mean", "size"])
    gaps = (means["confidence"]["mean"] - means["accuracy"]["mean"]).abs() * means["confidence"]["size"]
    return {
        "vice": -frame["loss"].corr(frame["ji"]),
        "spearman": -frame["loss"].corr(frame["ji"], method="spearman"),
        "ece": gaps.sum() / len(frame),
    }


def duckdb_in_one_gigabyte(folder: Path) -> dict[str, float]:
    import duckdb

    rank = "(rank() OVER (ORDER BY {0}) + count(*) OVER (ORDER BY {0})) / 2"  # the count ends with the last of a tie
    database = duckdb.connect()
    database.execute(f"SET memory_limit = '1GB'; SET temp_directory = '{tempfile.gettempdir()}'")
    table = f"read_parquet('{folder}/images-*.parquet')"
    vice, spearman = database.execute(
        "SELECT -corr(loss, ji), -corr(a, b) "
        f"FROM (SELECT loss, ji, {rank.format('loss')} AS a, {rank.format('ji')} AS b FROM {table})"
    ).fetchone()
    (ece,) = database.execute(
        "SELECT sum(abs(gap)) / sum(n) FROM (SELECT sum(confidence - accuracy) AS gap, count(*) AS n "
        f"FROM {table} GROUP BY least(greatest(ceil(20 * confidence), 1), 20))"
    ).fetchone()
    return {"vice": vice, "spearman": spearman, "ece": ece}


CONTENDERS: dict[str, Callable[[Path], dict[str, float]]] = {
    "torchvice": ours,
    "torchvice, without ranks": ours_without_ranks,
    "scipy, torchmetrics": scipy_and_torchmetrics,
    "pandas": pandas_only,
    "duckdb, 1 GB": duckdb_in_one_gigabyte,
}
IMPORTS = {
    "torchvice": "torchvice.measures.stream, pyarrow.parquet, pyarrow.compute",
    "torchvice, without ranks": "torchvice.measures.stream, pyarrow.parquet, pyarrow.compute",
    "scipy, torchmetrics": "pandas, pyarrow.parquet, pyarrow.dataset, scipy.stats, torch, torchmetrics",
    "pandas": "pandas, pyarrow.parquet, pyarrow.dataset",
    "duckdb, 1 GB": "duckdb",
}


def memory(line: str) -> float:
    """Memory of this process in MB: VmRSS now, VmHWM at its peak (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) / 1024


@contextlib.contextmanager
def watched(folder: Path, most: list[int]) -> Iterator[None]:
    """Put the most bytes that a folder holds during the block, read twice a second, into `most`."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            sizes = []
            for path in folder.rglob("*"):
                with contextlib.suppress(OSError):  # removed in between
                    sizes.append(path.stat().st_size)
            most[0] = max(most[0], sum(sizes))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def timed(name: str, folder: Path) -> dict[str, Any]:
    """Run one contender in this process: seconds and memory, both without its imports, and bytes of temporary files."""
    exec(f"import {IMPORTS[name]}")
    most = [0]
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak after the imports
    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    with watched(Path(tempfile.gettempdir()), most):
        values = CONTENDERS[name](folder)
    return {
        "disk": most[0] / 1e6,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": memory("VmHWM") - before,
        **values,
    }


def main() -> None:
    """Print a row for each contender: its fastest run and its highest peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(timed(options.one[0], Path(options.one[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="torchvice-scale-") as name:
        table, work = Path(name, "table"), Path(name, "work")
        table.mkdir()
        work.mkdir()
        size = write_table(table, options.rows)
        print(processor())
        print(f"{options.rows:,} rows, {size / 1e6:.0f} MB in {len(list(table.glob('*.parquet')))} shards")
        header = f"{'s':>8}{'CPU s':>8}{'MB':>8}{'disk MB':>9}{'VICE':>12}{'Spearman':>12}{'ECE':>12}"
        print(f"{'contender':<26}{header}")
        for contender in options.contenders:
            if importlib.util.find_spec(IMPORTS[contender].partition(",")[0].partition(".")[0]) is None:
                print(f"{contender:<26} is not installed")
                continue
            command = [sys.executable, __file__, "--one", contender, str(table)]
            space = {**os.environ, "TMPDIR": str(work)}
            runs = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=space).stdout)
                    for _ in range(options.repeat)]  # fmt: skip
            best, peak = min(runs, key=lambda run: run["wall"]), max(run["peak"] for run in runs)
            numbers = "".join(f"{best.get(measure, float('nan')):>12.8f}" for measure in ("vice", "spearman", "ece"))
            times = f"{best['wall']:>8.2f}{best['cpu']:>8.2f}{peak:>8.0f}{max(run['disk'] for run in runs):>9.0f}"
            print(f"{contender:<26}{times}{numbers}", flush=True)


if __name__ == "__main__":
    main()

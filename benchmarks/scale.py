"""Ten million rows: VICE, Spearman and ECE-ML from Parquet shards, against pandas, scipy and torchmetrics.

Each contender runs in a separate process, so that its memory peak can be measured. The table is written to a temporary
folder, which is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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


CONTENDERS: dict[str, Callable[[Path], dict[str, float]]] = {
    "torchvice": ours,
    "torchvice, without ranks": ours_without_ranks,
    "scipy, torchmetrics": scipy_and_torchmetrics,
    "pandas": pandas_only,
}
IMPORTS = {
    "torchvice": "torchvice.measures.stream, pyarrow.parquet, pyarrow.compute",
    "torchvice, without ranks": "torchvice.measures.stream, pyarrow.parquet, pyarrow.compute",
    "scipy, torchmetrics": "pandas, pyarrow.parquet, pyarrow.dataset, scipy.stats, torch, torchmetrics",
    "pandas": "pandas, pyarrow.parquet, pyarrow.dataset",
}


def memory(line: str) -> float:
    """Memory of this process in MB: VmRSS now, VmHWM at its peak (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) / 1024


def timed(name: str, folder: Path) -> dict[str, Any]:
    """Run one contender in this process: seconds and memory, both without its imports."""
    exec(f"import {IMPORTS[name]}")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak after the imports
    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    values = CONTENDERS[name](folder)
    return {
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
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(timed(options.one[0], Path(options.one[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="torchvice-scale-") as name:
        size = write_table(Path(name), options.rows)
        print(processor())
        print(f"{options.rows:,} rows, {size / 1e6:.0f} MB in {len(list(Path(name).glob('*.parquet')))} shards")
        print(f"{'contender':<26}{'s':>7}{'CPU s':>8}{'MB':>8}{'VICE':>12}{'Spearman':>12}{'ECE':>12}")
        for contender in CONTENDERS:
            command = [sys.executable, __file__, "--one", contender, name]
            runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                    for _ in range(options.repeat)]  # fmt: skip
            best, peak = min(runs, key=lambda run: run["wall"]), max(run["peak"] for run in runs)
            numbers = "".join(f"{best.get(measure, float('nan')):>12.8f}" for measure in ("vice", "spearman", "ece"))
            print(f"{contender:<26}{best['wall']:>7.2f}{best['cpu']:>8.2f}{peak:>8.0f}{numbers}", flush=True)


if __name__ == "__main__":
    main()

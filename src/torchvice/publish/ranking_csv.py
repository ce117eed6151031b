"""A ranking in the form of timm's results, with our columns behind theirs."""

from __future__ import annotations

import csv
import io
from typing import Any

from torchvice.measures.rank import Ranking
from torchvice.measures.reduced import MEASURES
from torchvice.publish.timm_csv import COLUMNS

__all__ = ["ranking_csv"]

OWN = ("rank", "rank_low", "rank_high", "alone_low", "alone_high", "candidate", "sure")
LATER = ("given_accuracy", "given_accuracy_low", "given_accuracy_high", "on_front", "front_share", "method")


def ranking_csv(ranking: Ranking) -> str:
    """CSV with heads and a row for each model in the order of the ranks, then the tables that were left out.

    Accuracies of timm's columns are in per cent, and empty where an image has several labels; ours are fractions, such
    as `strict_vice`, `strict_vice_low` and `strict_vice_high` (simultaneous intervals). What is undefined is empty;
    `reason` says why a table was left out.
    """
    measures = [
        f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high") if f"{name}{end}" in ranking.models[0]
    ]
    heads = [*COLUMNS, *OWN, *(_head(name, ranking) for name in measures), *LATER, "reason"]
    out = io.StringIO()
    writer = csv.DictWriter(out, heads, restval="", lineterminator="\n")
    writer.writeheader()
    for row in ranking.models:
        written: dict[str, Any] = {
            "model": row["name"],
            "img_size": row["img_size"],
            "interpolation": row["interpolation"],
        }
        for top in (1, 5):
            if row[f"top{top}"] is not None:
                right = 100 * row[f"top{top}"]
                written |= {f"top{top}": f"{right:.3f}", f"top{top}_err": f"{100 - right:.3f}"}
        written |= {name: row[name] for name in (*OWN, *LATER)}
        written |= {_head(name, ranking): row[name] for name in measures}
        writer.writerow({name: "" if value is None else value for name, value in written.items()})
    writer.writerows({"model": row["name"], "reason": row["reason"]} for row in ranking.left_out)
    return out.getvalue()


def _head(name: str, ranking: Ranking) -> str:
    return f"{ranking.protocol}_{name}"

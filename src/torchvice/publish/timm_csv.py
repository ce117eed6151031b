"""A row of the results of timm (its results/*.csv), with our columns behind theirs."""

from __future__ import annotations

import csv
import io
from typing import Any

from torchvice.errors import ViceError
from torchvice.measures import Measures
from torchvice.measures.reduced import top_share
from torchvice.publish.published import headline
from torchvice.samples import Samples

__all__ = ["COLUMNS", "timm_row"]

# Those of timm's files, in their order; accuracies and errors are in per cent.
COLUMNS = (*("model", "top1", "top1_err", "top5", "top5_err", "param_count", "img_size", "crop_pct", "interpolation"),)


def timm_row(samples: Samples, measures: Measures, network: str) -> str:
    """Heads and one row. What a table does not hold (parameters, crop share) stays empty.

    Args:
        samples: the table of a model with one label an image.
        measures: of the table.
        network: timm's name of the model.

    Returns:
        CSV: top-1 and top-5 accuracy of the view of `strict` in per cent, then the headline numbers and the ends of
        their intervals, such as `strict_vice`, `strict_vice_low`, `strict_vice_high`.

    Raises:
        ViceError: images with several labels, or a table without `strict`.
    """
    if not samples.exclusive:
        raise ViceError(
            "timm's results are of one label an image, but this table is of several.",
            "Give --to json or --to model-index.",
        )
    if "strict" not in samples.protocols:
        raise ViceError(
            "timm's results need the view of `strict`, but it was not assessed.",
            "Run vice assess with --protocol both.",
        )
    images = samples.of_protocol("strict").images
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"model": network}
    for top in (1, 5):
        right = 100 * top_share(images.logits, images.targets, top)
        row |= {f"top{top}": f"{right:.3f}", f"top{top}_err": f"{100 - right:.3f}"}
    view = samples.manifest.get("map_settings", {})
    row |= {"img_size": view.get("view_size") or "", "interpolation": view.get("interpolation") or ""}
    for one in headline(measures):
        name = one.path.replace(".", "_")
        row |= {name: one.value}
        row |= {f"{name}_{end}": limit for end in ("low", "high") if (limit := getattr(one, end)) is not None}
    out = io.StringIO()
    writer = csv.DictWriter(out, list(row), lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    return out.getvalue()

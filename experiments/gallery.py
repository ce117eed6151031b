"""The pictures of docs/gallery.md and of the first page: the figures of a demo RUN, reduced in size.

python experiments/gallery.py [RUN]        RUN: default runs/demo, made by `vice demo` if missing
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from torchvice.commands.draw import draw_cases
from torchvice.commands.measure import measure_path
from torchvice.runs import Run

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery"
DIAGRAMS = ("vice", "reliability_paper", "reliability_strict", "threshold_curve")
WIDTH = 1020  # pixels of a column: 300 dpi
CASES_WIDTH = 1100


def main() -> None:
    """Make the RUN if it is missing, and write its figures reduced in size."""
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "demo"
    if not (run / "figures" / "cases.png").is_file():
        subprocess.run([sys.executable, "-m", "torchvice.cli", "demo", "--out", str(run)], cwd=ROOT, check=True)
    GALLERY.mkdir(exist_ok=True)
    for name in DIAGRAMS:
        with Image.open(run / "figures" / f"{name}.png") as picture:
            small = _narrow(picture.convert("RGB"), WIDTH).quantize(96)
            small.save(GALLERY / f"{name}.png", optimize=True)
    for name, each in (("cases", 2), ("case_of_each", 1)):
        _cases(run, name, each)
    for file in sorted(GALLERY.iterdir()):
        print(f"{file.relative_to(ROOT)}  {file.stat().st_size / 1024:.0f} KB")


def _cases(run: Path, name: str, each: int) -> None:
    """Write the sheet with `each` cases of every kind."""
    measured = measure_path(run)
    dataset = Run(run).dataset()
    assert measured.samples is not None
    with tempfile.TemporaryDirectory() as folder:
        png, _ = draw_cases(measured.samples, dataset, folder, each)
        with Image.open(png) as picture:
            small = _narrow(picture.convert("RGB"), CASES_WIDTH)
    small.save(GALLERY / f"{name}.jpg", quality=78, optimize=True)


def _narrow(picture: Image.Image, width: int) -> Image.Image:
    if picture.width <= width:
        return picture
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()

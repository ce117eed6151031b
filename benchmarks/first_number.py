"""From `pip install` to the page on somebody's own images and network: seconds, and decisions.

`python benchmarks/first_number.py` makes what a new user has: an environment in which torch and the other packages are
there already, a folder of 40 images with masks of 0 and 255, and a ResNet-18 of torchvision as a file. It then types
four commands: `pip install`, `vice assess`, `vice measure`, `vice report`. Decisions are options without a default. The
network is not trained: it is about the way, not about the numbers. Exits with status 1 if a target is missed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import processor
from PIL import Image

IMAGES = 40
MOST_SECONDS, MOST_DECISIONS = 180.0, 3  # from the first command to the page
ROOT = Path(__file__).resolve().parents[1]


def write_images(folder: Path) -> None:
    """Photographs with digits on them, and their masks of 0 and 255, called NAME_mask.png."""
    from torchvice.data import open_dataset
    from torchvice.data.digits import write_digits

    digits = open_dataset(write_digits(folder / "digits", train=1, val=1, test=IMAGES, size=256), "test")
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for row, record in enumerate(digits.records):
        Image.fromarray(digits.image(row)).save(folder / "photos" / f"{record.image_id}.jpg", quality=95)
        mask = (digits.mask(row) > 0).astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / "masks" / f"{record.image_id}_mask.png")


def write_network(file: Path) -> None:
    """A ResNet-18 of torchvision with one output."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18(num_classes=1).state_dict(), file)


def environment(folder: Path) -> Path:
    """A fresh virtual environment that sees the packages of this one, but not torchvice; its folder of commands."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    inside = subprocess.run(
        [folder / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (Path(inside) / "_torch_is_there.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="first-number-") as name:
        home = Path(name)
        write_images(home)
        write_network(home / "net.pth")
        commands = environment(home / "env")
        table = "runs/first"
        own = ["--model", "torchvision:resnet18", "--weights", "net.pth", "--images", "photos", "--masks", "masks"]
        decisions = {"the network": own[:4], "the images": own[4:6], "their masks": own[6:]}
        steps = {
            "pip install": ["pip", "install", "--quiet", str(ROOT)],
            "vice assess": ["vice", "assess", *own, "--out", table],
            "vice measure": ["vice", "measure", table],
            "vice report": ["vice", "report", table],
        }
        print(f"{processor()}, {os.cpu_count()} cores; {IMAGES} images, resnet18 of torchvision, all controls")
        total = 0.0
        for step, (command, *words) in steps.items():
            begin = time.perf_counter()
            subprocess.run([commands / command, *words], check=True, cwd=home, stdout=subprocess.DEVNULL)
            total += (seconds := time.perf_counter() - begin)
            print(f"  {step:14} {seconds:6.1f} s")
        page = home / table / "report.html"
        print(f"  from pip install to {page.name} ({page.stat().st_size / 1e6:.1f} MB): {total:.0f} s")
        print(f"  decisions: {len(decisions)} ({', '.join(decisions)})")
        return int(total > MOST_SECONDS or len(decisions) > MOST_DECISIONS)


if __name__ == "__main__":
    sys.exit(main())

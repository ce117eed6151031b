"""What an installed wheel must do, without the checkout and without extras: `python installed.py`; noxfile.py runs it.

No test by pytest: the package has to come from site-packages. Made images and a network with random weights; the
numbers are compared between the command and the library, since nothing is known of them otherwise.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


def vice(*words: str | Path) -> str:
    """The standard output of `vice WORDS`, which must end with status 0."""
    script = Path(sys.executable).parent / "vice"
    return subprocess.run([script, *map(str, words)], check=True, capture_output=True, text=True).stdout


def write_images(folder: Path) -> None:
    """24 images with a bright square, and their masks of 0 and 255."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for number in range(24):
        image, mask = rng.integers(0, 90, (96, 96, 3)), np.zeros((96, 96))
        top, left = rng.integers(0, 64, 2)
        image[top : top + 32, left : left + 32] += 120
        mask[top : top + 32, left : left + 32] = 255
        Image.fromarray(image.astype(np.uint8)).save(folder / "photos" / f"{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{number}.png")


def main() -> None:
    """Assess, measure and report by the command, and the same by the library."""
    import torch
    from torchvision.models import resnet18

    import torchvice

    assert "site-packages" in torchvice.__file__, f"not the installed package: {torchvice.__file__}"
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        write_images(home)
        torch.manual_seed(0)
        network = resnet18(num_classes=1)
        torch.save(network.state_dict(), home / "net.pth")
        assert "assess" in vice("--help")
        images = ("--images", home / "photos", "--masks", home / "masks")
        vice(
            "assess", "--model", "torchvision:resnet18", "--weights", home / "net.pth", *images, "--out", home / "table"
        )
        vice("measure", home / "table")
        page = vice("report", home / "table")
        assert (home / "table" / "report.html").stat().st_size > 10_000, page
        by_command = json.loads((home / "table" / "measures.json").read_text())
        samples = torchvice.assess(
            network, images=home / "photos", masks=home / "masks", out=home / "library", progress=False
        )
        by_library = torchvice.measure(samples).to_json()
        for protocol in ("paper", "strict"):
            command, library = by_command[protocol]["vice"], by_library[protocol]["vice"]
            assert isinstance(command, float), f"{protocol} VICE is {command}"
            assert command == library, f"{protocol} VICE is {command} by the command, {library} by the library"
    print(f"torchvice {torchvice.__version__} works as installed: command, library, page")


if __name__ == "__main__":
    main()

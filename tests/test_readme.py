"""Every command and snippet of README.md is typed as it stands, in its order, where the files it names are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchvice.data import VOC_CLASSES, VocDataset
from torchvice.data.digits import write_digits

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Nothing is downloaded here, and a test has minutes: pretrained weights and epochs of this one command are cut.
SHORT = {
    "vice train resnet50": "-o model.pretrained=false -o trainer.epochs=1 -o transform.crop=96 -o trainer.batch_size=8"
}
GIVEN = (
    "import timm, torch\nmodel, images = timm.create_model('resnet10t', num_classes=20), torch.randn(2, 3, 96, 96)\n"
)
PLUGIN = """import torchvice.explain


@torchvice.explain.method("mine", needs="activations", cost="1 forward")
def mine(scene):
    result = scene.run_network(gradients=False)
    scene.targets_of(result.outputs)
    return result.outputs, result.activations.mean(1)[[image for image, _ in scene.pairs]]
"""


def typed() -> list[tuple[str, str]]:
    """(language, text) of what a reader types: the commands `vice ...` line by line, and the Python blocks."""
    found = []
    for language, text in BLOCK.findall(README.read_text(encoding="utf-8")):
        if language == "python":
            found.append(("python", text))
        found += [("vice", line) for line in text.splitlines() if line.startswith("vice ")]
    return found


def files_of_a_reader(home: Path) -> None:
    """The folder `voc12` with VOC's layout and names, photos with masks of 0 and 255, weights, maps and a plug-in."""
    import timm
    import torch
    import torchvision

    write_digits(home / "voc12", train=16, val=12, test=2, size=96)
    for name in ("classes.txt", "cls_labels.npy"):  # the digits 0 to 9 become the first ten classes of VOC
        (home / "voc12" / name).unlink()
    (home / "voc12" / "train.txt").rename(home / "voc12" / "train_aug.txt")
    data = VocDataset(home / "voc12", "val")
    assert data.classes == VOC_CLASSES
    for name in ("photos", "masks", "cams"):
        (home / name).mkdir()
    rng = np.random.default_rng(0)
    rows = [",".join(["id", *data.classes])]
    for row, record in enumerate(data.records):
        Image.fromarray(data.image(row)).save(home / "photos" / f"{record.image_id}.jpg")
        mask = np.isin(data.mask(row), (1, 2, 3, 4, 5)).astype(np.uint8) * 255
        Image.fromarray(mask).save(home / "masks" / f"{record.image_id}.png")
        classes = np.flatnonzero(data.targets[row])
        np.savez(home / "cams" / f"{record.image_id}.npz", keys=classes, maps=rng.random((len(classes), 14, 14)))
        rows.append(",".join([record.image_id, *(f"{z:.4f}" for z in rng.normal(size=20) + 3 * data.targets[row] - 1)]))
    (home / "logits.csv").write_text("\n".join(rows) + "\n")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50(num_classes=1).state_dict(), home / "mine.pth")
    for name, outputs in (("resnet50_voc", 20), ("imagenet", 1000)):
        torch.save(timm.create_model("resnet50", num_classes=outputs).state_dict(), home / f"{name}.pth")
    (home / "mine.py").write_text(PLUGIN)


def test_the_blocks_are_found() -> None:
    kinds = [kind for kind, _ in typed()]
    assert kinds.count("vice") > 10
    assert "python" in kinds


@pytest.mark.slow
def test_everything_in_the_readme_runs_in_its_order(tmp_path: Path) -> None:
    files_of_a_reader(tmp_path)
    commands = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path / "home")}
    for kind, text in typed():
        added = next((words for start, words in SHORT.items() if text.startswith(start)), "")
        words = [sys.executable, "-c", GIVEN + text] if kind == "python" else ["bash", "-c", f"{text} {added}"]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

"""What the names in the documentation stand for: small datasets, weights, maps and runs, in one folder."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from command import status_of
from data.published import write_archives
from models.test_pretraining import haiku_names, published
from report.studies import COMPARED, rows_of, study_folder
from torchvice.data import VOC_CLASSES, VocDataset
from torchvice.data.digits import write_digits
from torchvice.models.build import build_model
from torchvice.models.pretraining import convert_weights

# Networks are narrow or shallow. The options that test_docs_run.py adds to the commands say the same.
NARROW = {"channels": [8, 16, 32, 64]}
SHALLOW = {"depth": 1}
CONV_STEM = {"embed_layer": "conv_stem", "depth": 1, "num_heads": 12}
SIZES = {"train": 12, "val": 10, "test": 10, "size": 64}
WORDNET = ("n01443537", "n02085620", "n02123045")  # folders of ImageNet
MINE = """import torch
from torchvision.transforms import v2


def build(width):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, width, 3, 4, 1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(width, 10),
    )


transform = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Resize((64, 64)),
                        v2.Normalize((0.5,) * 3, (0.25,) * 3)])
"""
SCRIPT = """import torch, torchvice
from torchvice.data import VocDataset

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 10, 3, 4, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
torchvice.assess(model, VocDataset("shapes", "val"), out="runs/script", view_size=64)
"""


class Hybrid(nn.Module):
    """A network with the layers that the pages name: a map in `features.7`, tokens in `encoder.norm`, `neck`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 16, 16)]
        for _ in range(4):
            layers += [nn.ReLU(), nn.Conv2d(8, 8, 1)]
        self.features = nn.Sequential(*layers)
        self.encoder = nn.ModuleDict({"norm": nn.LayerNorm(8)})
        self.neck = nn.Linear(8, 8)
        self.head = nn.Linear(8, classes)
        nn.init.constant_(self.head.bias, -1.0)  # logits that are all in [0, 1] would be taken for probabilities

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.features(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        return self.head(self.neck(self.encoder["norm"](tokens)[:, 1:]).mean(1))


class Tower(nn.Sequential):
    """An image tower as open_clip has it."""

    image_size = 64
    preprocess_cfg: ClassVar = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


class Clip(nn.Module):
    """A model of images and texts as open_clip has it; a text is as long as the numbers of its letters say."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = Tower(nn.Conv2d(3, 8, 8, 8), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.texts = nn.Embedding(128, 8)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.texts(tokens).mean(1)


def tokenizer(texts: list[str]) -> torch.Tensor:
    """The letters of each text as numbers."""
    return torch.tensor([[ord(letter) for letter in text.ljust(99)] for text in texts])


def write_world(home: Path) -> None:
    """Write everything that the pages name into `home`."""
    torch.manual_seed(0)
    _datasets(home)
    _folders_of_images(home)
    _archives(home)
    _weights(home)
    _tables(home)
    (home / "mine.py").write_text(MINE)
    (home / "nets.txt").write_text("test_resnet\ntest_vit  # smaller than those of the page\n")
    (home / "assess_my_model.py").write_text(SCRIPT)
    before = Path.cwd()
    os.chdir(home)
    try:
        _runs()
    finally:
        os.chdir(before)


def _datasets(home: Path) -> None:
    """The digits under several names, and `voc12` with VOC's layout, classes and lists."""
    write_digits(home / "digits", **SIZES)
    write_digits(home / "single", single=True, **SIZES)
    write_digits(home / "data" / "digits-shortcut", shortcut=7, **SIZES)
    shutil.copytree(home / "digits", home / "data" / "digits")
    for name in ("shapes", "DATA", "DIR"):
        (home / name).symlink_to("digits")
    shutil.copytree(home / "digits", home / "voc12")
    for name in ("classes.txt", "cls_labels.npy", "digits.json"):  # the ten digits become the first ten classes
        (home / "voc12" / name).unlink()
    shutil.copy(home / "voc12" / "train.txt", home / "voc12" / "train_aug.txt")
    shutil.copy(home / "voc12" / "val.txt", home / "val.txt")
    (home / "SegmentationClassAug").symlink_to("voc12/VOC2012/SegmentationClassAug")
    (home / "voc" / "VOCdevkit").mkdir(parents=True)
    (home / "voc" / "VOCdevkit" / "VOC2012").symlink_to(home / "voc12" / "VOC2012")


def _folders_of_images(home: Path) -> None:
    """Images without lists: with masks of 0 and 255, in sub-folders, of ImageNet-S, with a COCO file."""
    data = VocDataset(home / "voc12", "val")
    assert data.classes == VOC_CLASSES
    listed: dict[str, list[Any]] = {"images": [], "annotations": []}
    for row, record in enumerate(data.records):
        name, image, mask = record.image_id, Image.fromarray(data.image(row)), data.mask(row)
        is_object = (mask > 0) & (mask < 255)
        folder, pet = WORDNET[row % len(WORDNET)], ("cat", "dog")[row % 2]
        coded = np.dstack([is_object * (row % len(WORDNET) + 1), *np.zeros((2, *mask.shape))]).astype(np.uint8)
        _save(image, home / "photos" / f"{name}.jpg")
        _save(Image.fromarray(is_object.astype(np.uint8) * 255), home / "masks" / f"{name}.png")
        _save(image, home / "imagenet" / "val" / folder / f"{name}.JPEG")
        _save(image, home / "pets" / pet / f"{name}.jpg")
        _save(Image.fromarray(is_object.astype(np.uint8) * 255), home / "pets-masks" / pet / f"{name}.png")
        _save(image, home / "ImageNetS50" / "validation" / folder / f"{name}.JPEG")
        _save(Image.fromarray(coded), home / "ImageNetS50" / "validation-segmentation" / folder / f"{name}.png")
        _save(image, home / "val2017" / f"{name}.jpg")
        listed["images"].append(
            {"id": row, "file_name": f"{name}.jpg", "height": mask.shape[0], "width": mask.shape[1]}
        )
        corners = [5, 5, 40, 5, 40, 40, 5, 40]
        listed["annotations"].append(
            {"id": row + 1, "image_id": row, "category_id": row % 2 + 1, "iscrowd": 0, "segmentation": [corners]}
        )
    listed["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (home / "instances_val2017.json").write_text(json.dumps(listed))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _archives(home: Path) -> None:
    """Archives with the structure of those of VOC, SBD and COCO, where the commands look for them."""
    write_archives(home / "data" / "voc12" / "archives")
    folder, image = home / "downloads", (home / "photos" / "val_00000.jpg").read_bytes()
    width, height = Image.open(home / "photos" / "val_00000.jpg").size
    folder.mkdir()
    with zipfile.ZipFile(folder / "annotations_trainval2017.zip", "w") as annotations:
        for number, split in enumerate(("train", "val")):
            with zipfile.ZipFile(folder / f"{split}2017.zip", "w") as images:
                images.writestr(f"{split}2017/{number:012d}.jpg", image)
            box = {"id": 1, "image_id": number, "category_id": 18, "iscrowd": 0, "segmentation": [[0, 0, 9, 0, 9, 9]]}
            described = {"id": number, "file_name": f"{number:012d}.jpg", "height": height, "width": width}
            categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
            content = {"images": [described], "annotations": [box], "categories": categories}
            annotations.writestr(f"annotations/instances_{split}2017.json", json.dumps(content))


def _weights(home: Path) -> None:
    """Files of weights, all random, in the form in which each is published."""

    def state(name: str, classes: int, **arguments: Any) -> dict[str, torch.Tensor]:
        tensors = timm.create_model(name, num_classes=classes, **arguments).state_dict()
        # Logits on both sides of 0: they would be taken for probabilities if all were in [0, 1].
        return {key: value * 10 if key == "fc.weight" else value for key, value in tensors.items()}

    def encoder(name: str, **arguments: Any) -> dict[str, torch.Tensor]:
        tensors = build_model(name, 1, arguments=arguments).state_dict()
        return {key: value for key, value in tensors.items() if not key.startswith(("fc.", "head."))}

    torch.save(state("resnet50", 20, **NARROW), home / "resnet50_voc.pth")
    torch.save(state("resnet50", 20, **NARROW), home / "best.pth")
    torch.save(state("resnet50", 1000, **NARROW), home / "imagenet.pth")
    torch.save(state("resnet50", 10, **NARROW), home / "FILE")
    torch.save(state("resnet50", 2, **NARROW), home / "coco.pth")
    torch.save(state("resnet18", 1, **NARROW), home / "polyps.pth")
    torch.save(state("resnet18", 2, **NARROW), home / "pets.pth")
    torch.save(state("resnet18", 10, channels=[16, 32, 64, 128]), home / "own.pth")
    torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), home / "resnet18_digits.pth")
    save_file(state("tf_efficientnet_lite0", 1000), home / "lite0.safetensors")
    resnets = [encoder("resnet50", **NARROW) for _ in range(2)]
    torch.save(published("moco_v2", *resnets), home / "moco_v2_800ep_pretrain.pth.tar")
    mappings = [haiku_names(tensors) for tensors in resnets]
    with (home / "pretrain_res50x1.pkl").open("wb") as file:
        experiment = (mappings[0][0], mappings[1][0], mappings[0][1], mappings[1][1], {})
        pickle.dump({"experiment_state": experiment, "step": np.int64(7)}, file, protocol=2)
    convert_weights(home / "pretrain_res50x1.pkl", home / "byol.safetensors")
    vits = [encoder("vit_base_patch16_224", **SHALLOW) for _ in range(2)]
    full = {**published("dino", *vits), "args": Namespace(arch="vit_base")}
    torch.save(full, home / "dino_vitbase16_pretrain_full_checkpoint.pth")
    stems = [encoder("vit_small_patch16_224", **CONV_STEM) for _ in range(2)]
    torch.save(published("moco_v3", *stems), home / "moco_v3_conv_base.pth.tar")


def write_described(folder: Path, content: dict[str, Any]) -> None:
    """Two images with masks and boxes for each split, in the folders and with the values that a dataset.yaml names."""
    names, size = content["names"], (48, 48)
    for split, place in content.get("splits", {"val": "val.txt"}).items():
        images = [f"{split}_{name}" for name in names]
        for image_id, (name, value) in zip(images, names.items(), strict=True):
            mask = np.zeros(size, np.uint8)
            mask[8:24, 8:24] = value
            _save(Image.new("RGB", size, "grey"), folder / content.get("images", "JPEGImages") / f"{image_id}.jpg")
            _save(Image.fromarray(mask), folder / content.get("masks", "SegmentationClass") / f"{image_id}.png")
            boxes = folder / content.get("boxes", "Annotations")
            boxes.mkdir(exist_ok=True)
            corners = "<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>24</xmax><ymax>24</ymax></bndbox>"
            (boxes / f"{image_id}.xml").write_text(
                f"<annotation><object><name>{name}</name>{corners}</object></annotation>"
            )
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text("\n".join(images) + "\n")


def _tables(home: Path) -> None:
    """Maps and logits of another tool, a table of the original, a class map, a recipe, and two studies."""
    data, rng = VocDataset(home / "voc12", "val"), np.random.default_rng(0)
    rows = [",".join(["id", *data.classes])]
    (home / "cams").mkdir()
    for row, record in enumerate(data.records):
        classes = np.flatnonzero(data.targets[row])
        maps = rng.random((len(classes), *data.mask(row).shape)).astype(np.float32)
        np.savez(home / "cams" / f"{record.image_id}.npz", keys=classes, maps=maps)
        logits = rng.normal(size=len(data.classes)) + 3 * data.targets[row] - 1
        rows.append(",".join([record.image_id, *(f"{value:.4f}" for value in logits)]))
    (home / "logits.csv").write_text("\n".join(rows) + "\n")
    shutil.copy(Path(__file__).parent / "reference" / "E2E_miou_loss_table.csv", home / "miou_loss.csv")
    (home / "miou_loss_csv").mkdir()
    shutil.copy(home / "miou_loss.csv", home / "miou_loss_csv" / "miou_loss_S_best_val.csv")
    (home / "map.yaml").write_text("dog: [151, 152]\naeroplane: [404]\nbicycle: [444, 671]\nbird: 10\n")
    (home / "my-recipe.yaml").write_text(
        "data: {root: voc12, train_split: train}\nmodel: {name: resnet18, pretrained: false}\n"
    )
    for name in ("study-digits", "my-study"):
        study_folder(home / "runs" / name, rows_of(), COMPARED, axes={"network": list("abcd")}, seeds=[1, 2, 3])


def _runs() -> None:
    """Runs and tables, made by the commands, in the current folder."""
    short = [
        "trainer.epochs=1",
        "trainer.batch_size=4",
        "data.workers=0",
        "model.pretrained=false",
        "transform.crop=64",
    ]

    def trained(preset: str, name: str, *settings: str) -> None:
        given = (*short, f"session_name={name}", *settings)
        assert status_of("train", preset, *(word for one in given for word in ("-o", one))) == 0

    trained("resnet50", "r50", f"model.arguments={{channels: {NARROW['channels']}}}")
    assert status_of("assess", "runs/r50") == 0
    assert status_of("assess", "runs/r50", "--split", "train", "--controls", "none", "--without", "none") == 0
    single = ("data.root=single", "data.train_split=train", "data.exclusive=true")
    trained("resnet50", "single", *single, f"model.arguments={{channels: {NARROW['channels']}}}")
    assert status_of("assess", "runs/single", "--controls", "none", "--without", "none") == 0
    trained("vision_transformer", "vit", "model.name=test_vit", "transform.crop=160")
    assert status_of("assess", "runs/vit") == 0
    for number, name in enumerate(("a1", "a2", "a3", "b1", "b2", "b3", "mine")):
        torch.manual_seed(number)
        torch.save(build_model("test_resnet", 20).state_dict(), "seed.pth")
        given = ("--weights", "seed.pth", "--data", "voc12", "--view-size", "64", "--controls", "none")
        how = (*given, "--without", "none", "--protocol", "both" if name == "mine" else "strict")
        assert status_of("assess", "--model", "test_resnet", *how, "--out", f"runs/{name}") == 0

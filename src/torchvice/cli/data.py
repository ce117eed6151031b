"""`vice data`: make a dataset, or look at one."""

from __future__ import annotations

from pathlib import Path

import typer

from torchvice.cli.surveys import print_survey
from torchvice.cli.terminal import progress_bar, say

__all__ = ["app"]

app = typer.Typer(help="Make a dataset in the layout of VOC 2012, or look at one.", no_args_is_help=True)


@app.command("digits")
def digits(
    out: Path = typer.Option(..., "--out", help="Folder of the dataset; must be empty, absent, or hold the same set."),
    shortcut: int | None = typer.Option(
        None, "--shortcut", min=0, max=9, help="Stamp a stripe into the corner of most images with this digit."
    ),
    single: bool = typer.Option(
        False, "--single", help="One digit an image: classes that exclude each other, to train with data.exclusive."
    ),
    train: int = typer.Option(3000, "--train", min=1, help="Images to train on."),
    val: int = typer.Option(400, "--val", min=1, help="Images that choose the checkpoint."),
    test: int = typer.Option(600, "--test", min=1, help="Images that are measured."),
    size: int = typer.Option(96, "--size", min=48, max=1024, help="Shortest long side of an image, pixels."),
    seed: int = typer.Option(2022, "--seed", min=0, help="The same seed gives the same bytes."),
) -> None:
    """The embedded dataset: real handwritten digits pasted on real photographs, with masks; nothing is downloaded."""
    from torchvice.data.digits import write_digits

    folder = write_digits(out, train=train, val=val, test=test, size=size, seed=seed, shortcut=shortcut, single=single)
    say(f"{folder}: {train} training, {val} validation and {test} test images of ten digits.")


ARCHIVES = typer.Option(
    None, "--archives", help="Folder where the archives lie, or are fetched to; else archives/ in the dataset's folder."
)


@app.command("voc")
def voc(
    root: Path = typer.Option(..., "--root", help="Folder of the dataset; what is finished there is left as it is."),
    archives: Path | None = ARCHIVES,
    unverified: bool = typer.Option(
        False, "--unverified", help="Take archives that have not the published checksums, such as a part of them."
    ),
) -> None:
    """VOC 2012 with SBD's masks (SegmentationClassAug), lists and labels: fetched, or made from archives."""
    from torchvice.data.voc_aug import PUBLISHED, write_voc

    with progress_bar("MiB") as progress:
        found = write_voc(root, archives, verify=not unverified, progress=progress, tell=say)
    said = f"{found.train_aug} images in train_aug, {found.train} in train, {found.val} in val"
    say(f"{root}: {said}; {found.masks_of_sbd} masks are SBD's.")
    if {name: getattr(found, name) for name in PUBLISHED} != PUBLISHED:
        say(f"These are not the published lists: {', '.join(f'{n} {count}' for n, count in PUBLISHED.items())}.")


@app.command("coco")
def coco(
    root: Path = typer.Option(..., "--root", help="Folder of the dataset; what is finished there is left as it is."),
    archives: Path | None = ARCHIVES,
    address: str | None = typer.Option(
        None,
        "--from",
        help="Address below which train2017.zip, val2017.zip and annotations_trainval2017.zip are fetched.",
    ),
    only: list[str] = typer.Option([], "--only", help="train or val, instead of both."),
) -> None:
    """COCO 2017 in the layout of VOC 2012: 80 classes, instances merged to masks, crowds void (extra: coco)."""
    from torchvice.data.coco import COCO_SPLITS, write_coco

    with progress_bar("done") as progress:
        found = write_coco(root, archives, address=address, splits=only or COCO_SPLITS, progress=progress, tell=say)
    lists = ", ".join(f"{count} images in {name}" for name, count in found.images.items())
    say(f"{root}: {lists}; {found.classes} classes; {found.crowds} crowds are void.")


@app.command("check")
def check(
    root: Path = typer.Argument(..., metavar="DIR", help="A dataset, see docs/your-data.md."),
    split: str | None = typer.Option(None, "--split", help="A list of images; else every list that is there."),
    strict: bool = typer.Option(
        False, "--strict", help="Exit status 1 for missing masks, and for labels that disagree with masks, too."
    ),
    most: int = typer.Option(10, "--show", min=0, help="Files that are named of each kind; --json has all of them."),
    json: Path | None = typer.Option(None, "--json", help="Write everything to this file as well."),
) -> None:
    """What a dataset holds, and what is broken in it, by name: then exit status 1."""
    from torchvice.data.check import survey
    from torchvice.files import write_json

    with progress_bar("images") as progress:
        found = survey(root, split, progress)
    for one in found:
        print_survey(one, most)
    if json:
        write_json(json, {"root": str(root), "splits": [one.to_json() for one in found]})
        say(f"Written: {json}")
    if any(one.broken or (strict and (one.masks_missing or one.disagreements)) for one in found):
        raise typer.Exit(1)

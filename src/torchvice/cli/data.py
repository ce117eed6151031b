"""`vice data`: write or check a dataset."""

from __future__ import annotations

from pathlib import Path

import typer

from torchvice.cli.folders import CLASSES, COCO, IMAGES, MASK_VALUES, MASKS
from torchvice.cli.surveys import print_survey
from torchvice.cli.terminal import progress_bar, say
from torchvice.errors import ViceError

__all__ = ["app"]

app = typer.Typer(help="Write a dataset in the layout of VOC 2012, or check one.", no_args_is_help=True)


@app.command("digits")
def digits(
    out: Path = typer.Option(..., "--out", help="Folder of the dataset: new, empty, or with the same dataset."),
    shortcut: int | None = typer.Option(
        None, "--shortcut", min=0, max=9, help="Add a mark to most images with this digit, see --kind."
    ),
    kind: str = typer.Option(
        "stripe", "--kind", help="Mark of --shortcut: stripe, frame, texture, text, companion or blur."
    ),
    strength: float = typer.Option(
        0.95, "--strength", help="Share of the digit's images that bear the mark, in steps of 0.05."
    ),
    without_shortcut: bool = typer.Option(
        False, "--without-shortcut", help="Write the same images without the mark of --shortcut."
    ),
    without_object: bool = typer.Option(
        False, "--without-object", help="Write the same images, marks included, without the digit of --shortcut."
    ),
    single: bool = typer.Option(
        False, "--single", help="One digit per image: exclusive classes, to train with data.exclusive."
    ),
    train: int = typer.Option(3000, "--train", min=1, help="Number of training images."),
    val: int = typer.Option(400, "--val", min=1, help="Number of images that select the checkpoint."),
    test: int = typer.Option(600, "--test", min=1, help="Number of images to measure."),
    size: int = typer.Option(96, "--size", min=48, max=1024, help="Minimum length of an image's longer side, pixels."),
    seed: int = typer.Option(2022, "--seed", min=0, help="Seed of the images; the same seed gives the same bytes."),
) -> None:
    """Write the embedded dataset: handwritten digits pasted on photographs, with masks; nothing is downloaded."""
    from torchvice.data.digits import write_digits

    folder = write_digits(
        out,
        train=train,
        val=val,
        test=test,
        size=size,
        seed=seed,
        shortcut=shortcut,
        single=single,
        kind=kind,
        strength=strength,
        without_shortcut=without_shortcut,
        without_object=without_object,
    )
    say(f"{folder}: {train} training, {val} validation and {test} test images of ten digits.")


WRITTEN = typer.Option(..., "--out", "--root", help="Folder of the dataset; a complete one is left unchanged.")
ARCHIVES = typer.Option(
    None,
    "--archives",
    help="Folder of the archives; missing ones are downloaded. Default: archives/ in the folder of the dataset.",
)


@app.command("voc")
def voc(
    root: Path = WRITTEN,
    archives: Path | None = ARCHIVES,
    unverified: bool = typer.Option(
        False, "--unverified", help="Accept archives without the published checksums, such as reduced ones."
    ),
) -> None:
    """Write VOC 2012 with the masks of SBD (SegmentationClassAug), from archives or downloads."""
    from torchvice.data.voc_aug import PUBLISHED, write_voc

    with progress_bar("MiB") as progress:
        written = write_voc(root, archives, verify=not unverified, progress=progress, tell=say)
    lists = f"{written.train_aug} images in train_aug, {written.train} in train, {written.val} in val"
    say(f"{root}: {lists}; {written.masks_of_sbd} masks from SBD.")
    if {name: getattr(written, name) for name in PUBLISHED} != PUBLISHED:
        say(f"The published lists have other lengths: {', '.join(f'{n} {count}' for n, count in PUBLISHED.items())}.")


@app.command("coco")
def coco(
    root: Path = WRITTEN,
    archives: Path | None = ARCHIVES,
    address: str | None = typer.Option(
        None,
        "--from",
        help="Address to download train2017.zip, val2017.zip and annotations_trainval2017.zip from.",
    ),
    only: list[str] = typer.Option([], "--only", help="Only this split: train or val. Repeatable."),
) -> None:
    """Write COCO 2017 in the layout of VOC 2012: 80 classes, instances merged to masks, crowds void (extra: coco)."""
    from torchvice.data.coco import COCO_SPLITS, write_coco

    with progress_bar("done") as progress:
        written = write_coco(root, archives, address=address, splits=only or COCO_SPLITS, progress=progress, tell=say)
    lists = ", ".join(f"{count} images in {name}" for name, count in written.images.items())
    say(f"{root}: {lists}; {written.classes} classes; {written.crowds} crowds are void.")


@app.command("check")
def check(
    root: Path | None = typer.Argument(None, metavar="DIR", help="A dataset, see docs/your-data.md."),
    images: Path | None = IMAGES,
    masks: Path | None = MASKS,
    coco: Path | None = COCO,
    classes: str | None = CLASSES,
    mask_values: str | None = MASK_VALUES,
    split: str | None = typer.Option(None, "--split", help="Split to check. Default: all splits."),
    strict: bool = typer.Option(
        False,
        "--strict",
        help="Also exit with status 1 for missing masks, rotated images, and labels that disagree with masks.",
    ),
    most: int = typer.Option(10, "--show", min=0, help="Number of files to name of each kind; --json has all."),
    json: Path | None = typer.Option(None, "--json", help="File for the complete result, as JSON."),
) -> None:
    """Check a dataset: list its content and every broken file, with exit status 1 if there are any."""
    from torchvice.cli.folders import image_arguments
    from torchvice.data.check import survey
    from torchvice.data.open import image_layout
    from torchvice.files import check_writable, write_json

    check_writable(json, "--json", "data.json")
    given = {"images": images, "masks": masks, "coco": coco, "classes": classes, "mask_values": mask_values}
    folders = image_arguments(given, root)
    layout = image_layout(**folders) if folders else root
    if layout is None:
        raise ViceError("Give the folder of a dataset, or --images DIR with --masks DIR.")
    with progress_bar("images") as progress:
        surveys = survey(layout, split, progress)
    for one in surveys:
        print_survey(one, most)
    if json:
        write_json(json, {"root": str(root or images), "splits": [one.to_json() for one in surveys]})
        say(f"Written: {json}")
    if any(one.broken or (strict and (one.masks_missing or one.disagreements or one.rotated)) for one in surveys):
        raise typer.Exit(1)

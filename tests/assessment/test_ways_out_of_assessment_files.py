"""What refusals of score files, of maps of other tools and of folders of maps say, done."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import numpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import torchvice
from command import status_of
from small_networks import drawn
from torchvice.assessment.foreign_maps import ForeignMaps
from torchvice.assessment.from_maps import _logits
from torchvice.assessment.map_files import write_map_files
from torchvice.assessment.scores import read_scores
from torchvice.data import open_dataset
from torchvice.interop import read_maps
from ways_out import tried

CLASSES = ("cat", "dog")
WIDE = "id,cat,dog\na,1.5,-2\nb,0,3\n"
LONG = "id,class,logit\na,cat,1.5\na,dog,-2\nb,cat,0\nb,dog,3\n"
ROWS = {"a": [1.5, -2], "b": [0, 3]}


def scores(folder, content, name="s.csv"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {image: row.tolist() for image, row in read_scores(folder / name, CLASSES).rows.items()}


@pytest.mark.parametrize("right", [WIDE, LONG])
@pytest.mark.parametrize(
    "wrong",
    [
        b"id,cat,dog\na,1.5,-2\n\xff,0,3\n",
        b'id,cat,dog\na,"1"5,-2\n',
        "",
        "id,id,cat,dog\na,a,1.5,-2\nb,b,0,3\n",
        "cat,dog\n1.5,-2\n0,3\n",
        "id,image,cat,dog\na,a,1.5,-2\nb,b,0,3\n",
        "id,cat\na,1.5\nb,0\n",
        "id,class,logit\na,cat,1.5\nb,cat,0\nb,dog,3\n",
    ],
)
def test_both_forms_of_scores_are_read(tmp_path, wrong, right):
    says = "one row an image (id and one column a class), or one row an image and class (id, class, logit)"
    assert tried(lambda: scores(tmp_path, wrong), says, lambda: scores(tmp_path, right)) == ROWS


def in_parquet(folder, names):
    columns = {"id": ["a", "b"], "cat": [1.5, 0], "dog": [-2.0, 3]}
    pq.write_table(pa.Table.from_arrays([pa.array(columns[name]) for name in names], names=names), folder / "s.parquet")
    return {image: row.tolist() for image, row in read_scores(folder / "s.parquet", CLASSES).rows.items()}


def test_scores_are_saved_as_csv_or_parquet(tmp_path):
    says = "save as CSV with commas, or Parquet"
    assert tried(lambda: scores(tmp_path, WIDE, "s.txt"), says, lambda: scores(tmp_path, WIDE)) == ROWS
    once = ["id", "cat", "dog"]
    assert tried(lambda: scores(tmp_path, WIDE, "s.txt"), says, lambda: in_parquet(tmp_path, once)) == ROWS


def test_a_parquet_with_a_column_twice_is_saved_with_each_once(tmp_path):
    twice, once = ["id", "cat", "dog", "dog"], ["id", "cat", "dog"]
    assert tried(lambda: in_parquet(tmp_path, twice), "one column a class", lambda: in_parquet(tmp_path, once)) == ROWS


def test_a_damaged_parquet_is_written_again_or_as_csv(tmp_path):
    says = "Write it again, or give a CSV."

    def wrong():
        return scores(tmp_path, b"no", "s.parquet")

    assert tried(wrong, says, lambda: in_parquet(tmp_path, ["id", "cat", "dog"])) == ROWS
    assert tried(wrong, says, lambda: scores(tmp_path, WIDE)) == ROWS


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        ("id,cat,dog,class,logit\na,1.5,-2,cat,9\nb,0,3,dog,9\n", "Remove one of the two.", WIDE),
        ("id,cat,dog,class,logit\na,9,9,cat,1.5\na,9,9,dog,-2\nb,9,9,0,0\nb,9,9,1,3\n", "one of the two", LONG),
        ("id,cat,dog\n", "Write a row for each image: its id, and a number for each class.", WIDE),
        ("id,cat,dog\na,1.5\nb,0,3\n", "write it again", WIDE),
        ("id,0,1,2\na,9,1.5,-2\nb,9,0,3\n", "Leave out a column of the background", "id,0,1\na,1.5,-2\nb,0,3\n"),
        (
            "id,0,1,2\na,1.5,-2,9\nb,0,3,9\n",
            "call the columns by the names of the classes",
            "id,cat,dog,sky\na,1.5,-2,9\nb,0,3,9\n",
        ),
        ("id,loss\na,0.3\nb,0.4\n", "Write the logits.", WIDE),
        ("id,cat,dog\na,1.5,-2\nb,0,3\na,1.5,-2\n", "Remove one row.", WIDE),
        (LONG + "a,cat,1.5\n", "Keep one of the two rows.", LONG),
        ("id,cat,dog\na,1.5,-2\nb,none,3\n", "Write a number there.", WIDE),
    ],
)
def test_tables_of_scores_are_read_once_they_are_mended(tmp_path, wrong, says, right):
    assert tried(lambda: scores(tmp_path, wrong), says, lambda: scores(tmp_path, right)) == ROWS


def test_decimals_of_scores_have_a_point(tmp_path):
    wrong, says = "id,cat,dog\na,1,5,-2,0\nb,0,0,3,0\n", "with a decimal point"
    assert tried(lambda: scores(tmp_path, wrong), says, lambda: scores(tmp_path, WIDE)) == ROWS


def suggested(error):
    """The name that a refusal suggests."""
    return re.search(r"Did you mean `(.+?)`\?", str(error))[1]


def test_a_misspelt_class_is_the_one_that_is_suggested(tmp_path):
    wrong = LONG.replace("b,dog", "b,dgo")
    with pytest.raises(torchvice.ViceError) as told:
        scores(tmp_path, wrong)
    right = wrong.replace("dgo", suggested(told.value))
    assert tried(lambda: scores(tmp_path, wrong), "Did you mean `dog`?", lambda: scores(tmp_path, right)) == ROWS


def test_an_unknown_class_is_one_of_the_known_ones(tmp_path):
    wrong = LONG.replace("b,dog", "b,zzzzz")
    with pytest.raises(torchvice.ViceError) as told:
        scores(tmp_path, wrong)
    known = re.search(r"Known: (.+)\.", told.value.way_out)[1].split(", ")
    right = wrong.replace("zzzzz", known[1])
    assert tried(lambda: scores(tmp_path, wrong), "Known: cat, dog.", lambda: scores(tmp_path, right)) == ROWS


def test_losses_with_a_quality_are_measured(tmp_path, capsys):
    rows = [f"im{i},{0.1 * i:.1f},{0.9 - 0.08 * i + 0.05 * (i % 2):.2f}" for i in range(10)]
    (tmp_path / "FILE.csv").write_text("name_image,loss,miou\n" + "\n".join(rows) + "\n")
    says = "a CSV of name_image, loss and miou, read by vice measure FILE.csv"
    status = tried(
        lambda: scores(tmp_path, "id,loss\na,0.3\n"), says, lambda: status_of("measure", tmp_path / "FILE.csv")
    )
    assert status == 0
    assert "10 images" in " ".join(capsys.readouterr().out.split())


def test_probabilities_in_a_column_called_logit_are_taken(tmp_path):
    text = "id,class,probability\na,cat,0.5\na,dog,0.1\n"

    def right():
        scores(tmp_path, text.replace("probability", "logit"))
        return _logits(read_scores(tmp_path / "s.csv", CLASSES), ["a"], False, "probabilities")

    found = tried(lambda: scores(tmp_path, text), "call the column `logit` and give --outputs probabilities", right)
    assert found[0] == pytest.approx([0, np.log(1 / 9)], abs=1e-6)


def voc(root, ids=("a", "b", "c"), size=(40, 60)):
    """A folder in VOC's layout, with a cat (even) or a dog (odd) at the upper left, and the list `val`."""
    for part in ("JPEGImages", "SegmentationClass"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (root / "val.txt").write_text("\n".join(ids) + "\n")
    for number, name in enumerate(ids):
        mask = np.zeros(size, np.uint8)
        mask[:20, :20] = number % 2 + 1
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)).save(
            root / "JPEGImages" / f"{name}.jpg"
        )
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{name}.png")
    return root


def test_images_without_scores_get_rows_or_are_left_out_of_the_list(tmp_path):
    data, text = voc(tmp_path / "set"), "id,cat,dog\na,1,2\nb,3,4\n"
    (data / "FILE").write_text("a\nb\n")

    def of(content, split):
        ids = [record.image_id for record in open_dataset(data, split).records]
        scores(tmp_path, content)
        return read_scores(tmp_path / "s.csv", CLASSES).of(ids).tolist()

    says = "Add their rows, or assess the others: --split FILE, a list, or --images DIR, a folder of them."
    assert tried(lambda: of(text, "val"), says, lambda: of(text + "c,5,6\n", "val")) == [[1, 2], [3, 4], [5, 6]]
    assert tried(lambda: of(text, "val"), says, lambda: of(text, data / "FILE")) == [[1, 2], [3, 4]]


def test_ids_are_the_names_of_the_images_without_folder_and_suffix(tmp_path):
    data = open_dataset(voc(tmp_path / "set", ("a", "b")), "val")

    def of(change):
        ids = [record.image_id for record in data.records]
        scores(tmp_path, f"id,cat,dog\n{change('JPEGImages/a.jpg')},1,2\n{change('JPEGImages/b.jpg')},3,4\n")
        return read_scores(tmp_path / "s.csv", CLASSES).of(ids).tolist()

    says = "the image's name without folder and suffix"
    right = tried(lambda: of(str), says, lambda: of(lambda path: path.rpartition("/")[2].removesuffix(".jpg")))
    assert right == [[1, 2], [3, 4]]


class Given:
    """Images of 40 x 60 with one label each, in this order: cat, dog, cat, ..."""

    classes = CLASSES

    def __init__(self, *ids, several=False):
        self.records = [SimpleNamespace(image_id=name) for name in ids]
        own = np.arange(len(ids))[:, None] % 2 == np.arange(2)
        self.targets = (own | several).astype(np.uint8)

    def image(self, index):
        return np.random.default_rng(index).integers(0, 256, (40, 60, 3), np.uint8)

    def mask(self, index):
        mask = np.zeros((40, 60), np.uint8)
        mask[:20, :20] = index % 2 + 1
        return mask


MAP = np.linspace(0, 1, 40 * 60, dtype=np.float32).reshape(40, 60)


def saved(path, content=MAP):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        content.save(path)
    else:
        np.save(path, content)
    return path


def survey(folder, data):
    """The maps of the first image, which is read before all are looked through."""
    files = ForeignMaps(folder, data)
    found = files.read(0)
    files.survey(1)
    return found


def test_the_folder_of_the_other_tool_is_given(tmp_path):
    saved(tmp_path / "maps" / "x.npy")
    says = "Give the folder that the other tool wrote: --maps DIR."
    found = tried(lambda: survey(tmp_path / "map", Given("x")), says, lambda: survey(tmp_path / "maps", Given("x")))
    assert list(found) == [0]


def test_files_and_folders_of_several_classes_are_parted_by_moving_files(tmp_path):
    maps, data = tmp_path / "maps", Given("x", "y")
    for path in ("x.npy", "y.npy", "cat/x.npy", "dog/y.npy"):
        saved(maps / path)

    def right():
        (tmp_path / "other").mkdir()
        for name in ("x.npy", "y.npy"):
            shutil.move(maps / name, tmp_path / "other")
        return survey(maps, data), survey(tmp_path / "other", data)

    by_class, by_image = tried(lambda: survey(maps, data), "Move those of one kind to another folder.", right)
    assert by_class.keys() == by_image.keys() == {0}


def test_sub_folders_of_images_and_folders_of_classes_are_parted_by_moving_files(tmp_path):
    maps, data = tmp_path / "maps", Given("cat/1")
    saved(maps / "cat" / "1.npy"), saved(maps / "cat" / "cat" / "1.npy")

    def right():
        (tmp_path / "other" / "cat").mkdir(parents=True)
        shutil.move(maps / "cat" / "1.npy", tmp_path / "other" / "cat")
        return survey(maps, data), survey(tmp_path / "other", data)

    by_class, by_image = tried(lambda: survey(maps, data), "Move those of one kind to another folder.", right)
    assert by_class.keys() == by_image.keys() == {0}


def test_one_of_two_files_of_an_image_is_moved(tmp_path):
    maps = tmp_path / "maps"
    saved(maps / "x.npy"), saved(maps / "x.png", Image.new("L", (60, 40), 200))
    (tmp_path / "other").mkdir()

    def right():
        shutil.move(maps / "x.png", tmp_path / "other")
        return survey(maps, Given("x")), survey(tmp_path / "other", Given("x"))

    arrays, pictures = tried(lambda: survey(maps, Given("x")), "Move those of one kind to another folder.", right)
    assert arrays[0].shape == pictures[0].shape == (40, 60)


def test_images_without_maps_have_other_names_or_are_left_out(tmp_path):
    root = voc(tmp_path / "set")
    maps = tmp_path / "maps"
    saved(maps / "a.npy"), saved(maps / "b.npy"), saved(maps / "c.jpg.npy")
    (root / "LIST").write_text("a\nb\n")
    says = (
        "Files are called like the image without its suffix; to assess a part of the images: --split FILE, a list, or "
        "--images DIR, a folder of them."
    )

    def wrong():
        return survey(maps, open_dataset(root, "val"))

    assert list(tried(wrong, says, lambda: survey(maps, open_dataset(root, root / "LIST")))) == [0]

    def renamed():
        (maps / "c.jpg.npy").rename(maps / "c.npy")
        return ForeignMaps(maps, open_dataset(root, "val")).read(2)

    assert list(tried(wrong, says, renamed)) == [0]


FORMS = "Save ID.npz or ID.npy with `keys` and `maps`, or np.save of {class: map}; or one map a file in a folder of"
SAVED = {
    "an .npz of keys and maps": lambda folder: np.savez(folder / "x.npz", keys=[0, 1], maps=np.stack([MAP, MAP])),
    "an .npy of keys and maps": lambda folder: np.save(folder / "x.npy", {"keys": [0, 1], "maps": np.stack([MAP] * 2)}),
    "a dictionary": lambda folder: np.save(folder / "x.npy", {0: MAP, 1: MAP}),
    "arrays by class": lambda folder: [saved(folder / name / "x.npy") for name in CLASSES],
    "pictures by class": lambda folder: [
        saved(folder / name / "x.png", Image.new("L", (60, 40), 200)) for name in CLASSES
    ],
}


@pytest.mark.parametrize("form", SAVED)
def test_every_form_that_is_named_is_read(tmp_path, form):
    (tmp_path / "right").mkdir()
    SAVED[form](tmp_path / "right")
    data = Given("x", several=True)
    saved(tmp_path / "array" / "x.npy")
    found = tried(lambda: survey(tmp_path / "array", data), FORMS, lambda: survey(tmp_path / "right", data))
    assert {c: plane.shape for c, plane in found.items()} == {0: (40, 60), 1: (40, 60)}
    (tmp_path / "class" / "cat").mkdir(parents=True)
    np.savez(tmp_path / "class" / "cat" / "x.npz", keys=[0], maps=MAP[None])
    tried(lambda: survey(tmp_path / "class", Given("x")), FORMS, lambda: survey(tmp_path / "right", Given("x")))


def test_classes_are_numbered_from_0_without_background(tmp_path):
    data, label = Given("x", "y"), 2  # y shows a dog: label 2 of its mask
    saved(tmp_path / "x.npy", {0: MAP})
    says = "Number the classes from 0, without background: class c is label c + 1 of the masks."

    def read(number):
        saved(tmp_path / "y.npy", {number: MAP})
        return ForeignMaps(tmp_path, data).read(1)

    assert (data.mask(1) == label).any()
    assert list(tried(lambda: read(label), says, lambda: read(label - 1))) == [1]


def test_the_words_of_a_refused_array_are_code(tmp_path):
    file = saved(tmp_path / "x.npy")
    file.write_bytes(file.read_bytes().replace(b"NUMPY", b"NUMPI"))
    with pytest.raises(torchvice.ViceError) as told:
        survey(tmp_path, Given("x"))
    code = re.search(r"numpy\.save\(.*\)(?=\.$)", told.value.way_out)[0]
    says = "Write it again as numbers: numpy.save(file, map.astype('float32'))."

    def right():
        exec(code, {"numpy": numpy, "file": file, "map": MAP.astype(np.float64)})
        return survey(tmp_path, Given("x"))

    np.testing.assert_array_equal(tried(lambda: survey(tmp_path, Given("x")), says, right)[0], MAP)


def test_a_transposed_map_is_turned(tmp_path):
    kept = MAP.T
    saved(tmp_path / "x.npy", kept)
    with pytest.raises(torchvice.ViceError) as told:
        survey(tmp_path, Given("x"))
    expression = re.fullmatch(r"Save (map\.T)\.", told.value.way_out)[1]

    def right():
        saved(tmp_path / "x.npy", eval(expression, {"map": kept}))
        return survey(tmp_path, Given("x"))

    np.testing.assert_array_equal(tried(lambda: survey(tmp_path, Given("x")), "Save map.T.", right)[0], MAP)


def test_of_several_wrong_images_the_first_says_the_way_out(tmp_path):
    data = Given("x", "y", "z")
    for name, plane in (("x", MAP), ("y", MAP.T), ("z", MAP.T)):
        saved(tmp_path / f"{name}.npy", plane)

    def right():
        for name in ("y", "z"):
            saved(tmp_path / f"{name}.npy", np.load(tmp_path / f"{name}.npy").T)
        return ForeignMaps(tmp_path, data).survey(1)

    assert not tried(lambda: ForeignMaps(tmp_path, data).survey(1), "Save map.T.", right).resized


GREY = Image.fromarray(np.round(MAP * 255).astype(np.uint8))


@pytest.mark.parametrize("name", ["x.png", "x.npy"])
def test_a_damaged_picture_is_written_again(tmp_path, name):
    (tmp_path / "x.png").write_bytes(b"no")

    def right():
        (tmp_path / "x.png").unlink()
        saved(tmp_path / name, GREY if name.endswith("png") else MAP)
        return survey(tmp_path, Given("x"))

    found = tried(lambda: survey(tmp_path, Given("x")), "Write it again as a PNG, or as an .npy.", right)
    np.testing.assert_allclose(found[0], MAP, atol=1 / 255)


LABELS = np.zeros((40, 60), np.uint8)
LABELS[:20, :20] = 1


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        (Image.new("P", (60, 40)), "Save the values of the map.", GREY),
        (Image.new("RGB", (60, 40)), "Save the values of the map.", GREY),
        (Image.fromarray(LABELS), "Scale it to 0 to 255,", Image.fromarray(LABELS * 255)),
    ],
)
def test_a_picture_holds_the_values_of_the_map(tmp_path, wrong, says, right):
    saved(tmp_path / "x.png", wrong)

    def again():
        saved(tmp_path / "x.png", right)
        return survey(tmp_path, Given("x"))

    found = tried(lambda: survey(tmp_path, Given("x")), says, again)
    np.testing.assert_allclose(found[0] * 255, np.asarray(right), atol=1e-4)


@pytest.mark.parametrize("kind", ["L", "P"])
def test_label_maps_are_evaluated_as_png(tmp_path, kind, capsys):
    root, picture = voc(tmp_path / "set", ("x",)), Image.fromarray(LABELS)
    if kind == "P":
        picture.putpalette(list(range(256)) * 3)
    saved(tmp_path / "maps" / "x.png", picture)
    command = ("evaluate", "--list", root / "val.txt", "--predictions", tmp_path / "maps")
    command += ("--ground-truth", root / "SegmentationClass", "--workers", "1")
    says = "Label maps: vice evaluate --type png."
    status = tried(
        lambda: survey(tmp_path / "maps", open_dataset(root, "val")), says, lambda: status_of(*command, "--type", "png")
    )
    assert status == 0, capsys.readouterr().err


def test_a_map_of_zeros_stands_where_nothing_was_found(tmp_path):
    data = Given("x", several=True)
    saved(tmp_path / "x.npy", {0: MAP})

    def right():
        saved(tmp_path / "x.npy", {0: MAP, 1: np.zeros_like(MAP)})
        return survey(tmp_path, data)

    found = tried(lambda: survey(tmp_path, data), "Save a map of zeros where a method finds nothing.", right)
    assert not found[1].any()


@pytest.fixture
def foreign(tmp_path):
    """Maps (`maps`) and scores (`s.csv`) of two images."""
    for name in ("x", "y"):
        saved(tmp_path / "maps" / f"{name}.npy")
    (tmp_path / "s.csv").write_text("id,cat,dog\nx,1.5,-2\ny,-1,3\n")
    return tmp_path


def counted(folder, out, maps="maps", **more):
    more = {"controls": (), "view_size": 64, "workers": 1} | more
    return torchvice.assess_maps(folder / maps, folder / "s.csv", Given("x", "y"), out=folder / out, **more)


def test_the_controls_of_the_set_that_is_named_need_no_network(foreign):
    with pytest.raises(torchvice.ViceError) as told:
        counted(foreign, "t", controls=["random_weights"])
    cheap = re.fullmatch(r"Use --controls cheap: (.*)\.", told.value.way_out)[1].split(", ")
    table = tried(
        lambda: counted(foreign, "t", controls=["random_weights"]),
        "Use --controls cheap: ",
        lambda: counted(foreign, "t", controls=cheap),
    )
    assert set(table.manifest["explanations"]) == {"strict:maps", *(f"strict:{name}" for name in cheap)}


def test_maps_above_1_are_divided_by_their_maximum_or_by_100(foreign):
    for name in ("x", "y"):
        saved(foreign / "cent" / f"{name}.npy", MAP * 100)
        saved(foreign / "divided" / f"{name}.npy", np.load(foreign / "cent" / f"{name}.npy") / 100)
    says = "Leave normalisation=none out: each map is then divided by its maximum. Or divide per cent by 100."

    def wrong():
        return counted(foreign, "t", maps="cent", normalisation="none")

    left_out = tried(wrong, says, lambda: counted(foreign, "u", maps="cent"))
    divided = tried(wrong, says, lambda: counted(foreign, "v", maps="divided", normalisation="none"))
    np.testing.assert_array_equal(left_out.regions.predicted, divided.regions.predicted)


NETWORK = {"view_size": 32, "crop": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3, "device": "cpu", "outputs": "logits"}


def write(folder, data=None, **more):
    network = drawn("test_resnet", num_classes=2).eval()
    return write_map_files(network, data or Given("x", "y"), folder, protocol="strict", **{**NETWORK, **more})


def test_an_image_whose_maps_would_leave_the_folder_is_renamed(tmp_path):
    written = tried(
        lambda: write(tmp_path / "maps", Given("../x")), "Rename it.", lambda: write(tmp_path / "maps", Given("x"))
    )
    assert written == 1
    assert not (tmp_path / "x.npz").exists()


def test_maps_of_other_settings_go_elsewhere_or_in_the_place_of_the_first(tmp_path):
    first, says = tmp_path / "first", "Write to another folder, or delete that one."
    write(first)

    def wrong():
        return write(first, std=(0.4,) * 3)

    assert tried(wrong, says, lambda: write(tmp_path / "second", std=(0.4,) * 3)) == 2

    def deleted():
        shutil.rmtree(first)
        return wrong()

    assert tried(wrong, says, deleted) == 2
    assert len(read_maps(first / "x.npz")[0]) == 1


def test_maps_of_other_images_go_elsewhere_or_the_images_are_restored(tmp_path):
    class Changed(Given):
        def image(self, index):
            return 255 - super().image(index)

    class Relabelled(Given):
        def __init__(self, *ids):
            super().__init__(*ids)
            self.targets = 1 - self.targets

    first, says = tmp_path / "first", "Write to another folder, delete that one, or restore them."
    write(first)

    def wrong():
        return write(first, Relabelled("x", "y"))

    assert tried(wrong, says, lambda: write(tmp_path / "second", Relabelled("x", "y"))) == 2
    assert tried(wrong, says, lambda: write(first)) == 0

    def deleted():
        shutil.rmtree(first)
        return wrong()

    assert tried(wrong, says, deleted) == 2


def test_maps_are_not_written_among_other_things(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.md").write_text("mine")
    says = "Give a new or empty folder."
    assert tried(lambda: write(tmp_path / "other"), says, lambda: write(tmp_path / "maps")) == 2
    assert write(tmp_path / "maps") == 0
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.md"]

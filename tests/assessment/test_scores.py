"""Files of scores: both forms, CSV and Parquet, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torchvice import ViceError
from torchvice.assessment.from_maps import _logits
from torchvice.assessment.scores import read_scores

CLASSES = ("cat", "dog")
WIDE = "id,cat,dog\na,1.5,-2\nb,0,3\n"
LONG = "class,id,logit\ncat,a,1.5\ndog,a,-2\n1,b,3\n0,b,0\n"


def written(tmp_path, text, name="s.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    return tmp_path / name


@pytest.mark.parametrize("text", [WIDE, LONG, WIDE.replace("cat,dog", "0,1"), WIDE.replace("id,", "image_id,")])
def test_all_forms_hold_the_same(tmp_path, text):
    scores = read_scores(written(tmp_path, text), CLASSES)
    assert scores.of(["b", "a"]).tolist() == [[0, 3], [1.5, -2]]
    assert scores.beyond(["a"]) == ["b"]


def test_parquet_is_read_too(tmp_path):
    pq.write_table(pa.table({"id": ["a", "b"], "dog": [-2.0, 3], "cat": [1.5, 0]}), tmp_path / "s.parquet")
    assert read_scores(tmp_path / "s.parquet", CLASSES).of(["a"]).tolist() == [[1.5, -2]]
    (tmp_path / "s.parquet").write_bytes(b"no")
    with pytest.raises(ViceError, match="must be Parquet, but cannot be read"):
        read_scores(tmp_path / "s.parquet", CLASSES)


def test_other_columns_are_ignored_and_named(tmp_path):
    assert read_scores(written(tmp_path, "id,cat,split,dog\na,1,val,2\n"), CLASSES).ignored == ("split",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,cat,dgo\na,1,2\n", "lacks 1, such as `dog`. It has `dgo`. Did you mean `dog`?"),
        ("cat,dog\n1,2\n", "must have one column of image ids"),
        ("id,image,cat,dog\na,a,1,2\n", "but has `id` and `image`"),
        ("id,loss\na,0.3\n", "holds losses, but `strict` needs the logit of every class"),
        ("id,class,probability\na,cat,0.3\n", "has a column `class`, but no `logit`"),
        ("id,cat,dog,class,logit\na,1,2,cat,1\n", "has both one column a class"),
        ("id,cat,dog\na,1,2\na,1,2\n", "must hold every image once, but holds `a` twice"),
        ("id,cat,dog\na,1,\n", "The score of `a` for `dog`"),
        ("id,cat,dog\na,1,nan\n", "The score of `a` for `dog`"),
        ("id,cat,dog\na,1\n", "must have 3 cells"),
        ("id,cat,dog\n", "at least one image"),
        ("", "must begin with column names"),
        ("id,id,cat,dog\na,a,1,2\n", "must begin with column names, each once"),
        ("id,class,logit\na,cat,1\n", "must hold every class of `a`, but lacks `dog`"),
        ("id,class,logit\na,cat,1\na,cat,1\n", "holds `a` with `cat` twice"),
        ("id,class,logit\na,cow,1\n", "names the class `cow`"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, text, message):
    with pytest.raises(ViceError) as told:
        read_scores(written(tmp_path, text), CLASSES)
    assert message in f"{told.value}"


def test_images_without_scores_are_counted(tmp_path):
    scores = read_scores(written(tmp_path, WIDE), CLASSES)
    with pytest.raises(ViceError, match="lacks 1 of 2, such as `c`; it holds 2 images, such as `a`"):
        scores.of(["a", "c"])
    with pytest.raises(ViceError) as told:
        scores.of(["JPEGImages/a.jpg"])
    assert "without folder and suffix" in told.value.way_out


def test_probabilities_are_refused_or_taken(tmp_path):
    scores = read_scores(written(tmp_path, "id,cat,dog\na,0.5,0.1\nb,0.2,0.9\n"), CLASSES)
    with pytest.raises(ViceError, match=r"The scores in .* must be logits, but all outputs of 2 rows"):
        _logits(scores, ["a", "b"], False, None)
    assert _logits(scores, ["a"], False, "probabilities")[0] == pytest.approx([0, np.log(1 / 9)], abs=1e-6)
    assert _logits(scores, ["a"], False, "logits")[0] == pytest.approx([0.5, 0.1])


def test_a_further_numbered_column_may_be_the_background(tmp_path):
    with pytest.raises(ViceError, match="must be 0 to 1, one for each of the 2 classes, but there is `2`, too"):
        read_scores(written(tmp_path, "id,0,1,2\na,9,1,2\n"), CLASSES)
    assert read_scores(written(tmp_path, "id,cat,dog,2\na,1,2,3\n"), CLASSES).of(["a"]).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        ([[91.0, 4.5], [62.5, 88.0]], True),  # per cent of two labels, of too few cells to say so of a network
        ([[97.0], [64.0], [81.5]], True),
        ([[0.5, 30.0]], True),  # logits, perhaps: --outputs logits says so
        ([[91.0, -4.5], [62.5, 88.0]], False),
        ([[3.5, 0.5], [7.0, 12.0]], False),  # said, see `assess_maps`
        ([[150.0, 4.5]], False),
    ],
)
def test_per_cent_is_noticed_in_few_cells(tmp_path, rows, refused):
    names = CLASSES[: len(rows[0])]
    lines = [",".join(["id", *names]), *(f"i{n}," + ",".join(map(str, row)) for n, row in enumerate(rows))]
    scores = read_scores(written(tmp_path, "\n".join(lines)), names)
    ids = list(scores.rows)
    assert np.allclose(_logits(scores, ids, False, "logits"), rows)
    if not refused:
        assert np.allclose(_logits(scores, ids, False, None), rows)
        return
    with pytest.raises(ViceError, match=r"lie in \[0, 100\]: they look like per cent") as told:
        _logits(scores, ids, False, None)
    assert told.value.way_out.startswith("Divide them by 100 in the file, and give --outputs probabilities.")
    divided = [",".join(["id", *names]), *(f"i{n}," + ",".join(str(v / 100) for v in r) for n, r in enumerate(rows))]
    found = _logits(read_scores(written(tmp_path, "\n".join(divided)), names), ids, False, "probabilities")
    assert np.allclose(1 / (1 + np.exp(-found.astype(float))), np.array(rows) / 100, atol=1e-6)

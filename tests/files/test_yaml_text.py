"""YAML of strangers: plain values, or one sentence."""

from __future__ import annotations

import pytest

from torchvice.errors import ViceError
from torchvice.files import parse_yaml, read_yaml

BOMB = "a: &a [lol]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_values_are_those_of_yaml_1_2() -> None:
    text = "rate: 1e-2\non: no\ntime: 12:30\nid: 0010\nempty: ~\n1: [true, 2.5]\nagain: &a {b: 1}\ntwice: *a\n"
    assert parse_yaml(text, "the text") == {
        "rate": 0.01,
        "on": "no",
        "time": "12:30",
        "id": "0010",
        "empty": None,
        1: [True, 2.5],
        "again": {"b": 1},
        "twice": {"b": 1},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red: 0\nblue: 1\nred: 3\n", "the text, line 3, must be YAML, but is not: `red` occurs twice"),
        ('{"red": 0, "red": 3}', "`red` occurs twice"),
        ("a: [1", "the text, line 1, must be YAML, but is not"),
        (BOMB, "the text must be YAML, but is not: its aliases expand to more than 100000 entries"),
        ("&a [*a]", "its aliases expand to more than 100000 entries"),
        ("[" * 5000, "the text must be YAML, but is nested too deeply"),
        ("a: " + "9" * 5000, "the text must be YAML, but is not: Exceeds the limit"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("? {a: 1}\n: 2", "the text must be YAML, but is not"),
        ("a\x00b", "the text must be YAML, but is not"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ViceError, match=message) as error:
        parse_yaml(text, "the text")
    assert len(str(error.value)) < 500


def test_files(tmp_path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ViceError, match=r"The class map .*a\.yaml must be YAML in UTF-8, but is not"):
        read_yaml(tmp_path / "a.yaml", "The class map")
    with pytest.raises(ViceError, match=r"The class map must be a file, but .*b\.yaml does not exist"):
        read_yaml(tmp_path / "b.yaml", "The class map")


def test_a_hundred_nodes_in_each_other_are_read_and_no_more() -> None:
    assert parse_yaml("[" * 100 + "]" * 100, "the text")
    for text in ("[" * 101 + "]" * 101, "\n".join(f"{' ' * depth}a:" for depth in range(101)) + " 1"):
        with pytest.raises(ViceError, match="nested too deeply"):
            parse_yaml(text, "the text")

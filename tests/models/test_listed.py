"""Lists of networks: files, wildcards of timm's names, all."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from torchvice.errors import ViceError
from torchvice.models.listed import ListedModel, listed_models
from ways_out import tried


def of_lines(tmp_path, *lines):
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return listed_models(str(path))


def test_a_file_names_a_network_a_line_with_its_weights_and_comments(tmp_path):
    (tmp_path / "my weights.pth").touch()
    models = of_lines(
        tmp_path,
        "# the first two are timm's",
        "test_resnet",
        "test_vit.r160_in1k  # with a tag",
        "",
        'torchvision:resnet18 "my weights.pth"',
        "nets.py:build",
    )
    weights = tmp_path / "my weights.pth"
    assert [(one.name, one.weights) for one in models] == [
        ("test_resnet", None),
        ("test_vit.r160_in1k", None),
        ("torchvision:resnet18", weights),
        ("nets.py:build", None),
    ]
    assert [one.side for one in models] == [160, 160, 0, 0]
    assert models[2].label == f"torchvision:resnet18 {weights}"


def test_weights_are_looked_for_in_the_folder_of_the_command_first(tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    for place in (tmp_path, tmp_path / "lists"):
        (place / "w.pth").touch()
    monkeypatch.chdir(tmp_path)
    (found,) = of_lines(tmp_path / "lists", "test_resnet w.pth")
    assert found.weights == Path("w.pth")
    (tmp_path / "w.pth").unlink()
    (found,) = of_lines(tmp_path / "lists", "test_resnet w.pth")
    assert found.weights == tmp_path / "lists" / "w.pth"


def test_a_wildcard_names_networks_or_with_a_dot_their_weights():
    names = [one.name for one in listed_models("test_res*")]
    assert names == timm.list_models("test_res*")
    tagged = [one.name for one in listed_models("test_res*.r160_in1k")]
    assert tagged == timm.list_models("test_res*.r160_in1k", pretrained=True)
    assert tagged
    assert all(name.endswith(".r160_in1k") for name in tagged)
    assert [one.name for one in listed_models("test_res*", pretrained=True)] == timm.list_models(
        "test_res*", pretrained=True
    )


def test_all_are_those_of_timm():
    assert [one.name for one in listed_models("all")] == timm.list_models()


def test_what_is_no_list_has_a_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models.txt").write_text("test_resnet\n")
    assert tried(
        lambda: listed_models("model.txt"), "Did you mean `models.txt`?", lambda: listed_models("models.txt")
    ) == [ListedModel("test_resnet", None, 160)]
    with pytest.raises(ViceError, match="One network: --model resnet18"):
        listed_models("resnet18")
    with pytest.raises(ViceError, match="No network of timm matches 'resnt\\*'"):
        listed_models("resnt*")
    with pytest.raises(ViceError, match="must name a network a line, but names none"):
        of_lines(tmp_path, "# nothing")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("test_resnet a b", "Line 2 of .* must be a name and perhaps a file of weights"),
        ("test_resnet w.pth", "Line 2 of .* must name a file of weights, but w.pth does not exist"),
        ("test_resnet 'w.pth", "Line 2 of .* must have an even number of quotes"),
        ("nets.py", "The network must name a function in nets.py"),
        ("test_vit", "A model must be listed once, but `test_vit` is there twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, says):
    with pytest.raises(ViceError, match=says):
        of_lines(tmp_path, "test_vit", line)
    torch.save({}, tmp_path / "w.pth")
    assert len(of_lines(tmp_path, "test_vit", "test_resnet w.pth")) == 2


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02\xff")
    with pytest.raises(ViceError, match="must be a text in UTF-8"):
        listed_models(str(tmp_path / "w.pth"))

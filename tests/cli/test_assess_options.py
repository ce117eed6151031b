"""Options of `vice assess` for a network of the user's own: arguments, mean and std, outputs, sets of weights."""

from __future__ import annotations

import json

import pytest
import timm
import torch

from command import vice
from torchvice.data.digits import write_digits

SIZES = ("--view-size", 64, "--crop", 64, "--controls", "none", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=6, test=2, size=48)
    return root


def network(name="test_resnet", seed=0, **arguments):
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=10, **arguments)


def test_arguments_mean_and_std_reach_the_network(data, tmp_path, capsys):
    torch.save(network("test_vit", img_size=96).state_dict(), tmp_path / "w.pth")
    given = ("assess", "--model", "test_vit", "--weights", tmp_path / "w.pth", "--data", data, *SIZES[4:])
    given += ("--out", tmp_path / "t")
    status, _, said = vice(capsys, *given)
    assert status != 0
    assert "--argument NAME=VALUE" in said
    status, _, said = vice(capsys, *given, "--argument", "img_size=96", "--mean", "0.1,0.2,0.3", "--std", "1,1,1")
    assert status == 0, said
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text())
    assert manifest["made_by"]["arguments"] == {"img_size": 96}
    settings = manifest["map_settings"]
    assert (settings["view_size"], settings["mean"], settings["std"]) == (96, [0.1, 0.2, 0.3], [1, 1, 1])


def test_the_precision_is_a_setting_of_the_maps_and_another_one_is_refused(data, tmp_path, capsys):
    torch.save(network().state_dict(), tmp_path / "w.pth")
    given = ("assess", "--model", "test_resnet", "--weights", tmp_path / "w.pth", "--data", data, *SIZES)
    low = (*given, "--precision", "bfloat16", "--channels-last", "--out", tmp_path / "low")
    assert vice(capsys, *low)[0] == 0
    manifest = json.loads((tmp_path / "low" / "manifest.json").read_text())
    for settings in (manifest["map_settings"], *manifest["explanations"].values()):
        assert (settings["precision"], settings["channels_last"]) == ("bfloat16", True)
    assert vice(capsys, *low)[0] == 0  # the same again
    status, _, said = vice(capsys, *given, "--precision", "float32", "--out", tmp_path / "low")
    assert status == 2
    assert "`precision` is 'bfloat16' in the table, but not set now" in said
    assert "`channels_last` is True in the table, but not set now" in said
    assert vice(capsys, *given, "--out", tmp_path / "plain")[0] == 0
    manifest = json.loads((tmp_path / "plain" / "manifest.json").read_text())
    for settings in (manifest["map_settings"], *manifest["explanations"].values()):
        assert not {"precision", "channels_last"} & set(settings)  # as in tables of earlier versions


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--argument", "img_size", "--argument must be NAME=VALUE, but is 'img_size'"),
        ("--argument", "img_sise=96", "takes no argument `img_sise`"),
        ("--argument", "num_classes=3", "must not hold `num_classes`"),
        ("--mean", "a,b", "--mean must be numbers separated by commas"),
        ("--mean", "0.5", "`mean` must be three numbers"),
        ("--weights-key", "ema", "no set called 'ema'"),
    ],
)
def test_options_that_are_wrong_are_refused(option, value, message, data, tmp_path, capsys):
    torch.save(network().state_dict(), tmp_path / "w.pth")
    given = ("assess", "--model", "test_resnet", "--weights", tmp_path / "w.pth", "--data", data, *SIZES)
    status, _, said = vice(capsys, *given, "--out", tmp_path / "t", option, value)
    assert status != 0
    assert message in " ".join(said.split())


def test_one_of_two_sets_of_weights_is_chosen(data, tmp_path, capsys):
    sets = {"model": network().state_dict(), "model_ema": network(seed=1).state_dict()}
    torch.save(sets, tmp_path / "w.pth")
    given = ("assess", "--model", "test_resnet", "--weights", tmp_path / "w.pth", "--data", data, *SIZES)
    status, _, said = vice(capsys, *given, "--out", tmp_path / "t")
    assert status != 0
    assert "--weights-key model_ema" in said
    status, _, said = vice(capsys, *given, "--out", tmp_path / "t", "--weights-key", "model_ema")
    assert status == 0, said
    assert json.loads((tmp_path / "t" / "manifest.json").read_text())["made_by"]["weights_key"] == "model_ema"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--protocol", "paper", "--view-size", 96), "--view-size needs the protocol strict, but only paper is made."),
        (("--protocol", "paper", "--interpolation", "bicubic"), "--interpolation needs the protocol strict"),
        (("--protocol", "strict", "--crop", 96), "--crop needs the protocol paper, but only strict is made."),
    ],
)
def test_sizes_of_a_protocol_that_is_not_made_are_refused(data, tmp_path, capsys, given, message):
    status, _, said = vice(capsys, "assess", "--model", "test_resnet", "--data", data, "--out", tmp_path / "t", *given)
    assert status == 2
    assert message in " ".join(said.split())
    assert "--protocol" in said  # the way out
    assert not (tmp_path / "t").exists()


def test_another_protocol_of_a_table_is_named_as_such(data, tmp_path, capsys):
    given = ("assess", "--model", "test_resnet", "--data", data, "--out", tmp_path / "t", "--controls", "none")
    torch.save(network("test_resnet").state_dict(), tmp_path / "w.pth")
    given += ("--weights", tmp_path / "w.pth", "--device", "cpu")
    assert vice(capsys, *given, "--protocol", "both", "--view-size", 64, "--crop", 64)[0] == 0
    status, _, said = vice(capsys, *given, "--protocol", "strict", "--view-size", 64)
    assert status == 2
    assert "`protocol` is both in the table, but strict now." in " ".join(said.split())


def test_a_key_of_weights_is_suggested_only_where_a_set_has_it(data, tmp_path, capsys):
    torch.save(network("test_resnet").state_dict(), tmp_path / "w.pth")
    given = ("assess", "--model", "test_resnet", "--weights", tmp_path / "w.pth", "--data", data)
    status, _, said = vice(capsys, *given, "--weights-key", "ema", "--out", tmp_path / "t")
    assert status == 2
    assert "no set called 'ema'. Leave --weights-key out" in " ".join(said.split())
    status, _, said = vice(capsys, *given, "--mean", "0.5", "--std", "0.5", "--out", tmp_path / "t")
    assert status == 2
    assert "0.5,0.5,0.5" in said

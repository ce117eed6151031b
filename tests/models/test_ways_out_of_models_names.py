"""Every way out of the refusals of named networks is done: of sources, functions, folders, the hub and prompts."""

from __future__ import annotations

import json
import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from torchvice import Explainer
from torchvice.errors import ViceError
from torchvice.models.named import model_by_name, source_of
from torchvice.models.prompts import ClassNames, Prompts, read_prompts
from torchvice.models.zero_shot import zero_shot
from ways_out import tried

HASH = "0123456789abcdef0123456789abcdef01234567"
MINE = """
import timm, torch

def build(classes=3, seed=0):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=classes)

def needs(depth):
    return torch.nn.Linear(depth, 2)

def takes_nothing():
    return build()

def with_name():
    return "name", build()

def fails():
    raise RuntimeError("out of order")

ready = build()
number = 3
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


@pytest.fixture
def weights(tmp_path):
    return saved(tmp_path / "w.pth", timm.create_model("test_resnet", num_classes=3))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "hub"


def saved(path, model):
    torch.save(model.state_dict(), path)
    return path


def suggested(wrong, pattern=r"`(.+?)`"):
    """What the way out of a refusal names."""
    with pytest.raises(ViceError) as caught:
        wrong()
    found = re.search(pattern, caught.value.way_out)
    assert found is not None, caught.value.way_out
    return found[1]


def test_a_name_that_has_no_known_form(mine):
    near = suggested(lambda: source_of("torchvison:a/b"), r"Did you mean `(\S+):`\?")
    found = tried(
        lambda: source_of("torchvison:a/b"), "Did you mean `torchvision:`?", lambda: source_of(f"{near}:resnet18")
    )
    assert found == ("torchvision", "resnet18")
    found = tried(
        lambda: source_of("http://a.b/resnet18"), "A name without a prefix is timm's.", lambda: source_of("resnet18")
    )
    assert found == ("timm", "resnet18")
    example = suggested(lambda: model_by_name(str(mine)), r"For example (.+)\.$")
    found = tried(lambda: model_by_name(str(mine)), "For example", lambda: model_by_name(example))
    assert found.made_by["network"] == "mine.py:build"


def test_weights_that_are_forgotten(mine, weights, tmp_path):
    torch.save({"ema": torch.load(weights), "other": timm.create_model("test_resnet").state_dict()}, tmp_path / "s.pth")
    found = tried(
        lambda: model_by_name(f"{mine}:build", key="ema"),
        "Give --weights.",
        lambda: model_by_name(f"{mine}:build", tmp_path / "s.pth", key="ema"),
    )
    assert torch.equal(found.model.fc.bias, torch.load(weights)["fc.bias"])
    found = tried(
        lambda: model_by_name("test_resnet"), "Give --weights FILE.", lambda: model_by_name("test_resnet", weights)
    )
    assert found.outputs == 3


def test_networks_of_torchvision(weights, tmp_path):
    path = saved(tmp_path / "tv.pth", torchvision.models.shufflenet_v2_x0_5(num_classes=3))

    def by(name, file=path, **arguments):
        return model_by_name(name, file, arguments)

    near = suggested(lambda: by("torchvision:shufflenet_v2_x05"))
    found = tried(lambda: by("torchvision:shufflenet_v2_x05"), "Did you mean", lambda: by(f"torchvision:{near}"))
    assert found.outputs == 3
    of_timm = suggested(lambda: by("torchvision:test_resnet"), r"timm's: `(.+?)`")
    found = tried(lambda: by("torchvision:test_resnet"), "Did you mean timm's:", lambda: by(of_timm, weights))
    assert found.outputs == 3
    full = suggested(lambda: by("shufflenet_v2_x0_5"))
    assert tried(lambda: by("shufflenet_v2_x0_5"), "Did you mean `torchvision:", lambda: by(full)).outputs == 3
    name = "torchvision:shufflenet_v2_x0_5"
    assert tried(lambda: by(name, num_classes=3), "Leave it out.", lambda: by(name)).outputs == 3
    headless = {n: v for n, v in torch.load(path).items() if not n.startswith("fc.")}
    torch.save(headless, tmp_path / "headless.pth")
    expected = suggested(lambda: by(name, tmp_path / "headless.pth"), r"Expected: (.+)\.$")
    assert expected == "fc.bias, fc.weight"
    found = tried(lambda: by(name, tmp_path / "headless.pth"), "Expected: fc.bias, fc.weight.", lambda: by(name))
    assert {f"fc.{n}" for n, _ in found.model.fc.named_parameters()} == set(expected.split(", "))
    path = saved(tmp_path / "vit.pth", torchvision.models.VisionTransformer(32, 32, 1, 12, 768, 3072, num_classes=3))
    says = "Check --argument NAME=VALUE."
    tried(lambda: by("torchvision:resnet18", sise=1), says, lambda: by(name))


@pytest.mark.parametrize("transformed", ["true", "false"])
def test_googlenet_is_told_whether_it_transforms_its_input(transformed, tmp_path):
    how = {"num_classes": 3, "init_weights": False, "aux_logits": False}
    path = saved(tmp_path / "w.pth", torchvision.models.googlenet(**how))
    found = tried(
        lambda: model_by_name("torchvision:googlenet", path, {"aux_logits": False}),
        f"--argument transform_input={transformed} for",
        lambda: model_by_name(
            "torchvision:googlenet", path, {"aux_logits": False, "transform_input": json.loads(transformed)}
        ),
    )
    assert found.model.transform_input is (transformed == "true")


def test_functions_of_the_users_own(mine, weights):
    def by(name, file=None, **arguments):
        return model_by_name(f"{mine}:{name}", file, arguments)

    near = suggested(lambda: by("build_it"))
    assert tried(lambda: by("build_it"), "Did you mean `build`?", lambda: by(near)).model.num_classes == 3
    own = suggested(lambda: by("build", sed=1))
    tried(lambda: by("build", sed=1), "Did you mean `seed`?", lambda: by("build", **{own: 1}))
    needed = suggested(lambda: by("needs"), r"Give --argument (\w+)=VALUE\.")
    assert tried(lambda: by("needs"), "Give", lambda: by("needs", **{needed: 4})).model.in_features == 4
    tried(lambda: by("takes_nothing", seed=1), "Leave it out.", lambda: by("takes_nothing"))
    tried(lambda: by("ready", seed=1), "Leave it out.", lambda: by("ready"))
    tried(lambda: by("number"), "Name one that builds it.", lambda: by("build"))


def test_code_of_the_users_own(mine, weights, tmp_path):
    def by(name, file=None):
        return model_by_name(f"{mine}:{name}", file)

    def corrected(old, new):
        mine.write_text(mine.read_text().replace(old, new))

    def alone():
        corrected('return "name", build()', "return build()")
        return by("with_name", weights)

    says = "Let it return the network alone, with its weights loaded or with --weights FILE."
    assert torch.equal(tried(lambda: by("with_name"), says, alone).model.fc.bias, torch.load(weights)["fc.bias"])

    def by_itself():
        names = {}
        exec(mine.read_text(), names)
        with pytest.raises(RuntimeError, match="out of order"):
            names["fails"]()
        corrected('raise RuntimeError("out of order")', "return build()")
        return by("fails")

    assert tried(lambda: by("fails"), "Run it by itself first.", by_itself).model.num_classes == 3
    (tmp_path / "empty.py").write_text("WIDTH = 3\n")

    def with_a_function():
        (tmp_path / "empty.py").write_text(MINE)
        return model_by_name(f"{tmp_path / 'empty.py'}:build")

    def wrong():
        return model_by_name(f"{tmp_path / 'empty.py'}:build")

    tried(wrong, "Write one that returns the network.", with_a_function)


SPREAD = """
import torch

def spread(*layers, depth):
    return torch.nn.Linear(depth, 2)

def by_place(depth, /):
    return torch.nn.Linear(depth, 2)
"""


def test_an_argument_with_a_star_is_not_needed(tmp_path):
    (tmp_path / "spread.py").write_text(SPREAD)

    def by(**arguments):
        return model_by_name(f"{tmp_path / 'spread.py'}:spread", None, arguments)

    assert tried(by, "Give --argument depth=VALUE.", lambda: by(depth=4)).model.in_features == 4


@pytest.mark.parametrize("given", [{}, {"depth": 4}])
def test_an_argument_by_place_alone(given, tmp_path):
    path = tmp_path / "spread.py"
    path.write_text(SPREAD)

    def by(**arguments):
        return model_by_name(f"{path}:by_place", None, arguments)

    def without_the_slash():
        path.write_text(SPREAD.replace("depth, /", "depth"))
        return by(depth=4)

    says = "Let it take `depth` by its name, without a / behind it."
    assert tried(lambda: by(**given), says, without_the_slash).model.in_features == 4


def test_modules_that_python_does_not_find(mine, tmp_path, monkeypatch):
    (tmp_path / "of_ways_out").mkdir()
    (tmp_path / "of_ways_out" / "small.py").write_text(MINE)
    monkeypatch.chdir(tmp_path / "of_ways_out")
    name = "of_ways_out.small:build"

    def where_python_finds_it():
        monkeypatch.chdir(tmp_path)
        return model_by_name(name)

    def by_its_file():
        return model_by_name(f"{mine}:build")

    for says, right in (("or give FILE.py:FUNCTION", by_its_file), ("where Python finds it", where_python_finds_it)):
        assert tried(lambda: model_by_name(name), says, right).model.num_classes == 3
    path = saved(tmp_path / "tv.pth", torchvision.models.shufflenet_v2_x0_5(num_classes=3))

    def wrong():
        return model_by_name("torchvison:shufflenet_v2_x0_5", path)

    near = suggested(wrong)
    assert tried(wrong, "Did you mean `torchvision:", lambda: model_by_name(near, path)).outputs == 3


def stored(cache, repository, files, revision="main"):
    """A repository in the cache, as the hub's client stores it."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / HASH
    for folder in (snapshot, place / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(HASH)
    for name, content in files.items():
        if name.endswith(".safetensors"):
            save_file(content, snapshot / name)
        else:
            (snapshot / name).write_text(json.dumps(content))
    return snapshot


STATE = timm.create_model("test_resnet", num_classes=3).state_dict()
CONFIG = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 64, 64]}}
WHOLE = {"config.json": CONFIG, "model.safetensors": STATE}


def hub(name, *given):
    return model_by_name(f"hf-hub:{name}", *given)


def test_repositories_of_the_hub(cache, weights, mine):
    example = suggested(lambda: hub("small"), r"For example hf-hub:(\S+)\.$")
    stored(cache, example, WHOLE)
    assert tried(lambda: hub("small"), "For example", lambda: hub(example)).outputs == 3
    for name, revision in (("org/a", "main"), ("org/b@v2", "v2")):
        repository = suggested(lambda name=name: hub(name), r"Download it once: hf download (\S+?)[. ]")
        found = tried(
            lambda name=name: hub(name),
            f"hf download {repository}" + (f" --revision {revision}" if revision != "main" else "."),
            lambda name=name, one=repository, at=revision: (stored(cache, one, WHOLE, at), hub(name))[1],
        )
        assert found.outputs == 3
    says = "Or give --model transformers:FOLDER, or timm's name and --weights FILE."
    assert tried(lambda: hub("org/c"), says, lambda: model_by_name("test_resnet", weights)).outputs == 3
    stored(cache, "org/other", {"config.json": {"layers": 3}})
    says = "Write a function that builds it: --model FILE.py:FUNCTION."
    assert tried(lambda: hub("org/other"), says, lambda: model_by_name(f"{mine}:build")).model.num_classes == 3


def test_repositories_of_the_hub_that_are_not_whole(cache, weights):
    def whole():
        stored(cache, "org/half", WHOLE)
        return hub("org/half")

    stored(cache, "org/half", {"config.json": CONFIG})
    says = "The download was not complete: run hf download again. Or give --weights FILE."
    found = tried(lambda: hub("org/half"), says, lambda: hub("org/half", weights))
    assert torch.equal(found.model.fc.bias, torch.load(weights)["fc.bias"])
    assert torch.equal(tried(lambda: hub("org/half"), says, whole).model.fc.bias, STATE["fc.bias"])
    stored(cache, "org/backbone", {"config.json": CONFIG | {"num_classes": 0}})
    says = "Give a repository with a classifier, not with a backbone."
    assert tried(lambda: hub("org/backbone"), says, lambda: hub("org/half")).outputs == 3


def test_a_repository_of_the_hub_without_its_description(cache):
    stored(cache, "org/part", {"model.safetensors": STATE})

    def whole():
        stored(cache, "org/part", WHOLE)
        return hub("org/part")

    assert tried(lambda: hub("org/part"), "run hf download again", whole).outputs == 3


def test_prompts_for_a_network_with_a_classifier(weights, tmp_path):
    (tmp_path / "prompts.yaml").write_text("templates: ['a {}.']\n")
    found = tried(
        lambda: model_by_name("test_resnet", weights, names=ClassNames(("a", "b"), tmp_path / "prompts.yaml")),
        "Leave --prompts out",
        lambda: model_by_name("test_resnet", weights, names=ClassNames(("a", "b"))),
    )
    assert found.outputs == 3


def test_folders_of_transformers(tmp_path, mine):
    def by(path):
        return model_by_name(f"transformers:{path}")

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auto_map": {}}))
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    says = "Write a function that builds it, and give --model FILE.py:FUNCTION."
    assert tried(lambda: by(folder), says, lambda: model_by_name(f"{mine}:build")).model.num_classes == 3


CLASSES = ("cat", "dog")


def prompts_of(path, text):
    (path / "prompts.yaml").write_text(text)
    return read_prompts(path / "prompts.yaml", CLASSES)


EACH, BOTH = "cat: a cat\ndog: a dog", "templates: ['a {}']"


@pytest.mark.parametrize(
    ("wrong", "says", "right"),
    [
        ("", "For example `cat: a photo of a cat.` for each class", "cat: a photo of a cat.\ndog: a photo of a dog."),
        ("cat: 3\ndog: a dog", "For example `cat: a photo of a cat.`", "cat: a photo of a cat.\ndog: a dog"),
        ("cat: [a cat, '']\ndog: a dog", "For example `cat: a photo of a cat.`", "cat: a photo of a cat.\ndog: a dog"),
        (f"{BOTH}\ncat: a cat", "Leave `templates` out", EACH),
        (f"{BOTH}\ncat: a cat", "or give it alone.", BOTH),
        ("cat: a cat\ndogs: a dog", "Did you mean `dog`?", EACH),
        ("cat: a cat\nxyz: a dog", "Known: cat, dog.", EACH),
        ("cat: a cat", "Add them", EACH),
        ("cat: a cat", "or give `templates` for all classes in place of single prompts.", BOTH),
        ("templates: [a photo]", "For example 'a photo of a {}.', where {} stands", "templates: ['a photo of a {}.']"),
    ],
)
def test_files_of_prompts(wrong, says, right, tmp_path):
    found = tried(lambda: prompts_of(tmp_path, wrong), says, lambda: prompts_of(tmp_path, right))
    assert len(found.texts) == 2


@pytest.mark.parametrize("wrong", ["[a photo of a cat.]", "templates: []", "cat: ''\ndog: ''"])
def test_the_example_of_templates(wrong, tmp_path):
    example = suggested(lambda: prompts_of(tmp_path, wrong), r"`(templates: .+?)`")
    assert len(prompts_of(tmp_path, "templates: ['a photo of a {}.', 'a drawing of a {}.']").texts[0]) == 2
    found = tried(lambda: prompts_of(tmp_path, wrong), "or `templates: [", lambda: prompts_of(tmp_path, example))
    assert found.texts[0] == ("a photo of a cat.", "a drawing of a cat.")


def test_prompts_without_classes():
    classes = suggested(lambda: Prompts.of([]), r"--classes ([\w,]+)\.").split(",")
    assert len(tried(lambda: Prompts.of([]), "Give data with classes", lambda: Prompts.of(classes)).texts) == 2


class Tower(nn.Module):
    """An image tower for images of 32 x 32."""

    image_size = 32

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 8, stride=8), nn.Linear(8, 6)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3)))


class Clip(nn.Module):
    """A model of images and texts, with the names of open_clip's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.visual, self.letters = Tower(), nn.Embedding(128, 6)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def encode_text(self, tokens):
        return self.letters(tokens).mean(1)


class Letters:
    """A tokenizer of letters."""

    context_length = 40

    def encode(self, text):
        return [ord(letter) % 128 for letter in text]

    def __call__(self, texts):
        return torch.tensor([(self.encode(text) + [0] * 40)[:40] for text in texts])


PIXELS = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def classified(model, classes=CLASSES, prompts=None, tokenizer=None, **pixels):
    return Explainer(zero_shot(model, tokenizer or Letters(), classes, prompts, **pixels))(IMAGES, [[0], [1]]).logits


class Compared(nn.Module):
    """Compares images with encoded texts."""

    def __init__(self):
        super().__init__()
        self.tower = Tower()
        self.register_buffer("texts", torch.eye(6)[:2])

    def forward(self, images):
        return self.tower(images) @ self.texts.T


def test_zero_shot_classifiers():
    found = tried(
        lambda: classified(Tower()),
        "Write a module whose forward compares images with encoded texts, and give that.",
        lambda: Explainer(Compared())(IMAGES, [[0], [1]]).logits,
    )
    assert found.shape == (2, 2)
    says = "or `mean` and `std`."
    assert tried(lambda: classified(Clip()), says, lambda: classified(Clip(), **PIXELS)).shape == (2, 2)
    same = {"cat": "a cat", "dog": "a cat"}
    found = tried(
        lambda: classified(Clip(), prompts=same, **PIXELS),
        "Change one of them",
        lambda: classified(Clip(), prompts=same | {"dog": "a dog"}, **PIXELS),
    )
    assert found.shape == (2, 2)

    class Empty(Letters):
        def encode(self, text):
            return [0]

    found = tried(
        lambda: classified(Clip(), tokenizer=Empty(), **PIXELS),
        "if they differ, the tokenizer is not that of the model.",
        lambda: classified(Clip(), tokenizer=Letters(), **PIXELS),
    )
    assert found.shape == (2, 2)
    long = "a photo of a {}, which was taken in the evening"
    found = tried(
        lambda: classified(Clip(), prompts=long, **PIXELS),
        "Shorten it.",
        lambda: classified(Clip(), prompts=long[:16], **PIXELS),
    )
    assert found.shape == (2, 2)

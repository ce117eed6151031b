"""What refusals of settings, outputs, transforms, plugins and further maps say, done."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms import v2

import torchvice
from torchvice import ViceError
from torchvice.assessment import MapSettings
from torchvice.assessment.adapted import adapted
from torchvice.assessment.controls import CONTROL_SETS
from torchvice.assessment.input_transform import InputTransform, transform_named
from torchvice.assessment.map_settings import packed, resolve_device
from torchvice.assessment.parts import Part
from torchvice.assessment.plugins import load_plugin
from torchvice.assessment.randomised import randomised
from torchvice.assessment.request import Extras, check_request
from torchvice.assessment.views import views_of
from torchvice.explain import METHODS, Choices, Explainer, method
from ways_out import tried

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
HOW = {"view_size": 32, "crop": 32, "device": "cpu", "protocols": ["strict"], "progress": False, "workers": 1}


class Net(nn.Module):
    """Two convolutions, mean pooling and a linear layer, whose outputs are changed at the end."""

    def __init__(self, outputs=2, change=lambda z: z, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(channels, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.fc, self.change = nn.Linear(16, outputs), change

    def forward(self, x):
        return self.change(self.fc(self.b(self.a(x).relu()).relu().mean((2, 3))))


class Single(Net):
    """Gives one logit, below 0."""

    def __init__(self):
        super().__init__(1, lambda z: z - 5)


class Data:
    """Three images, with both of two classes each or, of exclusive ones, with a, b and a."""

    classes = ("a", "b")

    def __init__(self, exclusive=False):
        self.records, self.exclusive = [SimpleNamespace(image_id=str(i)) for i in range(3)], exclusive
        self.targets = np.array([[1, 0], [0, 1], [1, 0]] if exclusive else [[1, 1]] * 3, np.uint8)

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (32, 32, 3)).astype(np.uint8)

    def mask(self, index):
        return np.minimum(np.repeat([[0, 1, 2, 0]], 32, 0).repeat(8, 1), len(self.classes))


def assessed(out, model=None, data=None, **how):
    return torchvice.assess(model or Net(), data or Data(), out=out, **{**HOW, "controls": False, **how})


def in_words(pattern, refused):
    """What a pattern finds in the way out of a refusal."""
    with pytest.raises(ViceError) as told:
        refused()
    found = re.search(pattern, told.value.way_out)
    assert found, told.value.way_out
    return found[1]


def sigmoid(z):
    return z.sigmoid()


def softmax(z):
    return (3 * z).softmax(1)


def hundred(change):
    return lambda z: 100 * change(z)


@pytest.mark.parametrize("change", [sigmoid, softmax])
@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_probabilities_are_named_as_such_or_as_logits(tmp_path, change, kind):
    says = "Take the logits of probabilities: --outputs probabilities (outputs='probabilities')"
    says = "If they are logits: --outputs logits." if kind == "logits" else says
    model = Net(change=change)
    table = tried(lambda: assessed(tmp_path, model), says, lambda: assessed(tmp_path, model, outputs=kind))
    assert ((table.images.logits >= 0) & (table.images.logits <= 1)).all() == (kind == "logits")


def test_probabilities_of_one_class_have_no_class_map_that_joins_them(tmp_path):
    class One(Data):
        classes, targets = ("a",), np.ones((3, 1), np.uint8)

        def __init__(self):
            self.records = [SimpleNamespace(image_id=str(i)) for i in range(3)]

    model = Net(1, sigmoid)
    says = "Take the logits of probabilities: --outputs probabilities (outputs='probabilities'). If they are logits"

    def right():
        return assessed(tmp_path, model, One(), outputs="probabilities")

    assert len(tried(lambda: assessed(tmp_path, model, One()), says, right).images) == 3


def test_a_softmax_that_a_class_map_joins_is_named_softmax(tmp_path):
    model, given = Net(4, softmax), {"class_map": [[0, 1], [2]]}
    says = "of a softmax whose outputs a class map puts together: --outputs softmax"
    table = tried(
        lambda: assessed(tmp_path / "t", model, **given),
        says,
        lambda: assessed(tmp_path / "t", model, **given, outputs="softmax"),
    )
    with torch.no_grad():
        shown = (
            torch.tensor(Data().image(0)).permute(2, 0, 1)[None] / 255
            - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        ) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        p = model(shown)[0]
    np.testing.assert_allclose(table.images.logits[0, 0], torch.logit(p[0] + p[1]), atol=1e-4)
    says = "Give --outputs softmax (outputs='softmax')."
    again = tried(
        lambda: assessed(tmp_path / "u", model, **given, outputs="probabilities"),
        says,
        lambda: assessed(tmp_path / "u", model, **given, outputs="softmax"),
    )
    np.testing.assert_array_equal(again.images.logits, table.images.logits)


def test_per_cent_are_divided_in_the_model_or_are_logits(tmp_path):
    says = "Divide them by 100 in the model, and give --outputs probabilities. If they are logits: --outputs logits."
    model = Net(change=hundred(softmax))

    def divided():
        return assessed(tmp_path / "t", Net(change=lambda z: hundred(softmax)(z) / 100), outputs="probabilities")

    assert (tried(lambda: assessed(tmp_path / "t", model), says, divided).images.logits < 0).any()
    kept = tried(
        lambda: assessed(tmp_path / "u", model), says, lambda: assessed(tmp_path / "u", model, outputs="logits")
    )
    np.testing.assert_allclose(kept.images.logits.sum(1), 100, rtol=1e-4)


def test_a_log_softmax_is_removed_or_holds_logits(tmp_path):
    says = "Remove the log_softmax at the model's end. If they are logits: --outputs logits."
    model = Net(change=lambda z: z.log_softmax(1))
    removed = tried(lambda: assessed(tmp_path / "t", model), says, lambda: assessed(tmp_path / "t", Net()))
    assert len(removed.images) == 3
    kept = tried(
        lambda: assessed(tmp_path / "u", model), says, lambda: assessed(tmp_path / "u", model, outputs="logits")
    )
    np.testing.assert_allclose(np.exp(kept.images.logits).sum(1), 1, rtol=1e-4)


def test_outputs_beyond_0_and_1_are_logits(tmp_path):
    says = "If the outputs are logits: --outputs logits (outputs='logits')."
    model = Net(change=lambda z: 9 * z)
    table = tried(
        lambda: assessed(tmp_path, model, outputs="probabilities"),
        says,
        lambda: assessed(tmp_path, model, outputs="logits"),
    )
    assert table.images.logits.shape == (3, 2)


def test_a_class_map_chooses_outputs_for_every_class(tmp_path):
    says = "Give a class map from the data's classes to the model's outputs."
    table = tried(lambda: assessed(tmp_path, Net(3)), says, lambda: assessed(tmp_path, Net(3), class_map=[[2], [0, 1]]))
    assert table.images.logits.shape == (3, 2)


def test_one_logit_of_two_classes_is_given_its_class(tmp_path):
    data = Data(exclusive=True)
    groups = in_words(r"class_map=(\[.*\])\)", lambda: assessed(tmp_path, Single(), data))
    table = tried(
        lambda: assessed(tmp_path, Single(), data),
        "--class-map FILE that names this class alone (class_map=[[], [0]])",
        lambda: assessed(tmp_path, Single(), data, class_map=json.loads(groups)),
    )
    np.testing.assert_array_equal(table.images.logits[:, 0], -table.images.logits[:, 1])


def test_an_only_output_is_given_to_one_of_two_classes_alone(tmp_path):
    says = "If the only output of a network means one of two classes, name that class alone in the class map."
    data = Data(exclusive=True)
    table = tried(
        lambda: assessed(tmp_path, Single(), data, class_map=[[0], [0]]),
        says,
        lambda: assessed(tmp_path, Single(), data, class_map=[[], [0]]),
    )
    assert table.images.logits.shape == (3, 2)


def test_a_complement_is_of_exclusive_classes(tmp_path):
    says = "the other class is its complement: --targets exclusive"
    data = Data(exclusive=True)
    given = {"class_map": [[], [0]], "targets": "multilabel"}
    table = tried(
        lambda: assessed(tmp_path, Single(), data, **given),
        says,
        lambda: assessed(tmp_path, Single(), data, **{**given, "targets": "exclusive"}),
    )
    assert table.exclusive


class Towers(nn.Module):
    """Images and texts of four features each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.visual = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.visual.image_size, self.visual.preprocess_cfg = 32, {"mean": (0.5,) * 3, "std": (0.5,) * 3}
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.words = nn.Embedding(256, 4)

    def encode_text(self, texts):
        return self.words(texts).mean(1)

    def forward(self, images, texts):
        raise NotImplementedError


def tokenizer(texts):
    return torch.tensor([list(text.encode().ljust(40)) for text in texts])


def test_a_network_of_images_and_texts_is_given_the_names_of_the_classes(tmp_path):
    model, data = Towers(), Data()
    call = in_words(r"(torchvice\.models\.zero_shot\.zero_shot\(.*?\))", lambda: assessed(tmp_path, model, data))

    def right():
        import torchvice.models.zero_shot

        names = {"torchvice": torchvice, "model": model, "tokenizer": tokenizer, "classes": data.classes}
        return assessed(tmp_path, eval(call, names), data, layer="tower.1", method="gradcam")

    says = "Give it the names of the classes: torchvice.models.zero_shot.zero_shot(model, tokenizer, classes)."
    table = tried(lambda: assessed(tmp_path, model, data), says, right)
    assert table.images.logits.shape == (3, 2)


def test_a_class_map_of_names_is_ordered_by_the_words_of_the_refusal(tmp_path):
    groups, dataset, file = {"b": [0], "a": [1]}, Data(), tmp_path / "map.json"
    expression = in_words(r"Of a dictionary: (\[.*?classes\])", lambda: MapSettings(class_map=groups))
    given = tried(
        lambda: MapSettings(class_map=groups),
        "Of a dictionary: [groups[name] for name in dataset.classes].",
        lambda: MapSettings(class_map=eval(expression, {"groups": groups, "dataset": dataset})),
    )
    assert given.class_map == [[1], [0]]
    call = in_words(r"(torchvice\.runs\.class_maps\.read_class_map\(.*\))", lambda: MapSettings(class_map=str(file)))
    file.write_text(json.dumps(groups))

    def right():
        import torchvice.runs.class_maps

        names = {"torchvice": torchvice, "file": file, "dataset": dataset, "outputs": 2}
        return MapSettings(class_map=eval(call, names))

    says = "A file or a name such as 'imagenet-voc': torchvice.runs.class_maps.read_class_map"
    assert tried(lambda: MapSettings(class_map=str(file)), says, right).class_map == [[1], [0]]

    def ready():
        import torchvice.runs.class_maps

        voc = SimpleNamespace(classes=("cat", "dog"))
        name = in_words(r"a name such as '(.*?)'", lambda: MapSettings(class_map="imagenet-voc"))
        return MapSettings(
            class_map=eval(call, {"torchvice": torchvice, "file": name, "dataset": voc, "outputs": 1000})
        )

    assert tried(lambda: MapSettings(class_map="imagenet-voc"), says, ready).class_map[0] == [281, 282, 283, 284, 285]


END = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))]


def composed(*steps):
    return v2.Compose([*steps, *END])


@pytest.mark.parametrize(
    ("beside", "says"),
    [({"view_size": 64}, "Leave `view_size` out."), ({"interpolation": "bicubic"}, "Leave `interpolation` out.")],
)
def test_what_a_transform_says_is_left_out(beside, says):
    transform = InputTransform(composed(v2.Resize((32, 32))))
    left = in_words(r"Leave `(.*)` out", lambda: MapSettings(transform=transform, **beside))
    assert set(beside) == {left}
    given = tried(lambda: MapSettings(transform=transform, **beside), says, lambda: MapSettings(transform=transform))
    assert given.given_side == 32


def test_a_network_of_one_channel_is_given_one_number():
    model = adapted_grey()
    says = "Give that of the grey images of its training: --mean NUMBER."
    wrong, right = MapSettings(mean=(0.1, 0.2, 0.3)), MapSettings(mean=(0.3,))
    assert tried(lambda: wrong.for_model(model), says, lambda: right.for_model(model)).mean == (0.3, 0.3, 0.3)
    wrong, right = MapSettings(std=(0.1, 0.2, 0.3)), MapSettings(std=(0.3,))
    found = tried(lambda: wrong.for_model(model), "--std NUMBER", lambda: right.for_model(model))
    assert found.std == (0.3, 0.3, 0.3)


def adapted_grey():
    with pytest.warns(UserWarning, match="takes one channel"):
        return adapted(Net(channels=1), MapSettings(view_size=32), False)


@pytest.mark.parametrize("name", ["viewsize", "batchsize", "chanels_last"])
def test_a_misspelt_keyword_is_the_one_that_is_suggested(name):
    values = {"view_size": 32, "batch_size": 32, "channels_last": True}
    suggested = in_words(r"Did you mean `(.*)`\?", lambda: packed({name: 32}))
    assert suggested in values
    found = tried(
        lambda: packed({name: values[suggested]}),
        f"Did you mean `{suggested}`?",
        lambda: packed({suggested: values[suggested]}),
    )
    assert getattr(found, suggested) == values[suggested]


def test_an_unknown_keyword_is_one_of_the_known_ones():
    known = in_words(r"Known: (.*)\.", lambda: packed({"qqqqqqqq": 8})).split(", ")
    assert "batch_size" in known
    assert tried(lambda: packed({"qqqqqqqq": 8}), "Known: ", lambda: packed({"batch_size": 8})).batch_size == 8


def test_the_processor_is_always_available():
    device = in_words(r"Use --device (\w+)\.", lambda: resolve_device("nowhere"))
    found = tried(lambda: resolve_device("nowhere"), "Use --device cpu.", lambda: resolve_device(device))
    assert found.type == "cpu"


GEOMETRIES = {
    "Resize((S, S))": lambda S, R: [v2.Resize((S, S))],
    "Resize(R), CenterCrop(S)": lambda S, R: [v2.Resize(R), v2.CenterCrop(S)],
    "Resize((R, R)), CenterCrop(S)": lambda S, R: [v2.Resize((R, R)), v2.CenterCrop(S)],
    "CenterCrop(S)": lambda S, R: [v2.CenterCrop(S)],
    "the long side resized and the image padded around its centre": lambda S, R: [
        v2.Lambda(lambda image: v2.functional.resize(image, [S * n // max(image.size) for n in image.size[::-1]])),
        v2.CenterCrop(S),
    ],
}


def test_every_geometry_that_is_named_is_known():
    def wrong(image):
        return composed()(image.crop((0, 0, 64, 64)))

    named = in_words(r"Supported: (.*)\.", lambda: InputTransform(wrong).view).split("; ")
    views = {}
    for text in named:
        right = composed(*GEOMETRIES[text](64, 71))
        views[text] = tried(lambda: InputTransform(wrong).view, text, lambda right=right: InputTransform(right).view)
    assert list(views.values()) == ["warp64", "short71-crop64", "warp71-crop64", "crop64", "long64-crop64"]


def test_every_image_is_given_the_same_size():
    """The first one makes another size of images that are nearly black."""

    def wrong(image):
        return composed(v2.Resize((32, 32) if 0 < np.asarray(image).max() < 9 else (224, 224)))(image)

    dark = np.full((48, 48, 3), 8, np.uint8)
    resize = in_words(r"such as (Resize\(.*\))\.", lambda: InputTransform(wrong)(dark))
    right = composed(eval(resize, {"Resize": v2.Resize}))
    says = "Give every image the same size, such as Resize((224, 224))."
    assert tried(lambda: InputTransform(wrong)(dark), says, lambda: InputTransform(right)(dark)).shape == (3, 224, 224)


@pytest.mark.parametrize(("name", "value"), [("view", "crop"), ("scales", (0.5, 1.0))])
def test_either_the_transform_or_the_choice_is_left_out(name, value):
    transform, choices = composed(v2.Resize((32, 32))), Choices(**{name: value})

    def views(**settings):
        return views_of(Net(), ["strict"], MapSettings(device="cpu", **settings))["strict"]

    def wrong():
        return views(transform=transform, choices=choices)

    assert tried(wrong, "Leave one of them out.", lambda: views(transform=transform)).side == 32
    assert getattr(tried(wrong, "Leave one of them out.", lambda: views(choices=choices)).choices, name) == value


@pytest.mark.filterwarnings("ignore:The network takes one channel")
def test_a_transform_for_grey_images_has_one_mean():
    model = Net(channels=1)
    words = in_words(
        r"Put (Grayscale\(\)) before ToTensor\(\)",
        lambda: views_of(model, ["strict"], MapSettings(device="cpu", transform=composed(v2.Resize((32, 32))))),
    )
    T = torchvision.transforms
    right = T.Compose(
        [eval(words, {"Grayscale": T.Grayscale}), T.Resize((32, 32)), T.ToTensor(), T.Normalize(0.3, 0.2)]
    )
    wrong = T.Compose([T.Resize((32, 32)), T.ToTensor(), T.Normalize((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))])
    found = tried(
        lambda: views_of(model, ["strict"], MapSettings(device="cpu", transform=wrong)),
        "Put Grayscale() before ToTensor(), and one number into Normalize(...).",
        lambda: views_of(model, ["strict"], MapSettings(device="cpu", transform=right)),
    )
    np.testing.assert_allclose(found["strict"].mean, (0.3, 0.3, 0.3), atol=1e-5)


def test_a_transform_in_a_file_is_named_itself(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torchvision import transforms as T\nsize = 32\n"
        "mine = T.Compose([T.Resize((size, size)), T.ToTensor(), T.Normalize(0.5, 0.5)])\n"
    )
    found = tried(
        lambda: transform_named(f"{tmp_path}/mine.py:size"),
        "Name the transform itself.",
        lambda: transform_named(f"{tmp_path}/mine.py:mine"),
    )
    assert found.view == "warp32"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"transform": composed(v2.Resize((32, 32)))}, "(--protocol strict), or leave the transform out."),
        ({"choices": Choices(mirror=True)}, "(--protocol strict), or leave the choice out."),
    ],
)
def test_what_is_for_strict_is_made_for_strict_or_left_out(given, says):
    def wrong():
        return views_of(Net(), ["paper"], MapSettings(device="cpu", crop=32, **given))

    strict = tried(wrong, says, lambda: views_of(Net(), ["strict"], MapSettings(device="cpu", view_size=32, **given)))
    assert list(strict) == ["strict"]
    assert list(tried(wrong, says, lambda: views_of(Net(), ["paper"], MapSettings(device="cpu", crop=32)))) == ["paper"]


def test_a_part_is_written_as_the_example():
    example = in_words(r"--shard (\S+),", lambda: Part.parse("1 of 4"))
    found = tried(
        lambda: Part.parse("1 of 4"), "Such as --shard 1/4, of four processes the first.", lambda: Part.parse(example)
    )
    assert (found.index, found.count) == (0, 4)


@pytest.fixture
def same_methods():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


MEAN = """
    import torchvice.explain

    {decorator}
    def mean_of_channels(scene):
        result = scene.run_network(gradients=False)
        scene.targets_of(result.outputs)
        return result.outputs, result.activations.mean(1)[[image for image, _ in scene.pairs]]
"""


def loaded(path, text):
    path.write_text(textwrap.dedent(text))
    return load_plugin(path)


@pytest.mark.usefixtures("same_methods")
def test_the_decorator_that_a_refusal_names_registers_a_method(tmp_path):
    path, bare = tmp_path / "mine.py", MEAN.format(decorator="")
    decorator = in_words(r"Put (@\S+) above a function", lambda: loaded(path, bare))
    names = tried(
        lambda: loaded(path, bare),
        "above a function from a torchvice.explain.Scene to outputs and maps",
        lambda: loaded(path, MEAN.format(decorator=decorator)),
    )
    assert names == ["mine"]
    assert Explainer(Net(), "mine")(IMAGES, [[0], [1]]).maps.shape == (2, 8, 8)


@pytest.mark.usefixtures("same_methods")
@pytest.mark.parametrize("place", ["installed", "in the same file"])
def test_what_a_plugin_imports_is_installed_or_put_into_it(tmp_path, monkeypatch, place):
    body = MEAN.format(decorator='@torchvice.explain.method("mine")')
    path, other = tmp_path / "mine.py", f"nothing_{place.split()[0]}"
    wrong = f"import {other}\n" + textwrap.dedent(body)

    def right():
        if place == "installed":
            (tmp_path / "site").mkdir()
            (tmp_path / "site" / f"{other}.py").write_text("x = 1\n")
            monkeypatch.syspath_prepend(tmp_path / "site")
            return loaded(path, wrong)
        return loaded(path, wrong.replace(f"import {other}", "x = 1"))

    assert tried(lambda: loaded(path, wrong), "Install it, or put it into the same file.", right) == ["mine"]


@pytest.mark.usefixtures("same_methods")
@pytest.mark.parametrize("mistake", ["def f(:", "None.y", "raise SystemExit(3)"])
def test_a_plugin_that_fails_is_corrected(tmp_path, mistake):
    body = textwrap.dedent(MEAN.format(decorator='@torchvice.explain.method("mine")'))
    path = tmp_path / "mine.py"

    def right():
        return loaded(path, body)

    assert tried(lambda: loaded(path, f"{body}\n{mistake}\n"), "Correct the file.", right) == ["mine"]


@pytest.mark.usefixtures("same_methods")
def test_a_refusal_inside_a_plugin_keeps_its_way_out(tmp_path):
    path, taken = tmp_path / "mine.py", MEAN.format(decorator='@torchvice.explain.method("cam")')
    with pytest.raises(ViceError) as inside:
        method("cam")(lambda scene: None)

    def right():
        return loaded(path, taken.replace('"cam"', '"cam_of_mine"'))

    assert tried(lambda: loaded(path, taken), inside.value.way_out, right) == ["cam_of_mine"]


def test_the_control_of_random_weights_is_left_out(tmp_path):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(nn.functional.conv2d(x, self.weight, stride=4)).mean((2, 3)) - 0.1

    given = {"layer": "act", "method": "gradcam"}

    def wrong():
        return assessed(tmp_path, Fixed(), **given, controls=["random_weights"])

    name = in_words(r"--controls (\w+)\.", wrong)
    table = tried(
        wrong,
        "Leave this control out: --controls cheap.",
        lambda: assessed(tmp_path, Fixed(), **given, controls=CONTROL_SETS[name]),
    )
    assert "strict:random_weights" not in table.manifest["explanations"]


def test_an_assigned_forward_is_written_in_the_class(tmp_path):
    class Wide(Net):
        def forward(self, x):
            return 2 * super().forward(x)

    model = Net()
    model.forward = lambda x: 2 * Net.forward(model, x)
    says = "Write the forward in the class. Leave this control out: --controls cheap."
    made = tried(lambda: randomised(model), says, lambda: randomised(Wide()))
    assert not torch.equal(made(IMAGES), Wide()(IMAGES))
    table = tried(lambda: randomised(model), says, lambda: assessed(tmp_path, model, controls=CONTROL_SETS["cheap"]))
    assert "strict:random" in table.manifest["explanations"]


def test_a_control_is_named_among_the_controls():
    says = "Use `controls` (--controls)."
    found = tried(lambda: Extras(also=("random",)), says, lambda: Extras(controls=("random",)))
    assert found.controls == ("random",)


@pytest.mark.parametrize("wrong", ["gradcm", "mirrored", "scale", "prediction"])
def test_a_further_explanation_is_the_one_that_is_suggested(wrong):
    name = in_words(r"Did you mean `(.*)`\?", lambda: Extras(also=(wrong,)))
    found = tried(lambda: Extras(also=(wrong,)), f"Did you mean `{name}`?", lambda: Extras(also=(name,)))
    assert found.also == (name,)


def test_an_unknown_further_explanation_is_one_of_the_known_ones():
    for name in in_words(r"Known: (.*)\.", lambda: Extras(also=("qqqqqq",))).split(", "):
        given = tried(lambda: Extras(also=("qqqqqq",)), name, lambda name=name: Extras(also=(name,)))
        assert given.also == (name,)


@pytest.mark.parametrize("protocols", ["strict", "both"])
def test_extras_are_of_strict(protocols):
    extras = Extras(controls=("random",))
    chosen = ("paper", "strict") if protocols == "both" else (protocols,)
    says = "Assess strict, too: --protocol strict or both."
    assert tried(lambda: check_request(("paper",), extras), says, lambda: check_request(chosen, extras)) is None


def test_a_headline_is_no_control(tmp_path):
    def with_controls(name):
        return assessed(tmp_path, method="random", controls=CONTROL_SETS[name])

    name = in_words(r"Use --controls (\w+)\.", lambda: with_controls("cheap"))
    table = tried(lambda: with_controls("cheap"), "Use --controls none.", lambda: with_controls(name))
    assert set(table.manifest["explanations"]) == {"strict:random"}


def test_an_edited_manifest_is_restored_or_its_folder_deleted(tmp_path):
    folder = tmp_path / "t"
    assessed(folder, method="gradcam", without=("object",))
    file = folder / "manifest.json"
    kept = file.read_text()
    manifest = json.loads(kept)
    manifest["explanations"]["strict:gradcam"]["interventions"]["nothing"] = 1

    def wrong():
        file.write_text(json.dumps(manifest))
        return assessed(folder, method="gradcam", without="auto", controls=None)

    says = "Restore the manifest, or delete the table's folder and run vice assess again."

    def restored():
        file.write_text(kept)
        return assessed(folder, method="gradcam", without="auto", controls=None)

    def deleted():
        shutil.rmtree(folder)
        return assessed(folder, method="gradcam", without="auto", controls=())

    assert "interventions" in tried(wrong, says, restored).manifest["explanations"]["strict:gradcam"]
    assert "interventions" in tried(wrong, says, deleted).manifest["explanations"]["strict:gradcam"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_normalisation_that_is_not_finite_is_that_of_the_training(name, number):
    given = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    says = "Give those of the network's training, such as ImageNet's: --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225."
    numbers = {key: tuple(map(float, re.search(f"--{key} ([0-9.,]+[0-9])", says)[1].split(","))) for key in given}
    found = tried(
        lambda: MapSettings(**(given | {name: (0.5, number, 0.5)})), says, lambda: MapSettings(**(given | numbers))
    )
    assert found.mean == (0.485, 0.456, 0.406)


def test_a_std_of_zero_is_refused_before_the_first_image():
    right = MapSettings(mean=(0.485,) * 3, std=(0.229,) * 3)
    for std in ((0, 0, 0), (-1, 1, 1)):
        assert tried(lambda std=std: MapSettings(std=std), "such as ImageNet's", lambda: right) is right


@pytest.mark.parametrize("name", ["view_size", "crop"])
@pytest.mark.parametrize("side", [1, 7, 16385, 10**9])
def test_a_side_without_places_or_room_is_left_out(name, side):
    option = name.replace("_", "-")
    found = tried(
        lambda: MapSettings(**{name: side}), f"Leave `{name}` out (--{option}): the network's own", MapSettings
    )
    assert getattr(found, name) is None
    assert getattr(MapSettings(**{name: 8}), name) == 8


def test_a_folder_of_other_things_gets_no_table(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cls_labels.npy").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for place in ("new", "empty"):
        table = tried(
            lambda: assessed(tmp_path / "data"),
            "Give a new or empty folder.",
            lambda place=place: assessed(tmp_path / place),
        )
        assert len(table.images) == 3
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cls_labels.npy"]
    assert len(assessed(tmp_path / "new", also=["mirror"]).images) == 3  # a table is added to


def test_the_outputs_of_a_run_that_finds_nothing_are_not_taken_for_logarithms(tmp_path, told):
    class Many(Data):
        classes, targets = tuple(map(str, range(40))), np.ones((3, 40), np.uint8)

        def __init__(self):
            super().__init__()
            self.targets = type(self).targets

    model = Net(40, lambda z: z - 50)
    assessed(tmp_path / "own", model, Many())
    assert "No output of the first 3 images is above 0" in told()
    assessed(tmp_path / "run", model, Many(), made_by={"run": {}})
    assert "is above 0" not in told()


def test_the_outputs_of_a_run_are_logits_also_where_they_look_like_probabilities(tmp_path):
    model = Net(2, sigmoid)
    with pytest.raises(ViceError, match="look like probabilities"):
        assessed(tmp_path / "own", model)
    table = assessed(tmp_path / "run", model, made_by={"run": "r"})
    assert 0 < table.images.logits.min() < table.images.logits.max() < 1

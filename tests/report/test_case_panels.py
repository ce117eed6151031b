"""Case panels: the right pixels are covered, and the right words stand below them, without overlap."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from torchvice.errors import ViceError
from torchvice.report import Case, case_panel, case_sheet, save_figure
from torchvice.report.cases import _border
from torchvice.report.style import paper_style


def a_case(height: int = 40, width: int = 60, **changes: object) -> Case:
    generator = np.random.default_rng(0)
    mask = np.zeros((height, width), np.uint8)
    mask[5:20, 10:30] = 3
    mask[5:20, 30:32] = 255
    values = {
        "image": generator.integers(0, 255, (height, width, 3)).astype(np.uint8),
        "map": np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width),
        "mask": mask,
        "class_name": "cat",
        "label": 3,
        "ji": 0.412,
        "iou": 0.38,
        "confidence": 0.97,
        "labels": ("cat", "dog"),
        "prediction": ("cat",),
        "image_id": "2007_000033",
    }
    return Case(**{**values, **changes})


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def pixels(figure: Figure, axes: int) -> np.ndarray:
    return np.asarray(figure.axes[axes].images[0].get_array())


@paper_style()
def nothing_overlaps(figure: Figure) -> bool:
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    boxes = [text.get_window_extent() for text in figure.texts] + [axes.get_window_extent() for axes in figure.axes]
    inside = all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)
    # A descender may reach into the line spacing below, hence one point of patience.
    slack = figure.dpi / 72
    apart = all(
        min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) - max(a.y0, b.y0) <= slack
        for a, b in itertools.combinations(boxes, 2)
    )
    return inside and apart


def test_panel_says_it_in_plain_words():
    said = words(case_panel(a_case(kind="right, and looks there")))
    assert said[:3] == ["right, and looks there", "map of cat", "mask of cat"]
    assert "2007_000033" in said
    assert "IoU of cat 0.38, its probability 0.97; JI score (paper) 0.41" in said
    assert "labels: cat, dog" in said
    assert "prediction: cat" in said
    assert not any("status" in line for line in said)


def test_unknown_and_empty_are_said():
    case = a_case(
        mask=None, ji=None, iou=float("nan"), labels=(), prediction=(), status="dead", map=np.full((40, 60), np.nan)
    )
    said = words(case_panel(case))
    assert {"no map of cat", "no mask", "labels: none", "prediction: none", "status of the map: dead"} <= set(said)
    assert "IoU of cat undefined, its probability 0.97; JI score (paper) undefined" in said


def test_an_object_that_is_not_in_the_mask_is_said():
    assert "no cat in the mask" in words(case_panel(a_case(mask=np.zeros((40, 60), np.uint8))))


def test_map_covers_more_where_it_is_higher_and_nothing_where_it_is_not():
    image = np.full((40, 60, 3), 128, np.uint8)
    zero = pixels(case_panel(a_case(image=image, map=np.zeros((40, 60)))), 0)
    np.testing.assert_allclose(zero, 128 / 255, atol=1e-6)
    dead = pixels(case_panel(a_case(image=image, map=np.full((40, 60), np.nan))), 0)
    np.testing.assert_array_equal(dead, zero)
    np.testing.assert_array_equal(pixels(case_panel(a_case(image=image, map=np.full((40, 60), -1.0))), 0), zero)
    half_covered = np.zeros((40, 60))
    half_covered[:, 30:] = np.nan
    half_covered[:, :30] = 0.7
    shown = pixels(case_panel(a_case(image=image, map=half_covered)), 0)
    assert (np.ptp(shown[:, :30], axis=-1) > 0.2).all()
    np.testing.assert_array_equal(shown[:, 30:], zero[:, 30:])
    # Chroma grows with the map, up to where the colours turn to pale yellow.
    ramp = pixels(case_panel(a_case(image=image, map=np.tile(np.linspace(0, 0.7, 60), (40, 1)))), 0)
    assert (np.diff(np.ptp(ramp[0], axis=-1)) > 0).all()


def test_mask_tints_the_object_stripes_the_void_and_leaves_the_rest():
    case = a_case()
    shown = pixels(case_panel(case), 1)
    plain = case.image / 255
    background = case.mask == 0
    np.testing.assert_allclose(shown[background], plain[background], atol=1e-6)
    np.testing.assert_allclose(np.unique(shown[case.mask == 255]), [0.35, 0.95], atol=1e-6)
    np.testing.assert_allclose(
        shown[case.mask == 3], 0.6 * plain[case.mask == 3] + 0.4 * np.array([86, 180, 233]) / 255, atol=1e-6
    )


def test_border_is_the_loop_over_neighbours():
    generator = np.random.default_rng(3)
    inside = generator.random((9, 7)) < 0.4
    expected = set()
    for row, column in np.argwhere(inside).tolist():
        for to_row, to_column in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            r, c = row + to_row, column + to_column
            if not (0 <= r < 9 and 0 <= c < 7 and inside[r, c]):
                y, x = row + to_row / 2, column + to_column / 2
                expected.add(
                    ((x - abs(to_row) / 2, y - abs(to_column) / 2), (x + abs(to_row) / 2, y + abs(to_column) / 2))
                )
    found = [tuple(map(tuple, segment)) for segment in _border(inside).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def segments(outline):
    """The edges (S, 2, 2) that an outline draws, each with a start of its own."""
    path = outline.get_path()
    assert path.codes.tolist() == [path.MOVETO, path.LINETO] * (len(path.codes) // 2)
    return path.vertices.reshape(-1, 2, 2)


def test_object_and_other_object_are_outlined_and_in_the_key():
    mask = np.zeros((40, 60), np.uint8)
    mask[2:4, 2:4], mask[10:12, 10:12] = 3, 7
    figure = case_panel(a_case(mask=mask))
    others, _, the_object, _ = map(segments, figure.axes[1].patches)
    assert (len(others), len(the_object)) == (8, 8)
    np.testing.assert_array_equal(np.min(the_object, axis=(0, 1)), [1.5, 1.5])
    np.testing.assert_array_equal(np.max(others, axis=(0, 1)), [11.5, 11.5])
    assert words(figure)[-4:] == ["map: 0", "1", "the object", "another object"]


def test_small_images_keep_their_pixels():
    axes = case_panel(a_case(96, 96)).axes[0]
    assert pixels(case_panel(a_case(96, 96)), 0).shape == (96, 96, 3)
    # Matplotlib's `auto` is the nearest pixel from three times the size on, and no blur.
    assert axes.images[0].get_interpolation() in ("auto", "antialiased")
    assert axes.get_window_extent().width * 300 / axes.figure.dpi > 3 * 96


def test_large_images_are_thinned_and_keep_their_outline():
    figure = case_panel(a_case(900, 2500))
    assert pixels(figure, 0).shape == (300, 834, 3)
    # 15 x 20 pixels, every third kept: 5 rows, 6 columns (12..27)
    assert len(segments(figure.axes[1].patches[2])) == 22


LONG = a_case(
    class_name="a class with a very long name, as in ImageNet, of which there are many",
    labels=("a class with a very long name, as in ImageNet", "dining table", "potted plant"),
    prediction=("someone_who_uses_no_spaces_in_a_name_that_is_wider_than_the_column_itself", "$x_1$"),
    image_id="n01440764_" * 12,
    status="dead: the network says nothing for this class anywhere in the image",
    kind="right, but looks elsewhere, which is a long way to say it and needs a second line",
)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_sheet_holds_every_case_and_nothing_overlaps(columns):
    other = np.zeros((90, 30), np.uint8)
    other[:9, :9], other[20:29, :9], other[50:] = 3, 5, 255
    cases = [a_case(), LONG, a_case(90, 30, mask=other), a_case(375, 500), a_case(mask=None)]
    figure = case_sheet(cases, columns=columns)
    pictures = [axes for axes in figure.axes if axes.images and axes.get_window_extent().height > 30]
    assert len(pictures) == 2 * len(cases)
    assert nothing_overlaps(figure)
    for axes, case in zip(pictures[::2], cases, strict=True):
        extent = axes.get_window_extent()
        assert extent.width / extent.height == pytest.approx(case.image.shape[1] / case.image.shape[0])


def test_more_columns_than_cases_leave_no_empty_place():
    assert case_sheet([a_case()], columns=3).get_size_inches()[0] == pytest.approx(3.4)


def test_a_tall_image_does_not_fill_the_page():
    picture = case_panel(a_case(400, 50)).axes[0].get_window_extent()
    assert picture.height / 150 == pytest.approx(2.0)
    assert picture.width / picture.height == pytest.approx(50 / 400)


def test_saved_panels_have_the_same_bytes(tmp_path):
    first, second = (save_figure(case_panel(a_case()), tmp_path / name) for name in ("first", "second"))
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_images_are_not_written_to():
    case = a_case()
    before = case.image.copy(), case.map.copy(), case.mask.copy()
    case_panel(case)
    assert all(np.array_equal(a, b) for a, b in zip((case.image, case.map, case.mask), before, strict=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": np.zeros((40, 60), np.uint8)}, r"\(H, W, 3\) uint8"),
        ({"image": np.zeros((40, 60, 3))}, r"\(H, W, 3\) uint8"),
        ({"image": [[1]]}, "numpy array, but is a list"),
        ({"map": np.zeros((10, 15))}, "Resize it"),
        ({"map": np.full((40, 60), 37.0)}, "reaches 37"),
        ({"mask": np.zeros((60, 40), np.uint8)}, "mask of 2007_000033"),
        ({"mask": np.zeros((40, 60))}, "whole numbers"),
        ({"label": 0}, "1..254"),
        ({"label": 255}, "1..254"),
    ],
)
def test_case_refuses_in_one_sentence(changes, said):
    with pytest.raises(ViceError, match=said):
        a_case(**changes)


@pytest.mark.parametrize(("cases", "columns"), [([], 1), ([1], 0)])
def test_sheet_refuses_nothing(cases, columns):
    with pytest.raises(ViceError, match="at least one case"):
        case_sheet([a_case() for _ in cases], columns=columns)

"""The diagrams show what they are given: bars on their bins, values in the boxes, gaps where nothing is known."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from torchvice.errors import ViceError
from torchvice.metrics import reliability
from torchvice.metrics.binning import equal_count_means
from torchvice.report import reliability_diagram, save_figure, threshold_curve, vice_diagram
from torchvice.report.style import paper_style


def skewed(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    loss = generator.lognormal(-3, 1.2, n)
    return loss, np.clip(0.7 - 0.3 * loss + 0.1 * generator.normal(size=n), 0, 1)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def bars_of(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    (stairs,) = (patch for patch in figure.axes[0].patches if hasattr(patch, "get_data"))
    return stairs.get_data().values, stairs.get_data().edges


def line_of(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[1].lines[0].get_ydata())


@paper_style()
def nothing_clipped(figure: Figure) -> bool:
    figure.draw_without_rendering()
    seen = [text for axes in figure.axes for text in [axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels()]]
    width, height = figure.bbox.size
    boxes = [text.get_window_extent() for text in seen + figure.texts if text.get_text() and text.get_visible()]
    return all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)


@pytest.mark.parametrize(("n", "bins"), [(1449, 289), (2000, 300), (48, 9), (7, 1), (1, 1)])
def test_vice_bars_and_line_are_the_equal_count_means(n, bins):
    loss, ji = skewed(n)
    figure = vice_diagram(loss, ji, 0.6218)
    heights, edges = bars_of(figure)
    mean_loss, mean_ji = equal_count_means(loss, ji, bins)
    np.testing.assert_array_equal(heights, mean_loss)
    np.testing.assert_array_equal(line_of(figure), mean_ji)
    # A bin is as wide as its share of the images: the first N mod bins hold one more.
    np.testing.assert_allclose(np.diff(edges) * n / 100, [len(p) for p in np.array_split(np.arange(n), bins)])
    assert edges[-1] == pytest.approx(100)
    assert nothing_clipped(figure)


def test_vice_diagram_says_value_units_and_count():
    figure = vice_diagram(*skewed(100), 0.62181, title="a network", subtitle="paper")
    assert "VICE = 0.622" in words(figure)
    assert "a network" in words(figure)
    below, above = figure.axes
    assert (below.get_ylabel(), above.get_ylabel()) == ("loss, nats", "JI score")
    assert below.get_xlabel() == "images by increasing loss, % (n = 100)"


@pytest.mark.parametrize("vice", [None, float("nan")])
def test_unknown_vice_is_the_word_undefined(vice):
    assert "VICE undefined" in words(vice_diagram(*skewed(10), vice))


def test_nan_leaves_a_gap_and_is_counted_and_a_lone_bin_keeps_a_marker():
    loss, ji = np.arange(25.0), np.full(25, 0.5)
    ji[[3, 12, 13]] = np.nan  # in bins 0 and 2 of 5: bin 1 stands alone
    loss[24] = np.nan
    figure = vice_diagram(np.append(loss, 24.0), np.append(ji, 0.5), None)
    np.testing.assert_array_equal(np.isnan(line_of(figure)), [True, False, True, False, False])
    assert 1 in figure.axes[1].lines[0].get_markevery()
    label = figure.axes[0].get_xlabel().replace("\n", " ")
    assert label == "images by increasing loss, % (n = 25; JI undefined: 3; no loss: 1)"
    assert nothing_clipped(figure)


def test_a_lone_bin_among_hundreds_keeps_a_marker_and_the_others_have_none():
    loss, ji = np.arange(1500.0), np.full(1500, 0.5)
    ji[[0, 10]] = np.nan  # bins 0 and 2 of 300
    assert vice_diagram(loss, ji, None).axes[1].lines[0].get_markevery() == [1]


def test_few_bins_have_a_marker_each():
    assert vice_diagram(*skewed(50), None).axes[1].lines[0].get_markevery() == list(range(10))


def test_dollars_are_dollars():
    figure = vice_diagram(*skewed(10), None, title="from $5 to $6")
    assert not any(text.get_parse_math() for text in figure.texts)


def test_no_ji_at_all_still_shows_the_losses():
    figure = vice_diagram(np.arange(20.0), np.full(20, np.nan), None)
    assert np.isnan(line_of(figure)).all()
    assert np.isfinite(bars_of(figure)[0]).all()
    figure.draw_without_rendering()


@pytest.mark.parametrize("scale", [0.0, 1e-7, 3e-3, 1e6])
def test_losses_of_any_size_are_not_clipped(scale):
    loss, ji = skewed(200)
    assert nothing_clipped(vice_diagram(scale * loss, ji, 0.1))


@pytest.mark.parametrize(
    ("loss", "ji", "vice", "said"),
    [
        ([], [], None, "at least one image"),
        ([np.nan], [0.5], None, "at least one image"),
        ([1.0, 2.0], [0.5], None, "one length"),
        ([np.inf, 1.0], [0.5, 0.5], None, "finite"),
        ([1.0, 2.0], [50.0, 40.0], None, r"in \[0, 1\]"),
        ([1.0, 2.0], [0.5, 0.4], 62.2, "`vice`"),
    ],
)
def test_vice_diagram_refuses_in_one_sentence(loss, ji, vice, said):
    with pytest.raises(ViceError, match=said):
        vice_diagram(loss, ji, vice)


def test_vice_diagram_refuses_no_bins():
    with pytest.raises(ViceError, match="`bins`"):
        vice_diagram(*skewed(10), 0.1, bins=0)


def spread(n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    sure = generator.uniform(0.31, 1, n)
    return sure, np.clip(sure + 0.2 * generator.normal(size=n), 0, 1)


@pytest.mark.parametrize("bins", [1, 10, 20])
def test_reliability_bars_stand_on_their_bins(bins):
    numbers = reliability(*spread(300), bins=bins)
    figure = reliability_diagram(numbers, accuracy=0.8, ece=numbers.ece)
    counts, accuracies = figure.axes
    filled = np.flatnonzero(numbers.count)
    bars, gaps = accuracies.containers
    assert len(counts.containers[0]) == len(bars) == len(gaps) == len(filled)
    for container in (counts.containers[0], bars, gaps):
        np.testing.assert_allclose([bar.get_x() for bar in container], numbers.edges[filled])
        np.testing.assert_allclose([bar.get_x() + bar.get_width() for bar in container], numbers.edges[filled + 1])
    np.testing.assert_array_equal([bar.get_height() for bar in counts.containers[0]], numbers.count[filled])
    np.testing.assert_allclose([bar.get_height() for bar in bars], numbers.accuracy[filled])
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in gaps], numbers.confidence[filled])
    np.testing.assert_allclose([bar.get_y() for bar in gaps], numbers.accuracy[filled])
    assert counts.get_xlim() == accuracies.get_xlim() == (0, 1)
    assert nothing_clipped(figure)


def test_reliability_box_labels_and_count():
    numbers = reliability([0.0, 0.9, 0.8], [1.0, 1.0, 0.5])  # `paper` puts a confidence of 0 in no bin
    figure = reliability_diagram(
        numbers, accuracy=0.8333, ece=0.0749, accuracy_label="precision", ece_label="ECE", title="a title"
    )
    assert "precision = 0.833\nECE = 0.075" in words(figure)
    counts, accuracies = figure.axes
    assert (counts.get_ylabel(), accuracies.get_ylabel()) == ("images", "precision")
    assert accuracies.get_xlabel() == "confidence (n = 3; in no bin: 1)"


def test_reliability_without_images_and_with_an_undefined_bin():
    empty = reliability_diagram(reliability([], []), accuracy=None, ece=float("nan"))
    assert "ML-accuracy undefined\nECE-ML undefined" in words(empty)
    assert [len(c) for axes in empty.axes for c in axes.containers] == [0, 0, 0]
    empty.draw_without_rendering()
    numbers = reliability([0.9, 0.3], [np.nan, 0.5], bins=2)
    figure = reliability_diagram(numbers, accuracy=0.5, ece=None)
    assert [len(c) for axes in figure.axes for c in axes.containers] == [2, 1, 1]


def test_a_hair_above_one_is_rounding():
    assert "ML-accuracy = 1.000" in words(reliability_diagram(reliability([1], [1]), accuracy=1 + 2e-16, ece=0))
    vice_diagram([0.1, 0.2], [1 + 1e-12, 0.5], 1 + 1e-12)


def test_reliability_refuses_percent():
    with pytest.raises(ViceError, match="`ece`"):
        reliability_diagram(reliability([0.9], [1.0]), accuracy=0.5, ece=7.5)


CURVE = (np.arange(60) / 100, 0.4 - (np.arange(60) / 100 - 0.2) ** 2)


def test_one_curve_has_its_best_marked_and_written_but_no_legend():
    figure = threshold_curve({"paper": (*CURVE, 0.2)})
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), CURVE[1])
    assert [float(v[0]) for v in axes.lines[-1].get_data()] == pytest.approx([0.2, 0.4])
    assert "best mean IoU 0.400\nat threshold 0.2" in words(figure)
    assert not figure.legends
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("threshold of the map", "mean IoU")
    assert nothing_clipped(figure)


def test_two_curves_have_a_legend_with_both_best():
    figure = threshold_curve({"paper": (*CURVE, 0.2), "strict": (CURVE[0], CURVE[1] / 2, None)}, title="t " * 40)
    (legend,) = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["paper: best mean IoU 0.400 at threshold 0.2", "strict: best threshold undefined"]


def test_a_best_threshold_between_two_is_marked_on_the_line():
    figure = threshold_curve({"strict": ([0.1, 0.2], [0.3, 0.5], 0.15)})
    assert float(figure.axes[0].lines[-1].get_ydata()[0]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "curve", [([0.3], [0.5], 0.3), ([0.1, 0.2], [np.nan, np.nan], 0.1), ([0.0, 1.0], [0, 0], None)]
)
def test_poor_curves_are_drawn(curve):
    threshold_curve({"paper": curve}).draw_without_rendering()


@pytest.mark.parametrize(
    ("curves", "said"),
    [
        ({}, "1 to 3 curves"),
        ({"paper": ([], [], None)}, "increasing"),
        ({"paper": ([0.2, 0.1], [0.5, 0.5], None)}, "increasing"),
        ({"paper": ([0.1, 0.2], [0.5], None)}, "one length"),
        ({"paper": ([0.1, 0.2], [50, 40], None)}, "Divide percent"),
        ({"paper": ([0.1, 0.2], [0.5, 0.4], 0.3)}, "best threshold of `paper`"),
    ],
)
def test_threshold_curve_refuses_in_one_sentence(curves, said):
    with pytest.raises(ViceError, match=said):
        threshold_curve(curves)


def test_saved_whole_in_both_formats_and_with_the_same_bytes(tmp_path):
    def save(stem):
        return save_figure(vice_diagram(*skewed(60), 0.5, title="naïve, $5 and 100 %"), tmp_path / stem)

    first, second = save("new/folder/vice.v1"), save("again")
    assert [path.name for path in first] == ["vice.v1.png", "vice.v1.pdf"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    pdf = first[1].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert len(list(tmp_path.rglob("*.*"))) == 4  # no part is left behind


def test_png_has_300_dots_an_inch(tmp_path):
    from PIL import Image

    png, _ = save_figure(vice_diagram(*skewed(20), 0.5), tmp_path / "vice")
    with Image.open(png) as image:
        assert image.width == round(3.4 * 300)


def test_neither_file_appears_when_one_cannot_be_written(tmp_path, monkeypatch):
    written = Path.write_bytes

    def fails_on_pdf(path, content):
        if path.suffix == ".pdf":
            raise OSError("disk full")
        return written(path, content)

    monkeypatch.setattr(Path, "write_bytes", fails_on_pdf)
    with pytest.raises(OSError, match="disk full"):
        save_figure(vice_diagram(*skewed(20), 0.5), tmp_path / "vice")
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_user_are_neither_changed_nor_obeyed(tmp_path):
    plain = save_figure(vice_diagram(*skewed(20), 0.5), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        styled = save_figure(vice_diagram(*skewed(20), 0.5), tmp_path / "styled")
        assert dict(matplotlib.rcParams) == before
    assert plain[0].read_bytes() == styled[0].read_bytes()


def test_inputs_are_not_written_to():
    loss, ji = skewed(30)
    before = loss.copy(), ji.copy()
    vice_diagram(loss, ji, 0.5)
    np.testing.assert_array_equal((loss, ji), before)


def test_drawing_imports_neither_torch_nor_pyplot():
    code = (
        "import sys, tempfile, pathlib\n"
        "from torchvice.report.figures import save_figure, vice_diagram\n"
        "assert 'matplotlib' not in sys.modules\n"
        "save_figure(vice_diagram([1, 2, 3], [0.5, 0.4, 0.3], 1.0), pathlib.Path(tempfile.mkdtemp(), 'v'))\n"
        "heavy = {'torch', 'matplotlib.pyplot', 'scipy.stats', 'sklearn', 'torchvice.data', 'torchvice.models'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

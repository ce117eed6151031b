"""Reliability with its bands: dots and lines where the bins are, the error of a calibrated model beside ours."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import predictions
from torchvice.errors import ViceError
from torchvice.metrics import null_band, reliability, sigmoid
from torchvice.metrics.bands import NullBand
from torchvice.metrics.calibration import Reliability
from torchvice.metrics.calibration_errors import event_reliability
from torchvice.report import calibration_diagram, reliability_diagram
from torchvice.report.calibration import reliability_points
from torchvice.report.style import PALETTE, paper_style


def measured(factor: float, n: int = 400) -> tuple[Reliability, NullBand]:
    logits, y = predictions.multilabel(n, 0)
    p = sigmoid(factor * logits)
    return event_reliability(p, y), null_band(p, simulations=200)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


@paper_style()
def extents(figure: Figure) -> list:
    figure.draw_without_rendering()
    seen = list(figure.texts)
    for axes in figure.axes:
        seen += [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
    seen += [text for legend in figure.legends for text in legend.get_texts()]
    return [text.get_window_extent() for text in seen if text.get_text() and text.get_visible()]


def assert_whole_and_apart(figure: Figure) -> None:
    boxes = extents(figure)
    width, height = figure.bbox.size
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            up = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert across < 1 or up < 3  # pixels of 150 an inch: lines of text stand close


def test_dots_are_the_bins_and_bars_their_bands() -> None:
    panels = {"before": measured(2.5), "after": measured(1.0)}
    figure = calibration_diagram(panels, title="a network")
    assert len(figure.axes) == 2
    for axes, (numbers, band) in zip(figure.axes, panels.values(), strict=True):
        filled = numbers.count > 0
        (dots,) = axes.collections
        np.testing.assert_allclose(dots.get_offsets(), np.stack([numbers.confidence, numbers.accuracy], axis=1)[filled])
        (bars,) = axes.containers
        np.testing.assert_allclose([bar.get_y() for bar in bars], band.bin_low[filled])
        np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in bars], band.bin_high[filled])
        inside = (numbers.accuracy >= band.bin_low) & (numbers.accuracy <= band.bin_high)
        hollow = [to_hex(colour) == "#ffffff" for colour in dots.get_facecolors()]
        assert hollow == inside[filled].tolist()
        assert axes.get_xlim() == axes.get_ylim() == (0, 1)
        # The more images in a bin, the larger its dot.
        sizes, counts = dots.get_sizes(), numbers.count[filled]
        assert (np.argsort(sizes, kind="stable") == np.argsort(counts, kind="stable")).all()
    assert not all(hollow)  # at 400 images one bin in twenty may lie outside
    assert_whole_and_apart(figure)


def test_each_panel_says_its_error_and_that_of_a_calibrated_model() -> None:
    numbers, band = measured(2.5)
    said = words(calibration_diagram({"before": (numbers, band), "after, T = 2.5": measured(1.0)}))
    assert "before" in said
    assert "after, T = 2.5" in said
    assert f"ECE = {numbers.ece:.3f} (n = 400)" in said
    assert f"calibrated: {band.low:.3f} to {band.high:.3f}" in said


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("with_band", [False, True])
def test_one_panel_or_two_with_bands_or_without(count: int, with_band: bool) -> None:
    numbers, band = measured(1.5)
    name = "a name that is much too long for a panel of its own width and is cut off " * 2
    figure = calibration_diagram({name + str(i): (numbers, band if with_band else None) for i in range(count)})
    assert_whole_and_apart(figure)
    assert ("calibrated" in words(figure)) is with_band
    (legend,) = figure.legends
    assert len(legend.get_texts()) == (3 if with_band else 1)


def test_poor_diagrams_are_drawn() -> None:
    empty = reliability([], [], protocol="strict"), null_band(np.zeros((0, 2)))
    figure = calibration_diagram({"nothing": empty})
    assert "ECE undefined" in words(figure)
    assert "calibrated" not in words(figure)
    figure.draw_without_rendering()
    reliability_diagram(empty[0], accuracy=None, ece=None, band=empty[1]).draw_without_rendering()
    one = event_reliability([[0.9]], [[1]]), null_band([[0.9]], simulations=5)
    calibration_diagram({"one": one}).draw_without_rendering()


def test_bins_of_equal_mass_have_bands_too() -> None:
    logits, y = predictions.multilabel(300, 1)
    p = sigmoid(logits)
    pair = event_reliability(p, y, equal_mass=True), null_band(p, equal_mass=True, simulations=50)
    assert_whole_and_apart(calibration_diagram({"equal mass": pair}))


def test_in_axes_of_ones_own() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    reliability_points(axes, *measured(2.0))
    assert len(axes.collections) == 1
    figure.draw_without_rendering()


def test_refusals_in_one_sentence() -> None:
    numbers, band = measured(1.0)
    with pytest.raises(ViceError, match="one or two panels, but 0"):
        calibration_diagram({})
    with pytest.raises(ViceError, match="one or two panels, but 3"):
        calibration_diagram(dict.fromkeys("abc", (numbers, band)))
    other = null_band(sigmoid(predictions.multilabel(50, 0)[0]), bins=7, simulations=5)
    for draw in (
        lambda: calibration_diagram({"a": (numbers, other)}),
        lambda: reliability_diagram(numbers, accuracy=0.5, ece=0.1, band=other),
    ):
        with pytest.raises(ViceError, match="20 bins") as error:
            draw()
        assert "null_band" in error.value.way_out


def test_the_reliability_diagram_takes_a_band() -> None:
    numbers, band = measured(2.5)
    figure = reliability_diagram(numbers, accuracy=0.6, ece=numbers.ece, band=band, title="t " * 60)
    below = figure.axes[1]
    lines = below.containers[-1]
    _, caps, (upright,) = lines
    segments = [s for s in upright.get_segments() if len(s) and not np.isnan(s).any()]
    filled = numbers.count > 0
    middles = (numbers.edges[:-1] + numbers.edges[1:]) / 2
    np.testing.assert_allclose([s[0][0] for s in segments], middles[filled])
    np.testing.assert_allclose(
        [[s[0][1], s[1][1]] for s in segments], np.stack([band.bin_low, band.bin_high], 1)[filled]
    )
    assert f"calibrated: {band.low:.3f} to {band.high:.3f}" in words(figure)
    assert to_hex(caps[0].get_markeredgecolor()) == PALETTE["ink"]
    assert "95 % of calibrated models" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert_whole_and_apart(figure)


def test_without_a_band_the_reliability_diagram_is_what_it_was() -> None:
    numbers, _ = measured(2.5)
    figure = reliability_diagram(numbers, accuracy=0.6, ece=numbers.ece)
    assert len(figure.axes[1].containers) == 2
    assert "calibrated" not in words(figure)


def test_settings_of_the_user_are_neither_changed_nor_obeyed() -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        figure = calibration_diagram({"a": measured(1.0)})
        assert dict(matplotlib.rcParams) == before
    assert to_hex(figure.axes[0].get_facecolor()) == "#ffffff"

"""Spearman's correlation in memory and from files, against scipy and against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from torchvice.errors import ViceError
from torchvice.metrics import pair_vice, rank_correlation
from torchvice.metrics.rank_correlation import RankCorrelation
from ways_out import tried

NUMBERS = st.floats(-1e300, 1e300) | st.sampled_from([0.0, -0.0, 1.0, 5e-324, np.nextafter(1, 2)])


def ranked(a: np.ndarray, b: np.ndarray, cuts: list[int] | int = 3, **settings: object) -> float:
    with RankCorrelation(**settings) as ranks:  # type: ignore[arg-type]
        for x, y in zip(np.array_split(a, cuts), np.array_split(b, cuts), strict=True):
            ranks.add(x, y)
        return ranks.correlation()


def columns(kind: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns that are hard to part into ranges of equal size."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    b = a + rng.normal(size=n)
    if kind == "ties":
        return a.round(1), np.where(b < 0.5, 0, b)
    if kind == "in order":  # the first rows say nothing of the ranges of the later ones
        order = np.argsort(a)
        return a[order], b[order]
    if kind == "two values":
        return (a > 1).astype(float), -(b > 0).astype(float)
    if kind == "far apart":
        return np.exp(100 * a), -np.exp(-100 * b)
    return a, b


KINDS = ["smooth", "ties", "in order", "two values", "far apart"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("in_memory", "chunk"), [(1, 1 << 20), (7, 50), (100, 1 << 20), (100, 50), (10_000, 50)])
def test_the_number_of_scipy(monkeypatch: pytest.MonkeyPatch, kind: str, in_memory: int, chunk: int) -> None:
    monkeypatch.setattr(rank_correlation, "CHUNK", chunk)  # also files of several chunks, and ranges parted again
    a, b = columns(kind, 300 if in_memory == 1 else 600, in_memory)
    assert ranked(a, b, in_memory=in_memory) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-13)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=40), st.integers(1, 45))
def test_exact_and_the_same_bits_in_any_order(rows: list[tuple[float, float]], in_memory: int) -> None:
    a, b = np.array(rows).T
    if a.min() == a.max() or b.min() == b.max():
        return
    p, q = ([Fraction(float(rank)) - Fraction(len(a) + 1, 2) for rank in stats.rankdata(column)] for column in (a, b))
    product = sum(x * y for x, y in zip(p, q, strict=True))
    square = product**2 / (sum(x * x for x in p) * sum(x * x for x in q))
    found = ranked(a, b, in_memory=in_memory)
    assert found**2 == pytest.approx(float(square), abs=1e-15)
    assert np.sign(found) == np.sign(float(product))
    assert found == ranked(a[::-1], b[::-1], 5) == ranked(b, a, 1, in_memory=2)
    assert found == pytest.approx(pair_vice(a, b).value, abs=1e-12)


def test_ranges_of_far_more_rows_than_memory_holds() -> None:
    a, b = columns("ties", 60_000, 0)
    assert ranked(a, b, 7, in_memory=50) == ranked(a, b)


def test_rows_with_nan_are_left_out_and_counted() -> None:
    a, b = columns("smooth", 30, 1)
    a[3], b[3], b[20] = np.nan, np.nan, np.nan
    with RankCorrelation(in_memory=4) as ranks:
        ranks.add(a, b)
        ranks.add([np.nan], [1.0])
        assert (ranks.n, ranks.undefined) == (28, 3)
        assert ranks.correlation() == pytest.approx(stats.spearmanr(a, b, nan_policy="omit").statistic, abs=1e-14)


def test_the_files_go(tmp_path: Path) -> None:
    a, b = columns("smooth", 1000, 2)
    with RankCorrelation(temporary=tmp_path, in_memory=10) as ranks:
        ranks.add(a, b)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) == 16 * len(a)
        assert ranks.correlation() == ranks.correlation()
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # taken while they were read
    assert not list(tmp_path.iterdir())
    with pytest.raises(ViceError, match="infinity"):
        ranked(a, np.append(b[:-1], np.inf), temporary=tmp_path, in_memory=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("in_memory", [1, 100])
def test_what_has_no_correlation(in_memory: int) -> None:
    with pytest.raises(ViceError, match="at least three rows, but 2"):
        ranked(np.arange(2.0), np.arange(2.0), in_memory=in_memory)
    with pytest.raises(ViceError, match="`second` must vary over the rows, but is 4 everywhere"):
        ranked(np.arange(5.0), np.full(5, 4.0), in_memory=in_memory)
    with pytest.raises(ViceError, match="hold infinity"):
        ranked(np.arange(5.0), np.array([0, 1, 2, 3, np.inf]), in_memory=in_memory)
    with pytest.raises(ViceError, match="one length"):
        RankCorrelation(in_memory=in_memory).add([1.0], [1.0, 2.0])
    with pytest.raises(ViceError, match="at least 1 row, but is 0"):
        RankCorrelation(in_memory=0)


def test_rows_after_the_correlation_are_refused() -> None:
    with RankCorrelation() as ranks:
        ranks.add([1.0, 2.0, 4.0], [1.0, 3.0, 2.0])
        assert ranks.correlation() == 0.5
        with pytest.raises(ViceError, match="but these come after it"):
            ranks.add([1.0], [1.0])


def test_more_rows_than_an_exact_sum_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_correlation, "LIMIT", 10)
    with pytest.raises(ViceError, match="takes at most 10 rows, but has 11"):
        ranked(np.arange(11.0), np.arange(11.0))


def test_a_small_disk_is_refused_before_the_work(tmp_path: Path) -> None:
    a, b = columns("smooth", 50, 3)
    with pytest.raises(ViceError, match=r"need 1\.6e\+07 GB in .*, but [\d.e+]+ GB are free") as caught:
        ranked(a, b, rows=10**15, temporary=tmp_path, in_memory=10)
    assert "temporary=FOLDER" in caught.value.way_out
    assert not list(tmp_path.iterdir())
    assert ranked(a, b, rows=10**15) == ranked(a, b)  # in memory nothing is needed


def test_a_disk_that_is_full_while_it_is_written(tmp_path: Path) -> None:
    a, b = columns("two values", 60, 4)
    larger = tmp_path / "larger"
    larger.mkdir()

    def on_full_disk() -> None:
        with RankCorrelation(temporary=tmp_path, in_memory=10) as ranks:
            ranks.add(a, b)
            for file in tmp_path.glob("torchvice-ranks-*/0/*"):
                file.unlink()
                file.symlink_to("/dev/full")
            ranks.add(a, b)
            ranks.correlation()

    found = tried(on_full_disk, "temporary=FOLDER", lambda: ranked(a, b, temporary=larger, in_memory=10))
    assert found == ranked(a, b)
    with pytest.raises(ViceError, match=f"need 1.92e-06 GB in {tmp_path}, but the disk is full"):
        on_full_disk()
    assert [path.name for path in tmp_path.iterdir()] == ["larger"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"nowhere.* cannot be used: No such file"):
        ranked(np.arange(5.0), np.arange(5.0), temporary=tmp_path / "nowhere", in_memory=1)

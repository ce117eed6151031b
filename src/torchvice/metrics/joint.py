"""The rank correlation within classes given size, number of labels and extent of the map, all at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from torchvice.errors import as_array, same_length
from torchvice.metrics.partial import EXPLAINED, cubic_splines
from torchvice.metrics.ranks import WeightedRanks, midranks
from torchvice.metrics.weighted import WeightedStatistic, correlation, correlation_change, finite_column

__all__ = ["JointSpearman", "joint_design"]

BLOCK = 2**21  # floats of products of terms, or of signs, that are built at once
PAIRS_PER_TERM = 6  # pairs, less one for each class, that every term of the joint design needs
KEPT = 2**24  # floats of products of terms that are kept
FEWEST = 150  # such pairs below which the joint correlation is undefined
RIDGE = 1e-12  # of an orthonormal design; terms that a replicate cannot tell apart need it


class JointSpearman(WeightedStatistic):
    """Spearman correlation within classes given size, number of labels and extent of the map, all at once.

    The ranks of both columns within their class are residualised by least squares; the value is the Pearson correlation
    of the residuals. The design are smooth functions, `joint_design`. It is made once, of all rows; every weighting
    ranks both columns again, centres the design within classes and fits again. NaN with fewer than 150 rows in addition
    to one for each class: too few to account for all this.

    Args:
        a: (P,) first column.
        b: (P,) second column.
        group: (P,) whole numbers, the class of each pair.
        area: (P,) pixels of the object, in any unit; only ranks are used, so that their logarithm gives the same.
        labels: (P,) number of labels in the image.
        extent: (P,) pixels that the map predicts, likewise.
        image: (P,) whole numbers, the image of each row. If given, a weighting has one weight for each image, in the
            order of the numbers, which all its rows share: products of the design are summed over them once.

    Attributes:
        rows: P, or the number of images.
        terms: number of terms of the design.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> group, area, extent = rng.integers(3, size=600), rng.random(600), rng.random(600)
        >>> a, b = (group + extent + area + 0.2 * rng.normal(size=600) for _ in range(2))
        >>> abs(JointSpearman(a, b, group, area, np.ones(600), extent).value) < 0.1
        True
    """

    def __init__(
        self,
        a: ArrayLike,
        b: ArrayLike,
        group: ArrayLike,
        area: ArrayLike,
        labels: ArrayLike,
        extent: ArrayLike,
        image: ArrayLike | None = None,
    ) -> None:
        columns = {"a": a, "b": b, "area": area, "labels": labels, "extent": extent}
        values = [finite_column(name, column) for name, column in columns.items()]
        groups = as_array("group", group, 1, np.int64)
        images = np.arange(len(groups)) if image is None else as_array("image", image, 1, np.int64)
        self._pairs = same_length(**dict(zip(columns, values, strict=True)), group=groups, image=images)
        self._order = np.argsort(groups, kind="stable")
        self._image = np.unique(images, return_inverse=True)[1][self._order]
        self.rows = int(self._image.max(initial=-1)) + 1
        pairs_an_image = max(1, -(-self._pairs // max(self.rows, 1)))
        self.width, self.passes = 24 * pairs_an_image, 2 * pairs_an_image
        first, second, *given = (column[self._order] for column in values)
        groups = groups[self._order]
        self._starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if self._pairs else groups
        self._group = np.cumsum(np.isin(np.arange(self._pairs), self._starts)) - 1
        self.spare = self._pairs - len(self._starts)
        self.terms = 0
        if self.spare >= FEWEST:
            self._a, self._b = WeightedRanks(first, groups), WeightedRanks(second, groups)
            self._design = joint_design(first, second, self._group, *given)
            self.terms = self._design.shape[1]
        self._kept: list[tuple[int, np.ndarray]] = []

    def _values(self, weights: np.ndarray) -> np.ndarray:
        if self.spare < FEWEST:
            return np.full(len(weights), np.nan)
        of_images, weights = weights, np.take(weights, self._image, axis=1)
        fixed, size = self._moments(of_images, weights)
        scale = 1 / np.where(size > 0, size, 1.0)
        per_row = np.take(scale, self._group, axis=1)
        (ranks_a, spread_a), (ranks_b, spread_b) = self._a(weights), self._b(weights)
        ranks_a, ranks_b = ranks_a * per_row, ranks_b * per_row
        mixed = np.stack([(weights * ranks) @ self._design for ranks in (ranks_a, ranks_b)], axis=2)
        own_a, own_b = ((spread * scale * scale).sum(axis=1) / 3 for spread in (spread_a, spread_b))
        products = np.vecdot(weights * ranks_a, ranks_b)
        explained = mixed.transpose(0, 2, 1) @ np.linalg.solve(fixed + RIDGE * np.eye(self.terms), mixed)
        left = [own - part for own, part in ((own_a, explained[:, 0, 0]), (own_b, explained[:, 1, 1]))]
        left = [np.where(rest > EXPLAINED * own, rest, 0.0) for rest, own in zip(left, (own_a, own_b), strict=True)]
        return correlation(products - explained[:, 0, 1], *left)

    def linear(self) -> tuple[float, np.ndarray] | None:
        """The residuals' moments change by their products and by the ranks of both columns, as in `PartialSpearman`."""
        if self.spare < FEWEST:
            return None
        rest, ranks = self._residuals()
        size = np.bincount(self._group)

        def moment(x: int, y: int) -> tuple[float, np.ndarray]:
            change = rest[x] * rest[y]
            for own, other in ((x, rest[y]), (y, rest[x])):
                sums = np.add.reduceat(ranks[own] * other, self._starts)
                change = change - ((self._a, self._b)[own].sums(other) + sums[self._group]) / size[self._group]
            return float(rest[x] @ rest[y]), change

        (c, of_c), (a, of_a), (b, of_b) = moment(0, 1), moment(0, 0), moment(1, 1)
        if min(a / (ranks[0] @ ranks[0]), b / (ranks[1] @ ranks[1])) <= EXPLAINED:
            return None
        found = correlation_change((c, a, b), (of_c, of_a, of_b))
        return found and (found[0], np.bincount(self._image, found[1], minlength=self.rows))

    def _moments(self, of_images: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Moments (b, terms, terms) of the design around its class means, and the weight of each class (b, C)."""
        above = np.triu_indices(self.terms)
        packed = np.zeros((len(weights), len(above[0])))
        for first, products in self._products():
            packed += of_images[:, first : first + len(products)] @ products
        moments = np.zeros((len(weights), self.terms, self.terms))
        moments[:, above[0], above[1]] = packed
        moments[:, above[1], above[0]] = packed
        size = np.add.reduceat(weights, self._starts, axis=1)
        ends = np.append(self._starts[1:], self._pairs)
        sums = np.empty((len(weights), len(ends), self.terms))
        for place, (first, last) in enumerate(zip(self._starts, ends, strict=True)):
            np.matmul(weights[:, first:last], self._design[first:last], out=sums[:, place])
        sums /= np.sqrt(np.where(size > 0, size, 1.0))[:, :, None]
        return moments - sums.transpose(0, 2, 1) @ sums, size

    def _products(self) -> Iterable[tuple[int, np.ndarray]]:
        """Sums over the rows of an image of the products of every two terms: blocks of images with the first of them;
        kept if they are few."""
        if self._kept:
            return self._kept
        above = np.triu_indices(self.terms)
        by_image = np.argsort(self._image, kind="stable")
        starts = np.append(np.searchsorted(self._image[by_image], np.arange(self.rows)), self._pairs)
        step = max(1, BLOCK * self.rows // max(1, self._pairs * len(above[0])))
        blocks = (
            (first, np.add.reduceat(part[:, above[0]] * part[:, above[1]], edges[:-1] - edges[0], axis=0))
            for first in range(0, self.rows, step)
            for edges in [starts[first : first + step + 1]]
            for part in [self._design[by_image[edges[0] : edges[-1]]]]
        )
        if self.rows * len(above[0]) <= KEPT:
            self._kept = list(blocks)
            return self._kept
        return blocks

    def p_value(self, cluster: ArrayLike, flips: int = 1999, seed: int = 0) -> float:
        """Two-sided p-value for no joint correlation, by flipping signs.

        The products of the residuals are summed for each image. Their total is compared with totals in which each
        image's sum has a random sign. The observed total is scaled by sqrt(1 - terms / rows), the rows less one for
        each class: what the fit takes from the sums, but not from their total.

        Args:
            cluster: (P,) whole numbers, the image of each row.
            flips: number of random signs for each image.
            seed: seed of the signs.

        Returns:
            (1 + totals at least as large) / (1 + flips), in (0, 1]; NaN where the value is undefined.

        References:
            Hemerik, Goeman, Finos: Robust testing in generalized linear models by sign flipping score contributions,
            JRSS B 2020.
        """
        images = as_array("cluster", cluster, 1, np.int64)
        same_length(cluster=images, rows=np.zeros(self._pairs))
        if np.isnan(self.value):
            return float("nan")
        first, second = self._residuals()[0]
        sums = np.bincount(np.unique(images[self._order], return_inverse=True)[1], first * second)
        observed = abs(sums.sum()) * np.sqrt(1 - self.terms / self.spare)
        rng, extreme, step = np.random.default_rng(seed), 0, max(1, BLOCK // len(sums))
        for done in range(0, flips, step):
            signs = rng.integers(0, 2, (min(step, flips - done), len(sums)), dtype=np.int8)
            totals = 2.0 * np.einsum("fi,i->f", signs, sums) - sums.sum()
            extreme += int((np.abs(totals) >= observed * (1 - EXPLAINED)).sum())
        return (1 + extreme) / (1 + flips)

    def _residuals(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Residuals of both columns where every row counts once, in the order of the classes, and the ranks."""
        once = np.ones((1, self._pairs))
        size = np.add.reduceat(once, self._starts, axis=1)[0][self._group]
        ranks = [made(once)[0][0] / size for made in (self._a, self._b)]
        return [column - self._design @ (self._design.T @ column) for column in ranks], ranks


def joint_design(
    a: np.ndarray, b: np.ndarray, group: np.ndarray, area: np.ndarray, labels: np.ndarray, extent: np.ndarray
) -> np.ndarray:
    """Orthonormal smooth functions of size, number of labels and extent, each of mean 0 within every class.

    In this order: the ranks of size and extent within the class and the rank of the number of labels, their squares and
    products; the product of each with the class's mean rank of a and of b, since the steepness may differ between easy
    and difficult classes; cubic splines of the number of labels; every product of a cubic in size and one in extent,
    since an IoU depends on both together. Then, since ranks bend what is a sum: square and cube of the fit of a and of
    b by all these, and its product and that of its square with the class's mean rank (Ramsey 1969). With few pairs only
    the first ones are taken: one for six pairs, not counting one pair for each class.

    Args:
        a, b, area, labels, extent: (P,) as in `JointSpearman`.
        group: (P,) the class, 0 to C - 1, rising.

    Returns:
        (P, terms).
    """
    size, wide, count, *means = ((midranks(column) - 0.5) / len(column) for column in (area, extent, labels, a, b))
    members = np.bincount(group)
    most = (len(a) - len(members)) // PAIRS_PER_TERM

    def within(column: np.ndarray) -> np.ndarray:
        return WeightedRanks(column, group)(np.ones((1, len(column))))[0][0] / (2 * members[group])

    def basis(terms: list[np.ndarray]) -> np.ndarray:
        columns = np.concatenate([term.reshape(len(a), -1) for term in terms], axis=1)
        sums = np.add.reduceat(columns, np.cumsum(members) - members, axis=0)
        return _orthonormal(columns - (sums / members[:, None])[group], most)

    straight = np.stack([within(area), within(extent), count - 0.5], axis=1)
    products = (straight[:, :, None] * straight[:, None, :])[:, *np.triu_indices(3)]
    levels = [(np.bincount(group, place) / members)[group][:, None] - 0.5 for place in means]
    surface = cubic_splines(size, 1)[:, :, None] * cubic_splines(wide, 1)[:, None, :]
    terms = [straight, products, *(level * straight for level in levels), cubic_splines(count, 2), surface]
    smooth = basis(terms)
    for column, level in zip((a, b), levels, strict=True):
        fit = (smooth @ (smooth.T @ within(column)))[:, None]
        fit /= max(float(fit.std()), 1e-9)
        terms += [fit**2, fit**3, level * fit, level * fit**2]
    return basis(terms)


def _orthonormal(columns: np.ndarray, most: int) -> np.ndarray:
    """An orthonormal basis (P, k) of the first columns that do not depend on those before them, at most `most`."""
    basis = np.zeros((len(columns), min(most, columns.shape[1])))
    terms = 0
    for column in columns.T:
        if terms == basis.shape[1]:
            break
        rest = column
        for _ in range(2):  # twice: rounding
            rest = rest - basis[:, :terms] @ (basis[:, :terms].T @ rest)
        length = np.linalg.norm(rest)
        if length > 1e-5 * np.sqrt(len(rest)):
            basis[:, terms] = rest / length
            terms += 1
    return np.ascontiguousarray(basis[:, :terms])

"""BellmanOutlierDetector: rows that are unlike those of a table, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skbellman.closeness import Gaussians, Neighbours, StandardColumns
from skbellman.constraints import as_scored
from skbellman.density import BellmanDiffusionDensity
from skbellman.packing import PackableMixin
from skbellman.settings import with_own_settings
from skbellman.state import renewed
from skbellman.tables import TableEncoder, is_missing
from skbellman.tables.parts import rows_of
from skbellman.validation import check_count, validate_table

# Largest number of rows for neighbours, for the Gaussians, and for usual scores.
_NEIGHBOURS, _GAUSSIAN_ROWS, _USUAL = 20_000, 10_000, 512
# Share of usual rows that count as outliers.
_FALSE_ALARMS = 0.02


@with_own_settings
class BellmanOutlierDetector(PackableMixin, OutlierMixin, BaseEstimator):
    """Find rows that differ from those of a table, at several levels of detail.

    No single level of detail finds the anomalies of every table, so each row has several views: its
    log-density under a `BellmanDiffusionDensity`, its log-density under a mixture of Gaussians of
    the standardised columns, and the distances to its nearest rows. Each view is measured in
    quartile ranges from the median of usual rows of the fit. Values below the median count; high
    values in one view hardly compensate low ones in another.

    Rows of the fit may contain anomalies (`fit_predict`), or none (novelty detection: `predict` of
    new rows). A row of the fit is not its own neighbour.

    Parameters
    ----------
    density : BellmanDiffusionDensity, optional
        Unfitted. By default one with few steps (``n_steps=400``), because long training can hurt.
    noise : sequence of float, default=(0.0,)
        Levels of added noise at which the density scores rows, in standard deviations. Each is one
        view.
    n_neighbors : sequence of int, default=(5, 20)
        Numbers of nearest rows. The root mean square distance to each number of rows is one view.
    n_components : int, default=5
        Largest number of components of the mixture of Gaussians. Each after the first needs ten
        rows per column. 0 leaves this view out.
    contamination : "auto" or float, default="auto"
        Share of the rows of the fit that `predict` marks as outliers, up to 0.5. "auto" sets the
        threshold at 2% of 512 usual rows, so about 2% of normal rows are false alarms.
    random_state : int, RandomState instance or None, default=None
        Seeds the fit, and the density unless it has its own random_state.

    Attributes
    ----------
    density_ : BellmanDiffusionDensity
        The density of the table.
    reference_ : DataFrame or ndarray
        At most 512 usual rows of the fit, their gaps filled, that other rows are compared with.
    offset_ : float
        Scores below it are outliers: ``decision_function = score_samples - offset_``.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    sklearn.neighbors.LocalOutlierFactor : Density near a row, relative to that near its neighbours.
    sklearn.ensemble.IsolationForest : Number of random splits that isolate a row.

    Notes
    -----
    The comparison of views is in doc/decisions/outlier-levels.md. The fitted detector stores rows
    of the table.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> quick = BellmanDiffusionDensity(n_steps=5)
    >>> detector = BellmanOutlierDetector(quick, random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.1], [6.0, 0.0]])
    array([ 1, -1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "density": [BellmanDiffusionDensity, None],
        "noise": ["array-like"],
        "n_neighbors": ["array-like"],
        "n_components": [Interval(Integral, 0, None, closed="left")],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        density: BellmanDiffusionDensity | None = None,
        *,
        noise: Sequence[float] = (0.0,),
        n_neighbors: Sequence[int] = (5, 20),
        n_components: int = 5,
        contamination: float | str = "auto",
        random_state: Any = None,
    ) -> None:
        self.density = density
        self.noise = noise
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.contamination = contamination
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> BellmanOutlierDetector:
        """Fit the views to the rows of a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Missing values are allowed.
        y : None
            Ignored.

        Returns
        -------
        self : BellmanOutlierDetector
            The fitted detector.

        Raises
        ------
        ValueError
            As `BellmanDiffusionDensity.fit` does. Also if there is no view, or a number of
            neighbours is not a whole number of at least 1.
        TrainingDivergedError
            If training diverges. The detector is then not fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> quick = BellmanDiffusionDensity(n_steps=5)
        >>> detector = BellmanOutlierDetector(quick, contamination=0.1, random_state=0)
        >>> (detector.fit(X).predict(X) < 0).sum()
        np.int64(10)
        """
        rng = check_random_state(self.random_state)
        density = clone(_default_density() if self.density is None else self.density)
        if density.random_state is None:
            density.set_params(random_state=int(rng.randint(2**31)))
        with renewed(self) as draft:
            X = validate_table(draft, X, reset=True)
            draft._check_views()
            draft.density_ = density.fit(X)
            draft._learn(X, rng)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return how usual each row is. Lower is odder.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table. A row with missing values is compared with usual
            rows with the same gaps. A row without values scores 0.

        Returns
        -------
        score : ndarray of shape (n_samples,)
            The mean over views of z if z < 0, else of log(1 + z) / 10. z is the distance to the
            median of usual rows, in quartile ranges. The score is finite, also for unknown
            categories.

        Raises
        ------
        ValueError
            If columns differ from those of `fit`, or hold infinite values.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> quick = BellmanDiffusionDensity(n_steps=5)
        >>> near, far = BellmanOutlierDetector(quick, random_state=0).fit(X).score_samples(
        ...     [[0.0, 0.1], [6.0, 0.0]]
        ... )
        >>> near > far
        np.True_
        """
        check_is_fitted(self, "density_")
        X = validate_table(self, X, reset=False)
        scores = np.zeros(len(X))
        for rows, seen in self._patterns(X):
            usual = self._usual if seen.all() else self._views(self.reference_, seen)
            scores[rows] = _combined(self._views(rows_of(X, rows), seen), usual)
        return scores

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the score minus the threshold. Outliers are below 0.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``.

        Raises
        ------
        ValueError
            As `score_samples` does.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> quick = BellmanDiffusionDensity(n_steps=5)
        >>> detector = BellmanOutlierDetector(quick, random_state=0).fit(X)
        >>> detector.decision_function([[0.0, 0.1], [6.0, 0.0]]) > 0
        array([ True, False])
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return 1 for rows like those of the fit, and -1 for outliers.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.

        Returns
        -------
        is_inlier : ndarray of int, shape (n_samples,)
            1 or -1.

        Raises
        ------
        ValueError
            As `score_samples` does.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> quick = BellmanDiffusionDensity(n_steps=5)
        >>> BellmanOutlierDetector(quick, random_state=0).fit(X).predict([[6.0, 0.0]])
        array([-1])
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def explain(self, X: Any) -> Any:
        """Return how surprising each cell is, given the rest of its row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.

        Returns
        -------
        surprise : DataFrame or ndarray of shape (n_samples, n_features)
            In nats above the mean of usual rows of the fit, see `BellmanDiffusionDensity.explain`.
            The largest value of a row marks its oddest cell.

        Raises
        ------
        ValueError
            As `score_samples` does.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(100, 3))
        >>> quick = BellmanDiffusionDensity(n_steps=5)
        >>> detector = BellmanOutlierDetector(quick, random_state=0).fit(X)
        >>> detector.explain([[0.1, -0.2, 9.0]]).argmax()
        np.int64(2)
        """
        check_is_fitted(self, "density_")
        X = validate_table(self, X, reset=False)
        return self.density_.explain(X, reference=self.reference_)

    def gradient(self, X: Any, *, noise: Any = 0.1) -> Any:
        """Return the gradient of the log-density of each row, which points to likelier rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.
        noise : float, mapping or array-like of shape (n_features,), default=0.1
            Standard deviation of added noise.

        Returns
        -------
        gradient : DataFrame or ndarray of shape (n_samples, n_features)
            In nats per unit of each numeric column, see `BellmanDiffusionDensity.gradient`.

        Raises
        ------
        ValueError
            As `score_samples` does.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, BellmanOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(100, 2))
        >>> quick = BellmanDiffusionDensity(n_steps=5)
        >>> detector = BellmanOutlierDetector(quick, random_state=0).fit(X)
        >>> detector.gradient([[6.0, 0.0]])[0, 0] < 0
        np.True_
        """
        check_is_fitted(self, "density_")
        X = validate_table(self, X, reset=False)
        return self.density_.gradient(X, noise=noise)

    def _check_views(self) -> None:
        for k in self.n_neighbors:
            check_count("each of n_neighbors", k)
        if not (len(self.noise) or len(self.n_neighbors) or self.n_components):
            raise ValueError("There is no view: set noise, n_neighbors or n_components.")

    def _learn(self, X: Any, rng: np.random.RandomState) -> None:
        """Set the rows for comparison, and the threshold."""
        order, seed = rng.permutation(len(X)), int(rng.randint(2**31))
        near = rows_of(X, order[:_NEIGHBOURS])
        if not all(seen.all() for _, seen in self._patterns(near)):
            near = as_scored(self.density_).sample(given=near, random_state=seed)
        self._columns = StandardColumns(self.density_.encoder_, near)
        points = self._columns.points(near)
        self._neighbours = Neighbours(points)
        self._gaussians = None
        if self.n_components:
            self._gaussians = Gaussians(points[:_GAUSSIAN_ROWS], self.n_components, seed)
        self.reference_ = rows_of(near, np.arange(min(len(near), _USUAL)))
        self._usual = self._views(self.reference_, np.ones(self.n_features_in_, dtype=bool))
        self.offset_ = self._threshold(X)

    def _threshold(self, X: Any) -> float:
        """Return the score below which rows are outliers."""
        if self.contamination == "auto":
            return float(np.percentile(_combined(self._usual, self._usual), 100 * _FALSE_ALARMS))
        return float(np.percentile(self.score_samples(X), 100 * float(self.contamination)))

    def _patterns(self, X: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the numbers of rows with the same gaps, and their observed columns."""
        seen = ~np.column_stack([is_missing(v) for v in self.density_.encoder_.read(X)])
        patterns, of_rows = np.unique(seen, axis=0, return_inverse=True)
        for k, pattern in enumerate(patterns):
            yield np.flatnonzero(of_rows.ravel() == k), pattern

    def _views(self, X: Any, seen: np.ndarray) -> np.ndarray:
        """Return the views of rows, (n_views, n), by their observed columns."""
        if not seen.any():
            return np.zeros((1, len(X)))
        names = [
            name for name, held in zip(self.density_.encoder_.names, seen, strict=True) if held
        ]
        columns = None if seen.all() else names
        views = [
            self.density_.score_samples(X, columns=columns, noise=level, approximate=True)
            for level in self.noise
        ]
        points, held = self._columns.points(X), seen[self._columns.column_of]
        if self._gaussians is not None:
            views.append(self._gaussians.log_density(points, held))
        if len(self.n_neighbors):
            distances = self._neighbours.distances(points, self.n_neighbors, held)
            views += [-distance for distance in distances]
        return np.stack(views)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: missing values are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _default_density() -> BellmanDiffusionDensity:
    """Return a density with few steps, because long training can hurt, that serves scores alone."""
    return BellmanDiffusionDensity(n_steps=400, encoder=TableEncoder(equal_columns=False))


def _combined(views: np.ndarray, usual: np.ndarray, farthest: float = 1e12) -> np.ndarray:
    """Return the mean over views, (n_views, n), in quartile ranges above the median of usual rows.

    Values above it count little.
    """
    lower, median, upper = np.percentile(usual, [25, 50, 75], axis=1)[..., None]
    spread = np.where(upper > lower, upper - lower, usual.std(1, keepdims=True))
    with np.errstate(over="ignore"):
        z = (views - median) / np.where(spread > 0, spread, 1.0)
    z = z.clip(-farthest, farthest)
    return np.where(z < 0, z, np.log1p(z.clip(min=0)) / 10).mean(0)

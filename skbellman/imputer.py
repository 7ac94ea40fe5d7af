"""BellmanImputer: missing values filled from the density of the table."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skbellman.density import BellmanDiffusionDensity
from skbellman.notices import warn
from skbellman.packing import PackableMixin
from skbellman.settings import with_own_settings
from skbellman.state import renewed
from skbellman.tables import Cells, RepeatedRows, is_missing
from skbellman.validation import check_count, validate_table


@with_own_settings
class BellmanImputer(PackableMixin, TransformerMixin, BaseEstimator):
    """Fill missing values with samples of their conditional distribution, or with its centre.

    A density is fitted to the table with its missing values. Then the missing values of each row
    are sampled together, given what the row holds. One sample keeps the spread of the columns and
    their dependence; a mean does not. Several completed tables show how uncertain results are.

    Parameters
    ----------
    density : BellmanDiffusionDensity, optional
        Unfitted. The default learns conditionals and marginals only, because gaps are filled from
        them: ``conditional_fraction=1``, with ``dropout=0.1``, ``patience=10`` and ``n_levels=12``.
    statistic : {"draw", "mean", "median"}, default="draw"
        What `transform` fills in: one sample, or the mean or median of ``n_draws`` samples. For
        categories, "mean" and "median" take the most frequent one. A mean has the least squared
        error, but may be a value that no row has.
    n_draws : int, default=20
        Number of samples for "mean" and "median".
    repeated_rows : bool, default=True
        Whether a row can take missing values from a row that agrees with it in all that both hold.
        It does so as often as such rows are the same row in this table, which is counted for each
        column and number of agreeing cells. It never does so in a table whose rows agree by chance
        alone. The density fills the rest. If True, the fitted imputer keeps the table.
    random_state : int, RandomState instance or None, default=None
        Seeds the samples. It also seeds the fit of a density without its own random_state.

    Attributes
    ----------
    density_ : BellmanDiffusionDensity
        Fitted to the table.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    sklearn.impute.IterativeImputer : Regressions of each column on the others, in turn.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skbellman import BellmanDiffusionDensity, BellmanImputer
    >>> df = pd.DataFrame({"x": [0.11, np.nan, 0.27, 0.93], "c": ["a", "b", None, "a"]})
    >>> imputer = BellmanImputer(BellmanDiffusionDensity(n_steps=5), random_state=0)
    >>> filled = imputer.fit_transform(df)
    >>> filled.isna().any(axis=None), filled["x"].iloc[0]
    (np.False_, np.float64(0.11))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "density": [BellmanDiffusionDensity, None],
        "statistic": [StrOptions({"draw", "mean", "median"})],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "repeated_rows": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        density: BellmanDiffusionDensity | None = None,
        *,
        statistic: str = "draw",
        n_draws: int = 20,
        repeated_rows: bool = True,
        random_state: Any = None,
    ) -> None:
        self.density = density
        self.statistic = statistic
        self.n_draws = n_draws
        self.repeated_rows = repeated_rows
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> BellmanImputer:
        """Fit the density of the table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With missing values or without.
        y : None
            Ignored.

        Returns
        -------
        self : BellmanImputer
            The fitted imputer.

        Raises
        ------
        ValueError
            As `BellmanDiffusionDensity.fit` does; for a density with constraints.
        TrainingDivergedError
            If training diverges; then the imputer is not fitted.

        Examples
        --------
        >>> from skbellman import BellmanDiffusionDensity, BellmanImputer
        >>> imputer = BellmanImputer(BellmanDiffusionDensity(n_steps=5), random_state=0)
        >>> imputer.fit([[0.1, 1.2], [0.4, float("nan")], [0.2, 1.1]]).n_features_in_
        2
        """
        density = _of_conditionals() if self.density is None else clone(self.density)
        if density.constraints:
            raise ValueError(
                "BellmanImputer does not keep constraints, but its density has some: leave them "
                "out, or complete rows by density.sample(given=X), which keeps them."
            )
        if density.random_state is None:
            seed = check_random_state(self.random_state).randint(2**31)
            density.set_params(random_state=int(seed))
        interrupted = False
        with renewed(self) as draft:
            X = validate_table(draft, X, reset=True)
            draft.density_, draft._repeats = density.fit(X), None
            try:
                if self.repeated_rows:
                    draft._repeats = _repeats_of(density, X)
            except KeyboardInterrupt:
                interrupted = True
        if interrupted:
            warn(
                "fit was interrupted while rows were compared: the density is kept, and rows that "
                "agree do not fill each other's gaps.",
                RuntimeWarning,
            )
        return self

    def transform(self, X: Any) -> Any:
        """Return the table with its missing values filled.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            A table like the fitted one. Observed values are unchanged, bit for bit. A pandas index
            is kept.

        Raises
        ------
        ValueError
            If columns differ from those of `fit`, or hold infinite values, categories that were not
            in the fitted table, or values that the fitted dtype cannot hold.

        Examples
        --------
        >>> from skbellman import BellmanDiffusionDensity, BellmanImputer
        >>> X = [[0.1, 1.2], [0.4, float("nan")], [0.2, 1.1]]
        >>> imputer = BellmanImputer(BellmanDiffusionDensity(n_steps=5), random_state=0)
        >>> imputer.fit(X).transform(X)[0]
        array([0.1, 1.2])
        """
        check_is_fitted(self, "density_")
        if self.statistic == "draw":
            return self.complete(X, 1)[0]
        cells, draws = self._draws(X, self.n_draws)
        return self._table(X, [_centre(column, self.statistic) for column in draws], cells)

    def complete(self, X: Any, n_tables: int = 5) -> list[Any]:
        """Return several completed tables: multiple imputation.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.
        n_tables : int, default=5
            Number of tables, at least 1.

        Returns
        -------
        tables : list of DataFrame or ndarray
            Each as `transform` returns with statistic="draw".

        Raises
        ------
        ValueError
            As `transform` raises; if n_tables is not an integer of at least 1.

        Examples
        --------
        >>> from skbellman import BellmanDiffusionDensity, BellmanImputer
        >>> X = [[0.1, 1.2], [0.4, float("nan")], [0.2, 1.1]]
        >>> imputer = BellmanImputer(BellmanDiffusionDensity(n_steps=5), random_state=0)
        >>> len(imputer.fit(X).complete(X, 3))
        3
        """
        check_is_fitted(self, "density_")
        cells, draws = self._draws(X, check_count("n_tables", n_tables))
        return [self._table(X, [column[:, k] for column in draws], cells) for k in range(n_tables)]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, which do not change.

        Parameters
        ----------
        input_features : array-like of str, optional
            Checked against the names of the fitted table.

        Returns
        -------
        names : ndarray of str, shape (n_features_in_,)
            Names of the fitted table; x0, x1, ... for an array.

        Raises
        ------
        ValueError
            If input_features differ from the fitted names.

        Examples
        --------
        >>> from skbellman import BellmanDiffusionDensity, BellmanImputer
        >>> imputer = BellmanImputer(BellmanDiffusionDensity(n_steps=5), random_state=0)
        >>> imputer.fit([[0.1, 1.2], [0.4, 0.8]]).get_feature_names_out()
        array(['x0', 'x1'], dtype=object)
        """
        check_is_fitted(self, "density_")
        return np.asarray(_check_feature_names_in(self, input_features))

    def _draws(self, X: Any, n_draws: int) -> tuple[list[Cells], list[np.ndarray]]:
        """Return the cells of each column, and numbers or codes with the gaps filled by samples.

        The shapes are (n_samples,) and (n_samples, n_draws).
        """
        encoder = self.density_.encoder_
        cells = encoder.read_given(validate_table(self, X, reset=False))
        values = [c.numbers() for c in cells]
        encoder.check_known(values)
        codes = encoder.codes(values)
        columns = [np.repeat(c[:, None], n_draws, axis=1) for c in codes]
        gaps = np.any([is_missing(column) for column in values], axis=0)
        if gaps.any():
            seed = int(check_random_state(self.random_state).randint(2**31))
            partial = [column[gaps] for column in values]
            partial = self._copies(partial, [c[gaps] for c in codes], n_draws, seed)
            filled = self.density_._fill(partial, seed)
            for column, drawn in zip(columns, filled, strict=True):
                column[gaps] = drawn.reshape(-1, n_draws)
        return cells, columns

    def _copies(
        self, values: list[np.ndarray], codes: list[np.ndarray], n_draws: int, seed: int
    ) -> list[np.ndarray]:
        """Return n_draws copies of each row, with values from its repeats."""
        if self._repeats is None:
            return [np.repeat(column, n_draws) for column in values]
        return self._repeats.lend(values, codes, n_draws, np.random.default_rng(seed))

    def _table(self, X: Any, columns: list[np.ndarray], cells: list[Cells]) -> Any:
        table = self.density_.encoder_.restore(columns, cells)
        if hasattr(X, "index") and hasattr(table, "index"):  # pandas
            table.index = X.index
        return table

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: missing values are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _of_conditionals() -> BellmanDiffusionDensity:
    """Return a density that spends every training step on conditionals and marginals.

    Each of them has fewer rows than the joint density, and overfits sooner.
    """
    return BellmanDiffusionDensity(conditional_fraction=1.0, dropout=0.1, patience=10, n_levels=12)


def _repeats_of(density: BellmanDiffusionDensity, X: Any) -> RepeatedRows:
    values = density.encoder_.read(X)
    seed = int(check_random_state(density.random_state).randint(2**31))
    return RepeatedRows(values, density.encoder_.codes(values), np.random.default_rng(seed))


def _centre(draws: np.ndarray, statistic: str) -> np.ndarray:
    """Return the centre of each row of samples: for codes of categories, the most frequent one."""
    if draws.dtype.kind == "i":
        return np.array([np.bincount(row).argmax() for row in draws])
    centre = draws.mean(1) if statistic == "mean" else np.median(draws, axis=1)
    equal = (draws == draws[:, :1]).all(1)  # their mean may differ in the last bit
    return np.where(equal, draws[:, 0], centre)

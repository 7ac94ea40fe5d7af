"""The base of densities of tables: fit, scores and samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state, estimator_html_repr
from sklearn.utils.validation import check_is_fitted

from skbellman.batches import Rows
from skbellman.constraints import learned, sample_constrained, warned_of_few
from skbellman.devices import PortableMixin, resolve_device
from skbellman.fields.base import DensityField, Integral, Sampler
from skbellman.fitting import Fit
from skbellman.questions import (
    asked_columns,
    asked_gaps,
    asked_noise,
    counted,
    given_cells,
    with_gaps,
)
from skbellman.reading import read_rows
from skbellman.reporting import reports_of
from skbellman.restrictions import within
from skbellman.schedule import NoiseSchedule
from skbellman.settings import with_own_settings
from skbellman.state import renewed
from skbellman.table_model import TableModel, Values
from skbellman.tables import TableEncoder, is_missing
from skbellman.tables.containers import like_table
from skbellman.tables.measures import TableMeasure
from skbellman.tables.parts import distinct_rows, parts_of, rows_of
from skbellman.training import Plan, Record
from skbellman.validation import check_choice, validate_table
from skbellman.weights import repeats_of

# Rows that are scored together.
_SCORE_CHUNK, _GPU_SCORE_CHUNK = 2**12, 2**15

_Self = TypeVar("_Self", bound="TableDensity")


@with_own_settings
class TableDensity(PortableMixin, CallbackSupportMixin, DensityMixin, BaseEstimator):
    """Base of densities of tables. Fields are fitted in coordinates, and queried with table values.

    A subclass has the parameters, and defines how fields are fitted, scored and sampled.
    """

    _portable: ClassVar[tuple[str, ...]] = ("field_", "schedule_")
    # Highest noise level of a numeric column, in its standard deviations. There every table is
    # close to a Gaussian.
    sigma_min: float = 0.01
    _sigma_max: ClassVar[float] = 20.0
    constraints: Sequence[Any] = ()
    constraints_: Sequence[Any] = ()
    validation_fraction: float
    n_steps: Any
    verbose: int
    random_state: Any

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self: _Self, X: Any, y: Any = None, sample_weight: Any = None) -> _Self:
        """Fit the density to the rows of a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            At least two rows of a pandas or polars frame, or of an array. Missing values (NaN,
            None, pd.NA, masked cells) stay missing: a row trains only on the values it has. Python
            objects are read as numbers, decimals or dates.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            Whole weights are numbers of repeats of the rows. Other weights are relative: each row
            is repeated as often as its weight divided by the mean, rounded at random.

        Returns
        -------
        self : TableDensity
            The fitted estimator.

        Raises
        ------
        ValueError
            For infinite values, a column without values, a single row, constant columns only, mixed
            types in a column, or too many categories. For missing values in a `PaperDensity`. For
            dtypes other than numbers, dates and categories. For negative weights, or fewer than two
            positive ones. The message names the column and the remedy.
        TypeError
            For a polars LazyFrame.
        TrainingDivergedError
            If training diverges. The estimator then has the best earlier state.

        Examples
        --------
        >>> from skbellman import BellmanDiffusionDensity
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0)
        >>> density.fit([[0.1, 1.2], [0.4, 0.8], [0.2, 1.1], [0.9, 0.3]]).n_features_in_
        2
        """
        with renewed(self) as draft:
            fit = self._fit_draft(draft, X, y, sample_weight)
        fit.warn_or_raise()
        return self

    def _fit_draft(
        self,
        draft: TableDensity,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        teacher: DensityField | None = None,
    ) -> Fit:
        """Fit, and set the fitted attributes on a draft of the estimator.

        The teacher is the field that the rows were drawn from, if it is known.
        """
        X = validate_table(draft, X, reset=True)
        random_state = check_random_state(self.random_state)
        rng = np.random.default_rng(random_state.randint(2**31))
        origin = None
        if sample_weight is not None:
            origin = repeats_of(sample_weight, X, rng)
            X = rows_of(X, origin)
        encoder = self._fitted_encoder(X, origin)
        if teacher is None:  # draws of a density may break constraints
            draft.constraints_ = learned(self.constraints, encoder, distinct_rows(X, origin))
        device = resolve_device(self.device)
        rows = read_rows(encoder, X, self.validation_fraction, rng, device, origin)
        rows = replace(rows, teacher=teacher)
        floor = torch.as_tensor(encoder.floors(self.sigma_min)).to(rows.draws)
        schedule = NoiseSchedule(floor, torch.full_like(floor, self._sigma_max))
        seed = int(rng.integers(2**62))
        # The number of rounds is unknown before, unless the steps are given.
        known = None if self.n_steps == "auto" else Plan.n_evaluations * (1 + rows.has_gaps)
        with reports_of(self, known, X, y) as report:
            fit = self._fit_fields(rows, schedule, seed, report)
        draft.field_, draft.schedule_, draft.encoder_ = fit.field, schedule, encoder
        draft.device_, draft.is_categorical_ = device, encoder.is_categorical_
        draft.history_ = _history(fit.record)
        draft.n_iter_, draft.stopped_ = fit.record.best_step, fit.record.ended
        draft.n_samples_seen_ = len(X)
        return replace(fit, complaint=draft._judge(rows, seed))

    @abstractmethod
    def _fitted_encoder(self, X: Any, origin: np.ndarray | None) -> TableEncoder:
        """Return the map from the table to the coordinates that fields are fitted to."""

    @abstractmethod
    def _fit_fields(
        self, rows: Rows, schedule: NoiseSchedule, seed: int, report: Callable[[Record], bool]
    ) -> Fit:
        """Train the fields."""

    def _judge(self, rows: Rows, seed: int) -> str:
        """Return what is wrong with samples of the fit, empty if nothing is known."""
        return ""

    @abstractmethod
    def _integral(self, approximate: bool | str) -> Integral:
        """Return the integral that scores the fields, as `score_samples` is asked for."""

    def _cell_integral(self) -> Integral:
        """Return the integral for cells given the rest of their rows, however odd."""
        return self._integral(approximate="auto")

    @abstractmethod
    def _sampler(self) -> Sampler:
        """Return the sampler of the fields."""

    def _check_learned_conditionals(self) -> None:
        """Refuse marginals and conditionals if they were not learned."""

    def _check_learned_levels(self) -> None:
        """Refuse scores through noise if no other noise level was learned."""

    def score_samples(
        self,
        X: Any,
        *,
        columns: Sequence[Any] | None = None,
        given: Sequence[Any] | None = None,
        noise: Any = 0.0,
        approximate: bool | str = "auto",
    ) -> np.ndarray:
        """Return the log-density of rows: joint, marginal, conditional, or with noise.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table, in its order. Missing values are integrated out:
            the score is the marginal log-density of the rest, and 0 for a row without values. A
            frame needs only the columns in ``columns`` and ``given``.
        columns : sequence of names, or of positions for an array, optional
            Columns to score; the others are integrated out. By default all that are not in
            ``given``.
        given : sequence of names or positions, optional
            Columns to condition on. The score is the conditional log-density given their values in
            X.
        noise : float, mapping or array-like of shape (n_features,), default=0.0
            Standard deviation of normal noise that is added to each row, so that finer details do
            not count. A mapping of names (positions for an array) to numbers, or an array, sets it
            column by column. The unit is the standard deviation of the column after its transform,
            which removes bounds, skewness and tails. Categories, numbers of few values and the
            columns of ``given`` get no noise. On a grid, noisy values are rounded to the grid.
            Repeated values of other numbers get the noise of their column: their probabilities
            shrink, and above a noise of about 1 they no longer sum to 1 with the rest.
        approximate : bool or "auto", default="auto"
            "auto" is exact up to 64 coordinates: a number counts 1, a category of K levels K - 1.
            Beyond, the divergence is Hutchinson's estimate with 8 random sign vectors per node,
            which depend on the row alone. False is exact for any number of coordinates. True is a
            coarser integral, for ranks or a first look. On Abalone it is 6 times as fast, with an
            error of 0.18 nats a row (root mean square; 0.08 to 1.5 on seven tables, most where
            frequent values of columns go together). The mean over all rows is off by 0.03 (0.00 to
            0.4). Its rank correlation with exact scores is at least 0.99. Equal rows have equal
            scores, up to rounding. Densities in closed form
            and those of `PaperDensity` are exact in any case.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Natural logarithm of a density in the units of numeric columns (days for dates and
            times), times a probability for categories. -inf for a category that was not in the
            table. Values beyond a hard bound have low scores, but not -inf: at most 1/4000 of the
            mass lies there.

        Raises
        ------
        ValueError
            If columns differ from those of `fit`, are unknown, or are in both ``columns`` and
            ``given``. For infinite values, or unknown categories in conditions. For noise that is
            negative or infinite, or in a column without noise. For another ``approximate``.

        Examples
        --------
        >>> import pandas as pd
        >>> from skbellman import BellmanDiffusionDensity
        >>> df = pd.DataFrame({"x": [0.11, 0.42, 0.27, 0.93], "c": ["a", "b", "a", "a"]})
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0).fit(df)
        >>> density.score_samples(df.assign(c="z"))
        array([-inf, -inf, -inf, -inf])
        >>> density.score_samples(df[["x"]], columns=["x"]).shape
        (4,)
        >>> joint, marginal = density.score_samples(df), density.score_samples(df, columns=["c"])
        >>> abs(density.score_samples(df, given=["c"]) - (joint - marginal)).max() < 0.1
        np.True_
        >>> abs(density.score_samples(df, approximate=True) - joint).max() < 0.1
        np.True_
        >>> density.score_samples(df, noise=1.0).max() < joint.max()
        np.True_
        """
        check_is_fitted(self, "field_")
        if columns is not None or given is not None:
            self._check_learned_conditionals()
        X, asked, conditions = asked_columns(self, X, columns, given)
        check_choice("approximate", approximate, ("auto", True, False))
        model, integral = self._seen_through(noise, asked), self._integral(approximate)
        scores = []
        for rows, part in parts_of(X, self._score_chunk):
            values = self._read(X, part, asked)
            condition = self._read(X, part, conditions) if conditions else None
            if condition is not None:
                self.encoder_.check_known(condition)
            score = model.log_density(values, integral, condition, conditions)
            if not conditions:  # overflown fields have no density in floats
                score = np.nan_to_num(score, nan=-np.inf, neginf=-np.inf, posinf=np.inf)
            if np.isnan(score).any():
                row = rows.start + int(np.isnan(score).argmax())
                raise ValueError(
                    f"Row {row} of X has zero density in {conditions}; "
                    "its conditional is undefined."
                )
            scores.append(score)
        return np.concatenate(scores)

    def _read(self, X: Any, part: Any, columns: list[Any]) -> list[np.ndarray]:
        """Return the values of some columns of a part of a table. The others are missing."""
        try:
            values = self.encoder_.read(part, columns)
        except ValueError:
            self.encoder_.read(X, columns)  # its message counts the rows of the whole table
            raise
        if any(is_missing(column).any() for column in values):
            self._check_learned_conditionals()
        return values

    def gradient(self, X: Any, *, noise: Any = 0.1) -> Any:
        """Return the gradient of the log-density of each row, which points to likelier rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.
        noise : float, mapping or array-like of shape (n_features,), default=0.1
            Standard deviation of added noise, as in `score_samples`. The error of the gradient
            field grows as the noise falls. At 0 it may be as large as the gradient.

        Returns
        -------
        gradient : DataFrame or ndarray of shape (n_samples, n_features)
            In nats per unit of each numeric column, per day for dates and times. A frame if X is
            one. NaN for missing cells, and for cells with a probability instead of a density:
            categories, repeated values, numbers of few values.

        Raises
        ------
        ValueError
            As `score_samples` does.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbellman import BellmanDiffusionDensity
        >>> X = load_iris().data[:, :2]
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0).fit(X)
        >>> density.gradient([[20.0, 3.0], [-9.0, 3.0]])[:, 0] < 0
        array([ True, False])
        """
        X, model = self._asked_whole(X, noise)
        integral = self._integral(approximate=True)
        parts = [
            model.gradient(self._read(X, part, self.encoder_.names), integral)
            for _, part in parts_of(X, self._score_chunk)
        ]
        return like_table(X, self.encoder_.names, np.concatenate(parts))

    def explain(self, X: Any, *, reference: Any = None, random_state: Any = None) -> Any:
        """Return how surprising each cell is, given the rest of its row.

        The surprise of a cell is -log p(cell given the rest), minus its mean over usual rows. It
        can be compared between columns of any unit and spread.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table.
        reference : DataFrame or array-like, optional
            Usual rows, at least one. By default 200 samples of the density.
        random_state : int, RandomState instance or None, default=None
            Seeds the samples.

        Returns
        -------
        surprise : DataFrame or ndarray of shape (n_samples, n_features)
            In nats. A frame if X is one. The largest value of a row marks its oddest cell. inf for
            a category that was not in the table; NaN for missing cells.

        Raises
        ------
        ValueError
            As `score_samples` does.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0).fit(X)
        >>> density.explain([[0.1, -0.2, 9.0]], random_state=0).argmax()
        np.int64(2)
        """
        X, model = self._asked_whole(X, 0.0)
        self._check_learned_conditionals()
        if reference is None:
            reference = self.sample(200, random_state)
        reference = validate_table(self, reference, reset=False)
        integral = self._cell_integral()
        usual = self._surprises(reference, model, integral)
        found = self._surprises(X, model, integral)
        return like_table(X, self.encoder_.names, found - _finite_means(usual))

    def _surprises(self, X: Any, model: TableModel, integral: Integral) -> np.ndarray:
        """Return -log p(cell given the rest of its row), (n, n_features)."""
        names, size = self.encoder_.names, self._score_chunk
        parts = [
            model.surprises(self._read(X, part, names), integral) for _, part in parts_of(X, size)
        ]
        return np.concatenate(parts)

    def _asked_whole(self, X: Any, noise: Any) -> tuple[Any, TableModel]:
        """Return the validated table, and a model for all its columns."""
        check_is_fitted(self, "field_")
        X = validate_table(self, X, reset=False)
        return X, self._seen_through(noise, self.encoder_.names)

    def _seen_through(self, noise: Any, asked: Sequence[Any]) -> TableModel:
        """Return the model to score with, with noise on the columns to score."""
        levels = asked_noise(self, noise, asked)
        if not levels.any():
            return self._model.precise()
        self._check_learned_levels()
        return self._model.precise().seen_through(levels)

    @property
    def _score_chunk(self) -> int:
        return _SCORE_CHUNK if self.device_.type == "cpu" else _GPU_SCORE_CHUNK

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-density of the rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table, in its order.
        y : None
            Ignored.

        Returns
        -------
        score : float
            In nats a row, in the units of `score_samples`.

        Raises
        ------
        ValueError
            As `score_samples` does.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbellman import BellmanDiffusionDensity
        >>> X = load_iris().data
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0).fit(X[::2])
        >>> density.score(X[1::2]) > density.score(X[1::2] + 3.0)
        True
        """
        return float(self.score_samples(X).mean())

    def sample(
        self,
        n_samples: Any = 1,
        random_state: Any = None,
        *,
        given: Any = None,
        with_missing: Any = False,
        constraints: Sequence[Any] = (),
    ) -> Any:
        """Sample rows, or complete rows given some of their values.

        Parameters
        ----------
        n_samples : int or array-like of int, default=1
            Number of rows, at least 1. With a table of conditions, the number for each of its rows,
            or a number of each row.
        random_state : int, RandomState instance or None, default=None
            Seeds the samples.
        given : mapping, DataFrame or array-like, optional
            Values that the rows must have, bit for bit. A mapping of column names (positions for an
            array) to values, or a table with some of the columns, whose missing values are sampled.
            The other values are sampled from their conditional distribution. Values of another
            dtype are converted to that of the column; only fractions are rounded, to the nearest
            float. In a mapping, a tuple ``(low, high)`` is a closed range of numbers or dates, with
            None for no bound. A list holds alternative values. Rows then follow the density
            restricted to the range or list.
        with_missing : bool or list of names (positions for an array), default=False
            True makes values missing as often, and in the same combinations, as in the fitted
            table, or in its rows that have the given columns. The gaps do not depend on the
            values. Given values stay. Listed columns are missing in every row.
        constraints : sequence of str, callable, KnownCombinations or Unique, default=()
            Constraints of these rows, beside those of the estimator, see `skbellman.constraints`:
            ``"start <= end"``, or a callable from a table to a mask of its rows. Rows that break
            one are sampled again. It warns if fewer than a tenth keep them.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            A table like the fitted one: the same class, columns, order, dtypes and categories, with
            a fresh index. Values of a column on a grid are on the grid. They are not negative if
            none in the table was. A table of m conditions gives m * n_samples rows, those of the
            first condition first.

        Raises
        ------
        ValueError
            If n_samples is not a whole number of at least 1. If ``given`` has an unknown column or
            category, a value that the column cannot hold, or a value with zero density. If hardly
            any row is within the ranges, or keeps the constraints. If ``with_missing`` lists a
            given column, or one whose dtype has no missing values.

        Examples
        --------
        >>> import pandas as pd
        >>> from skbellman import BellmanDiffusionDensity
        >>> df = pd.DataFrame({"n": [1, 2, 2, 3, 5], "c": ["a", "b", "a", "a", "b"]})
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0).fit(df)
        >>> density.sample(100, random_state=0)["n"].dtype
        dtype('int64')
        >>> bool(density.sample(9, given={"n": (2, 4)}, random_state=0)["n"].between(2, 4).all())
        True
        >>> density.sample(3, given={"c": "b"}, random_state=0)["c"].tolist()
        ['b', 'b', 'b']
        """
        check_is_fitted(self, "field_")
        n_samples, given = counted(n_samples, given)
        rng = check_random_state(random_state)
        if constraints != () or self.constraints_:
            settings = {"given": given, "with_missing": with_missing}
            return warned_of_few(sample_constrained(self, n_samples, constraints, rng, **settings))
        if (restricted := within(self, given)) is not None:
            drawn = restricted.sample(n_samples, rng)
            return with_gaps(self, drawn, given, with_missing, rng)
        seed = int(rng.randint(2**31))
        cells = None if given is None else given_cells(self, given)
        values = None if cells is None else [np.repeat(c.numbers(), n_samples) for c in cells]
        kept = None if cells is None else [c.repeat(n_samples) for c in cells]
        if values is None:
            drawn = self._model.draw(n_samples, self._sampler(), seed)
        else:
            drawn = self._fill(values, seed)
        gaps = asked_gaps(self, with_missing, len(drawn[0]), kept, np.random.default_rng(seed))
        return self.encoder_.restore(drawn, kept, gaps, seed)

    def _fill(self, values: Values, seed: int) -> Values:
        """Return numbers or codes of the columns of rows, with sampled values in the gaps."""
        self._check_learned_conditionals()
        return self._model.fill(values, self._sampler(), seed)

    @property
    def measure_(self) -> TableMeasure:
        """The reference measure of log-densities, column by column."""
        return self.encoder_.measure

    @property
    def _model(self) -> TableModel:
        return TableModel(self.encoder_, self.field_, self.schedule_, self.device_)

    def _html_repr(self) -> str:
        """Return scikit-learn's diagram, below a line on the fit."""
        return _summary(self) + estimator_html_repr(self)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: missing values are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _summary(density: TableDensity) -> str:
    """Return a paragraph on a fit, nothing before."""
    if not hasattr(density, "field_"):
        return ""
    scores = dict(
        zip(density.history_["step"], density.history_["validation_log_density"], strict=True)
    )
    text = (
        f"Density of {density.n_features_in_} columns "
        f"({int(density.is_categorical_.sum())} categorical), {density.n_samples_seen_} rows"
    )
    if density.n_iter_ in scores:
        text += f"; held-out log-density {scores[density.n_iter_]:.3f} nats a row"
    return f"<p>{text}</p>"


def _finite_means(values: np.ndarray) -> np.ndarray:
    """Return the means of columns over finite values, 0 for columns without any."""
    held = np.isfinite(values)
    return np.where(held, values, 0.0).sum(0) / held.sum(0).clip(min=1)


def _history(record: Record) -> dict[str, list[float]]:
    return {
        "step": [float(step) for step in record.step],
        "loss": record.loss,
        "validation_loss": [figures["validation_loss"] for figures in record.scores],
        "validation_log_density": [figures["score"] for figures in record.scores],
    }

"""BellmanDiffusionDensity: the density of a table."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import narwhals.stable.v2 as nw
import numpy as np
import torch
from scipy.sparse import issparse
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skbellman.devices import PortableMixin, resolve_device
from skbellman.dynamics import Annealing, draw_given, draw_rows
from skbellman.fields import ClosedFormField, DensityField
from skbellman.fitting import FieldSettings, Fit, Rows, fit_field
from skbellman.likelihood import N_PROBES, FlowIntegral, affordable_probes
from skbellman.paper import Matching, fit_direct
from skbellman.reading import read_rows
from skbellman.schedule import NoiseSchedule
from skbellman.settings import with_own_settings
from skbellman.state import renewed
from skbellman.tables import CategoricalColumn, Cells, TableEncoder, is_missing
from skbellman.tables.containers import container_of
from skbellman.tables.parts import parts_of
from skbellman.tables.references import Measure, measure_of
from skbellman.training import Plan, Record
from skbellman.validation import check_count, validate_table

# Numbers of rows from which width="auto" is 128, 192 and 256.
_WIDER_FROM = (100, 500, 20_000)
# Of n_steps="auto": in the first round, and in all; three rounds of a table of a thousand rows.
_MAX_FIRST_STEPS, _MAX_STEPS = 8000, 12_600
# Of weight_decay="auto", and the rows up to which it is so much.
_WEIGHT_DECAY, _DECAY_ROWS = 0.3, 4000
_SAMPLE_CHUNK = 16384
# Rows that are scored at once.
_SCORE_CHUNK, _GPU_SCORE_CHUNK = 2**12, 2**15
_MAX_PAIRWISE_COLUMNS = 6
# Of a step of the flow, in units of the noise: 99% of Abalone's rows stay below it.
_DOUBT = 0.06
# Places of a row's cell of the grid at which a closed form is evaluated.
_CELL_PLACES = 32


@with_own_settings
class BellmanDiffusionDensity(PortableMixin, CallbackSupportMixin, DensityMixin, BaseEstimator):
    r"""Density of a table, as a gradient field and a scalar field learned from its rows.

    The fields are :math:`g = \nabla p_\sigma` and :math:`s = p_\sigma` at every noise level sigma
    (arXiv 2410.01796, made noise-conditional). `score_samples` integrates the probability
    flow, so it is normalised; `sample` runs annealed Bellman Diffusion Dynamics.

    Numbers are brought to unit scale inside, and the log-Jacobian goes into the score: do
    not put a scaler in front (in a Pipeline its Jacobian is lost, and the log-densities are
    then those of the scaled columns). Strings, booleans and categories are categories.

    Parameters
    ----------
    objective : {"denoising", "pairwise", "sliced"}, default="denoising"
        How the fields are matched. "pairwise" and "sliced" are the paper's own: networks for
        g and s at one level, `score_samples` the logarithm of the network s, which is not
        normalised, and `sample` the paper's dynamics from a Gaussian start. They take
        numbers only. "pairwise" is for up to 6 columns; the minimiser of "sliced" is the
        density in one column alone.
    bandwidth : float or "auto", default="auto"
        Of the kernel of the paper's objectives, in standard deviations of the columns; "auto"
        takes the one under which the rows, each left out in turn, are likeliest.
    slices : {"sphere", "gaussian", "axes"}, default="sphere"
        Law of the directions of the sliced objective.
    n_slices : int, default=16
        Directions of a step of the sliced objective.
    width : int or "auto", default="auto"
        Units of each layer of the gradient network. "auto" takes 64 to 256, growing with
        the number of rows.
    depth : int, default=3
        Residual blocks of each network.
    dropout : float, default=0.0
        Share of hidden units dropped in training.
    n_steps : int or "auto", default="auto"
        Optimiser steps of the gradient network at most; early stopping may end before.
        "auto" takes about 48 sqrt(n) (1 + D / 40), at most 8000, then twice as many again while
        the held-out log-density still rises by 0.1 nat, at most 12,600 in all.
    batch_size : int, default=512
        Rows of a step.
    learning_rate : float, default=1e-3
        Of AdamW, at its height; it falls to 0 along a cosine.
    weight_decay : float or "auto", default="auto"
        Of AdamW. "auto" takes 0.3 up to 4000 rows, and less in proportion to the square of more.
    validation_fraction : float, default=0.1
        Share of the rows that is held out. Their log-density chooses the state that is kept.
    patience : int, default=4
        Stop after so many evaluations, of 10, without a better held-out log-density.
    conditional_fraction : float, default=0.5
        Share of each batch that carries a random mix of observed, moving and unseen columns,
        from which marginals and conditionals are learned.
    sigma_min : float, default=0.01
        Lowest noise level of a numeric column, in its standard deviations: details below it
        are blurred. Categories have a floor of their own.
    sigma_max : float, default=20.0
        Highest noise level, at which every table is a Gaussian.
    n_nodes : int or "auto", default="auto"
        Nodes of the probability-flow integral. "auto" takes 64 for one or two coordinates and
        16 for more, and up to 128 for rows on the boundary between separated modes.
    divergence : {"auto", "exact", "hutchinson"}, default="auto"
        How `score_samples` takes the divergence. "auto" is exact up to 64 coordinates (a
        number counts one, a category of K levels K - 1), above an estimate by 8 random
        signs per node that depend on the row alone.
    n_levels : int, default=80
        Noise levels that `sample` passes through; for the paper's objectives, 25 steps each
        at the one level.
    beta : float, default=0.0
        Strength of the Bellman dynamics at each level when sampling. 0 is the probability
        flow; on Abalone 1 and 2 drew no better rows (see the architecture page).
    n_bellman_steps : int, default=1
        Steps of the Bellman dynamics at each level, if beta > 0.
    categorical_features : "from_dtype", None, or array-like of int, str or bool, \
            default="from_dtype"
        Which columns are categories. "from_dtype" takes strings, booleans and categorical
        dtypes of a frame.
    max_categories : int, default=100
        A column with more categories is an error.
    handle_unknown : {"zero_density", "error"}, default="zero_density"
        What a category, or a value of a constant column, that was not in the table does to
        a score: log-density -inf, or an error that names it.
    dequantize : bool, default=True
        Whether numeric columns on a grid (integers, prices) are recognised. They are fitted
        spread uniformly over a step, or value by value where there are up to 24, and sampled on
        the grid; an integer's score is a log-probability per unit.
    atom_share : float, default=0.05
        Of a numeric column that a value must hold to be an atom, with a probability in place of
        a density (the zeros of a capital gain); it must also be there three times as often as the
        values next to it. 1 for no atoms.
    encoder : TableEncoder, optional
        Fitted, such as the `encoder_` of another density of the same columns. It is used as it
        is, so that log-densities of both are relative to one measure. How columns are read is then
        its own: categorical_features, max_categories, handle_unknown, dequantize and atom_share
        are not looked at.
    device : str, default="auto"
        "cpu", "cuda", ...; "auto" takes a GPU if there is one.
    verbose : int, default=0
        1 prints a line per evaluation.
    random_state : int, RandomState instance or None, default=None
        Seeds fitting. The global random states are left alone.

    Attributes
    ----------
    field_ : Mixture
        The fields, on the encoded columns, numbers first: those of the networks, mixed with
        those of a closed form (Gaussians, in latent classes if there are categories) by the
        weights under which the held-out rows are likeliest.
    schedule_ : NoiseSchedule
        The noise levels of the encoded columns.
    encoder_ : TableEncoder
        The map between the table and the encoded columns.
    history_ : dict of list
        "step", "loss", "validation_loss" and "validation_log_density" by evaluation.
    n_iter_ : int
        The step whose state was kept.
    stopped_ : str
        Why training ended.
    scalar_error_ : float
        Mean absolute error, in nats, of the network's log-scalar field against the flow
        integral along the trajectories of held-out rows; nan for the paper's objectives.
    device_ : torch.device
        Where the fields are.
    is_categorical_ : ndarray of bool, shape (n_features_in_,)
        Which columns are categories.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    sklearn.neighbors.KernelDensity : Density by a kernel at each row.
    sklearn.mixture.GaussianMixture : Density as a mixture of Gaussians.

    References
    ----------
    Li, Lai, Schoenlieb, Mitsufuji, Ermon. Bellman Diffusion. arXiv 2410.01796, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbellman import BellmanDiffusionDensity
    >>> X = load_iris(as_frame=True).data
    >>> density = BellmanDiffusionDensity(n_steps=50, random_state=0).fit(X)
    >>> density.score_samples(X).shape
    (150,)
    >>> list(density.sample(3, random_state=0).columns) == list(X.columns)
    True
    """

    _portable: ClassVar[tuple[str, ...]] = ("field_", "schedule_")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "objective": [StrOptions({"denoising", "pairwise", "sliced"})],
        "bandwidth": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "slices": [StrOptions({"sphere", "gaussian", "axes"})],
        "n_slices": [Interval(Integral, 1, None, closed="left")],
        "width": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "n_steps": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "conditional_fraction": [Interval(Real, 0, 1, closed="both")],
        "sigma_min": [Interval(Real, 0, 1, closed="neither")],
        "sigma_max": [Interval(Real, 1, None, closed="left")],
        "n_nodes": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "divergence": [StrOptions({"auto", "exact", "hutchinson"})],
        "n_levels": [Interval(Integral, 1, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "n_bellman_steps": [Interval(Integral, 0, None, closed="left")],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "max_categories": [Interval(Integral, 2, None, closed="left")],
        "handle_unknown": [StrOptions({"zero_density", "error"})],
        "dequantize": ["boolean"],
        "atom_share": [Interval(Real, 0, 1, closed="right")],
        "encoder": [TableEncoder, None],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        objective: str = "denoising",
        bandwidth: float | str = "auto",
        slices: str = "sphere",
        n_slices: int = 16,
        width: int | str = "auto",
        depth: int = 3,
        dropout: float = 0.0,
        n_steps: int | str = "auto",
        batch_size: int = 512,
        learning_rate: float = 1e-3,
        weight_decay: float | str = "auto",
        validation_fraction: float = 0.1,
        patience: int = 4,
        conditional_fraction: float = 0.5,
        sigma_min: float = 0.01,
        sigma_max: float = 20.0,
        n_nodes: int | str = "auto",
        divergence: str = "auto",
        n_levels: int = 80,
        beta: float = 0.0,
        n_bellman_steps: int = 1,
        categorical_features: Any = "from_dtype",
        max_categories: int = 100,
        handle_unknown: str = "zero_density",
        dequantize: bool = True,
        atom_share: float = 0.05,
        encoder: TableEncoder | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.objective = objective
        self.bandwidth = bandwidth
        self.slices = slices
        self.n_slices = n_slices
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.conditional_fraction = conditional_fraction
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.n_nodes = n_nodes
        self.divergence = divergence
        self.n_levels = n_levels
        self.beta = beta
        self.n_bellman_steps = n_bellman_steps
        self.categorical_features = categorical_features
        self.max_categories = max_categories
        self.handle_unknown = handle_unknown
        self.dequantize = dequantize
        self.atom_share = atom_share
        self.encoder = encoder
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> BellmanDiffusionDensity:
        """Fit the density to the rows of a table.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            At least two rows; pandas, polars or an array. Missing values (NaN, None, pd.NA, and
            what a mask hides) stay missing: a row is fitted to by what it holds. Objects are
            read as the numbers, decimals or dates that they are.
        y : None
            Ignored.

        Returns
        -------
        self : BellmanDiffusionDensity
            The fitted estimator.

        Raises
        ------
        ValueError
            For a table that has no density: infinite values, a column without any value, a
            single row, only constant columns, mixed types in a column, too many categories; for
            missing values with one of the paper's objectives; for dtypes that are no number,
            date or category. The message names the column and the remedy.
        TypeError
            For a polars LazyFrame.
        TrainingDivergedError
            If training diverges. The estimator is then fitted with the best state before.

        Examples
        --------
        >>> from skbellman import BellmanDiffusionDensity
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0)
        >>> density.fit([[0.1, 1.2], [0.4, 0.8], [0.2, 1.1], [0.9, 0.3]]).n_features_in_
        2
        """
        with renewed(self) as draft:
            fit = self._fit_draft(draft, X, y)
        fit.warn_or_raise()
        return self

    def _fit_draft(self, draft: BellmanDiffusionDensity, X: Any, y: Any) -> Fit:
        """Fit, and set the fitted attributes of a draft of the estimator."""
        X = validate_table(draft, X, reset=True)
        random_state = check_random_state(self.random_state)
        rng = np.random.default_rng(random_state.randint(2**31))
        encoder = self._encoder_for(X)
        if self.objective != "denoising":
            _check_for_paper(encoder, self.objective)
        device = resolve_device(self.device)
        rows = read_rows(encoder, X, self.validation_fraction, rng, device)
        floor = torch.as_tensor(encoder.floors(self.sigma_min)).to(rows.draws)
        schedule = NoiseSchedule(floor, torch.full_like(floor, self.sigma_max))
        seed = int(rng.integers(2**62))
        # How many rounds there will be is not known before, unless the steps are given.
        n_evaluations = None if self.n_steps == "auto" else Plan.n_evaluations
        callbacks = self._init_callback_context(max_subtasks=n_evaluations)
        callbacks.call_on_fit_task_begin(estimator=self, X=X, y=y)
        try:
            fit = self._fit_fields(rows, schedule, seed)
        finally:
            callbacks.call_on_fit_task_end(estimator=self, X=X, y=y)
        draft.field_, draft.schedule_, draft.encoder_ = fit.field, schedule, encoder
        draft.device_, draft.is_categorical_ = device, encoder.is_categorical_
        draft.scalar_error_ = fit.scalar_error
        draft.history_ = _history(fit.record)
        draft.n_iter_, draft.stopped_ = fit.record.best_step, fit.record.ended
        return fit

    def _encoder_for(self, X: Any) -> TableEncoder:
        """Return the encoder of a table: the one that is given, or one that is fitted to it."""
        if self.encoder is not None:
            return _checked_encoder(self.encoder, X)
        return TableEncoder(
            self.categorical_features,
            self.max_categories,
            self.handle_unknown,
            self.dequantize,
            # The paper's objectives take numbers only.
            self.atom_share if self.objective == "denoising" else 1.0,
        ).fit(X)

    @property
    def measure_(self) -> Measure:
        """What log-densities are relative to, column by column."""
        return measure_of(self.encoder_)

    def score_samples(
        self, X: Any, *, columns: Sequence[Any] | None = None, given: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Return the log-density of each row, of some of its columns, or given some.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            With the columns of the fitted table, in its order. What is missing in a row is
            integrated out: the value is the marginal log-density of the rest, 0 for a row that
            holds nothing. A frame need hold no more than ``columns`` and ``given``.
        columns : sequence of names, or of positions for an array, optional
            Columns whose density is asked, the others integrated out. By default all that
            are not in ``given``.
        given : sequence of names or positions, optional
            Columns that are conditions: the value is the conditional log-density given
            their values in X.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Natural logarithm of a density in the units of the numeric columns (days, for dates and
            times) and a probability in the categories. -inf for a category that was not in the table.
            A value beyond an end of a column, where nothing is drawn, scores little, but not -inf:
            at most 1/4000 of the mass lies there.

        Raises
        ------
        ValueError
            If columns differ from those of `fit`, are unknown, or both asked and given; for infinite
            values; for a category among the conditions that was not in the table.

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
        """  # noqa: E501 - one sentence
        check_is_fitted(self, "field_")
        X, asked, conditions = self._asked(X, columns, given)
        fields = copy.deepcopy(self.field_).double().fields
        scores = []
        size = _SCORE_CHUNK if self.device_.type == "cpu" else _GPU_SCORE_CHUNK
        for rows, part in parts_of(X, size):
            values = self._read(X, part, asked)
            if conditions:
                condition = self._read(X, part, conditions)
                score = self._log_conditional(fields, values, condition, conditions, rows.start)
            else:
                score = self._log_mixed([self._log_density(field, values) for field in fields])
            scores.append(score)
        return np.concatenate(scores)

    def _read(self, X: Any, part: Any, columns: list[Any]) -> list[np.ndarray]:
        """Return the values of some columns of a part of a table, the others missing."""
        try:
            values = self.encoder_.read(part, columns)
        except ValueError:
            self.encoder_.read(X, columns)  # whose message counts the rows of the whole table
            raise
        if any(is_missing(column).any() for column in values):
            self._check_learned_conditionals()
        return values

    def _log_mixed(self, logs: list[np.ndarray]) -> np.ndarray:
        """Return the log-density of the mixture from those of its parts."""
        weights = self.field_.weights.double().cpu().numpy()
        return np.asarray(logsumexp(np.stack(logs, -1), axis=-1, b=weights / weights.sum()))

    def _log_conditional(
        self,
        fields: Sequence[DensityField],
        values: list[np.ndarray],
        condition: list[np.ndarray],
        names: list[Any],
        first: int,
    ) -> np.ndarray:
        """Return the log-density of values given those of the columns of these names.

        The rows are those from the first on.
        """
        self.encoder_.check_known(condition)
        columns = zip(self.encoder_.names, values, condition, strict=True)
        both = [held if name in names else value for name, value, held in columns]
        held_at = self.encoder_.coordinates_of(names)
        marginals = [self._log_density(field, condition) for field in fields]
        joints = [
            self._log_density(field, both)
            if isinstance(field, ClosedFormField)
            else marginal + self._log_density(field, both, held_at, condition)
            for field, marginal in zip(fields, marginals, strict=True)
        ]
        log_condition = self._log_mixed(marginals)
        if np.isneginf(log_condition).any():
            row = first + int(np.isneginf(log_condition).argmax())
            raise ValueError(f"row {row} of X is so far out in {names} that no row is there.")
        return self._log_mixed(joints) - log_condition

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
        n_samples: int = 1,
        random_state: Any = None,
        *,
        given: Any = None,
        with_missing: bool = False,
    ) -> Any:
        """Draw rows, or fill rows given some of their values.

        Parameters
        ----------
        n_samples : int, default=1
            At least 1. With a table of conditions, so many rows for each of its rows.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        given : mapping, DataFrame or array-like, optional
            Values that the rows are to have, which they have exactly, bit for bit: a mapping of
            column names (positions for an array) to values, or a table with some of the columns,
            in which missing values are drawn. The rest is drawn from its conditional distribution.
            Values of another dtype become those of the column; fractions are rounded as a
            float does, and nothing else is changed.
        with_missing : bool, default=False
            Leave values out as often as they were missing in the fitted table, together where they
            were together there, but whatever the values are. Those given stay.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features)
            A table like the fitted one: its class, columns, order, dtypes and categories,
            with a fresh index. Values of columns on a grid are on it, and not negative if
            none in the table was. With a table of m conditions, m * n_samples rows: those of the
            first condition come first.

        Raises
        ------
        ValueError
            If n_samples is no whole number of at least 1; if ``given`` names an unknown column, or
            holds a category that was not in the table, or a value that the column cannot hold, or
            one so far out that nothing can be drawn beside it.

        Examples
        --------
        >>> import pandas as pd
        >>> from skbellman import BellmanDiffusionDensity
        >>> df = pd.DataFrame({"n": [1, 2, 2, 3, 5], "c": ["a", "b", "a", "a", "b"]})
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0).fit(df)
        >>> density.sample(100, random_state=0)["n"].dtype
        dtype('int64')
        >>> density.sample(3, given={"c": "b"}, random_state=0)["c"].tolist()
        ['b', 'b', 'b']
        """
        check_is_fitted(self, "field_")
        n_samples = check_count("n_samples", n_samples)
        seed = int(check_random_state(random_state).randint(2**31))
        cells = None if given is None else self._given_cells(given)
        values = None if cells is None else [np.repeat(c.numbers(), n_samples) for c in cells]
        kept = None if cells is None else [c.repeat(n_samples) for c in cells]
        drawn = self._draw(n_samples, seed) if values is None else self._fill(values, seed)
        gaps = None
        if with_missing:
            gaps = self.encoder_.draw_gaps(len(drawn[0]), kept, np.random.default_rng(seed))
        return self.encoder_.restore(drawn, kept, gaps)

    def _draw(self, n_rows: int, seed: int) -> list[np.ndarray]:
        """Return numbers or codes of the columns of new rows."""
        generator = torch.Generator(self.device_).manual_seed(seed)
        parts = [
            draw_rows(self.field_, n, self.schedule_, self._annealing, generator)
            for n in _chunk_sizes(n_rows)
        ]
        return self.encoder_.decode(torch.cat(parts).double().cpu().numpy())

    def _fill(self, values: list[np.ndarray], seed: int) -> list[np.ndarray]:
        """Return numbers or codes of the columns of rows that were read, the gaps drawn."""
        self._check_learned_conditionals()
        generator = torch.Generator(self.device_).manual_seed(seed)
        matrix, _ = next(self.encoder_.encode_cells(values, 1))
        self.encoder_.check_near(matrix)
        rows = torch.tensor(matrix, dtype=self.schedule_.floor.dtype, device=self.device_)
        parts = [
            draw_given(self.field_, chunk, self.schedule_, self._annealing, generator)
            for chunk in rows.split(_SAMPLE_CHUNK)
        ]
        return self.encoder_.decode(torch.cat(parts).double().cpu().numpy(), values)

    @property
    def _annealing(self) -> Annealing:
        return Annealing(self.n_levels, self.beta, self.n_bellman_steps)

    def _given_cells(self, given: Any) -> list[Cells]:
        """Return the cells of each column that are given, the others missing."""
        encoder = self.encoder_
        if isinstance(given, Mapping) and not issparse(given):  # some sparse matrices are
            self._check_names(list(given), "given")
        elif nw.dependencies.is_into_dataframe(given) and not encoder.goes_by_position(given):
            self._check_names(nw.from_native(given).columns, "given")
        else:
            given = validate_table(self, given, reset=False)
        cells = encoder.read_given(given)
        if not len(cells[0].missing):
            raise ValueError("given holds no row.")
        values = [c.numbers() for c in cells]
        encoder.check_holdable(values)
        encoder.check_known(values)
        return cells

    def _asked(
        self, X: Any, columns: Sequence[Any] | None, given: Sequence[Any] | None
    ) -> tuple[Any, list[Any], list[Any]]:
        """Return the table, and the names of the columns that are asked and that are conditions."""
        if columns is None and given is None:
            X = validate_table(self, X, reset=False)
            return X, self.encoder_.names, []
        self._check_learned_conditionals()
        conditions: Sequence[Any] = [] if given is None else given
        self._check_names(conditions, "given")
        if columns is None:
            columns = [name for name in self.encoder_.names if name not in conditions]
        self._check_names(columns, "columns")
        asked, conditions = list(columns), list(conditions)
        if both := [name for name in asked if name in conditions]:
            raise ValueError(f"{both} are both among columns and among given.")
        if not asked:
            raise ValueError("no column is asked: columns is empty, or given names all of them.")
        if not nw.dependencies.is_into_dataframe(X) or self.encoder_.goes_by_position(X):
            return validate_table(self, X, reset=False), asked, conditions
        if absent := [name for name in [*asked, *conditions] if name not in list(X.columns)]:
            raise ValueError(f"X lacks the columns {absent}, which are asked or given.")
        if not len(X):
            raise ValueError("X holds no row.")
        return X, asked, conditions

    def _check_names(self, names: Sequence[Any], parameter: str) -> None:
        if isinstance(names, str):
            raise ValueError(f"{parameter} is a single name: write {parameter}=[{names!r}].")
        if isinstance(names, Mapping) or nw.dependencies.is_into_dataframe(names):
            raise ValueError(f"{parameter} takes names of columns, whose values X holds.")
        if unknown := [name for name in names if name not in self.encoder_.names]:
            raise ValueError(
                f"{parameter} names {unknown}, which the fitted table does not have: its columns "
                f"are {self.encoder_.names}."
            )

    def _check_learned_conditionals(self) -> None:
        if self.objective != "denoising":
            raise ValueError(
                f"objective={self.objective!r} learns the density of whole rows: for missing "
                'values, marginals and conditionals use objective="denoising".'
            )

    def _log_density(
        self,
        field: DensityField,
        values: list[np.ndarray],
        held: np.ndarray | None = None,
        condition: list[np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return the log-density of rows under a part, in float64, in the table's units.

        That of the columns whose coordinates are not held, given the condition that the others are.
        A row on a grid has the mean density of its cell. A closed form may have a component to a
        cell, with a peak at its centre; the networks are smooth, and few places do.
        """
        schedule = copy.deepcopy(self.schedule_).double()
        mask = None if held is None else torch.tensor(held, device=self.device_)
        log_density = np.full(len(values[0]), -np.inf)
        for matrix, rows, log_measure in self._places(field, values, held):
            x = torch.tensor(matrix, device=self.device_)
            with torch.no_grad():
                found = self._integral(x.shape[1]).log_density(field, x, schedule, held=mask)
            # A row so far out that fields overflow has no density that a float can hold.
            logs = found.nan_to_num(nan=-math.inf, neginf=-math.inf).cpu().numpy()
            np.logaddexp.at(log_density, rows, logs + log_measure)
        if condition is not None:
            log_density -= next(self.encoder_.encode_cells(condition, 1))[1]
        return log_density

    def _places(
        self, field: DensityField, values: list[np.ndarray], held: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield places of the rows' cells, their rows and log-measures, whose densities add up."""
        if not isinstance(field, ClosedFormField):
            yield self.encoder_.encode_nodes(values, held)
            return
        n_places = _CELL_PLACES if self.encoder_.has_grid() else 1
        for matrix, log_measure in self.encoder_.encode_cells(values, n_places):
            yield matrix, np.arange(len(matrix)), log_measure - math.log(n_places)

    def _fit_fields(self, rows: Rows, schedule: NoiseSchedule, seed: int) -> Fit:
        """Train by the objective."""
        how = self._settings(rows), self._plan(rows), seed, self._report
        if self.objective == "denoising":
            return fit_field(rows, schedule, *how)
        eps = None if self.bandwidth == "auto" else float(self.bandwidth) ** 2
        return fit_direct(rows, Matching(self.objective, eps, self.slices, self.n_slices), *how)

    def _settings(self, rows: Rows) -> FieldSettings:
        auto_width = 64 * (1 + int(np.searchsorted(_WIDER_FROM, rows.draws.shape[1], "right")))
        return FieldSettings(
            width=auto_width if self.width == "auto" else int(self.width),
            depth=self.depth,
            dropout=self.dropout,
            batch_size=self.batch_size,
            conditional_fraction=self.conditional_fraction,
        )

    def _plan(self, rows: Rows) -> Plan:
        n_rows, n_columns = rows.draws.shape[1:]
        if self.n_steps == "auto":
            n_steps = min(round(48 * math.sqrt(n_rows) * (1 + n_columns / 40)), _MAX_FIRST_STEPS)
        else:
            n_steps = int(self.n_steps)
        auto_decay = _WEIGHT_DECAY * min(1.0, _DECAY_ROWS / n_rows) ** 2
        return Plan(
            n_steps=n_steps,
            max_steps=_MAX_STEPS if self.n_steps == "auto" else 0,
            learning_rate=self.learning_rate,
            weight_decay=auto_decay if self.weight_decay == "auto" else float(self.weight_decay),
            patience=self.patience,
        )

    def _report(self, record: Record) -> bool:
        """Print an evaluation and pass it to scikit-learn's callbacks."""
        if self.verbose:
            figures = record.scores[-1]
            print(
                f"step {record.step[-1]}: loss {record.loss[-1]:.4f}, held-out loss "
                f"{figures['validation_loss']:.4f}, log-density {figures['score']:.3f}"
            )
        task = self._callback_fit_ctx.subcontext(task_name="evaluation")
        task.call_on_fit_task_begin(estimator=self)
        return bool(task.call_on_fit_task_end(estimator=self))

    def _integral(self, n_columns: int) -> FlowIntegral:
        auto = self.n_nodes == "auto"
        probes = {
            "auto": affordable_probes(n_columns),
            "exact": None,
            "hutchinson": N_PROBES,
        }
        return FlowIntegral(
            n_nodes=(64 if n_columns <= 2 else 16) if auto else int(self.n_nodes),
            n_probes=probes[self.divergence],
            tolerance=_DOUBT if auto else math.inf,
        )

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: missing values are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _chunk_sizes(n_rows: int) -> list[int]:
    return [min(_SAMPLE_CHUNK, n_rows - k) for k in range(0, n_rows, _SAMPLE_CHUNK)]


def _checked_encoder(encoder: TableEncoder, X: Any) -> TableEncoder:
    """Return a given encoder, which has to be fitted, and to the columns and levels of a table."""
    if not hasattr(encoder, "blocks_"):
        raise ValueError("encoder is not fitted: pass the encoder_ of a fitted density.")
    names = container_of(X).names_of(X)
    if names != encoder.names:
        raise ValueError(
            f"The columns of X are {names}, those of the encoder {encoder.names}: fit the encoder "
            "to a table with the columns of X."
        )
    for _, rows in parts_of(X, _SAMPLE_CHUNK):
        try:
            encoder.check_known(encoder.read(rows))
        except ValueError as error:
            raise ValueError(f"{error} Fit the encoder to a table that holds it.") from error
    return encoder


def _check_for_paper(encoder: TableEncoder, objective: str) -> None:
    """Refuse categories and missing values, and warn of more columns than kernels can fill."""
    gaps = [encoder.names[j] for j in np.flatnonzero(encoder.gaps_.any(0))]
    if gaps:
        raise ValueError(
            f"objective={objective!r} takes whole rows only, but columns {gaps} hold missing "
            'values: drop or impute them, or use objective="denoising".'
        )
    n_columns = len(encoder.blocks_)
    categories = [
        name
        for name, column in zip(encoder.names, encoder.columns_, strict=True)
        if isinstance(column, CategoricalColumn) and column.n_dims
    ]
    if categories:
        raise ValueError(
            f"objective={objective!r} takes numbers only, but columns {categories} hold "
            'categories: encode them as numbers, or use objective="denoising".'
        )
    if objective == "pairwise" and n_columns > _MAX_PAIRWISE_COLUMNS:
        warnings.warn(
            f'objective="pairwise" starves in {n_columns} columns: hardly any two rows are within '
            'a kernel of each other (see "From the paper to the library"). Use '
            'objective="denoising".',
            UserWarning,
            stacklevel=7,
        )


def _history(record: Record) -> dict[str, list[float]]:
    return {
        "step": [float(step) for step in record.step],
        "loss": record.loss,
        "validation_loss": [figures["validation_loss"] for figures in record.scores],
        "validation_log_density": [figures["score"] for figures in record.scores],
    }

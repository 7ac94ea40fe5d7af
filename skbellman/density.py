"""BellmanDiffusionDensity: the density of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skbellman.batches import FieldSettings, Rows
from skbellman.constraints import acceptance, as_scored, doubts, own_constraints
from skbellman.fidelity import held_out_report
from skbellman.fields import Mixture
from skbellman.fitting import Fit, fit_field
from skbellman.likelihood import FlowIntegral
from skbellman.optimiser import HIDDEN_RATE
from skbellman.sampling import Annealing
from skbellman.schedule import NoiseSchedule
from skbellman.settings import with_own_settings
from skbellman.state import renewed
from skbellman.table_density import TableDensity
from skbellman.tables import TableEncoder
from skbellman.tables.gaps import Gaps
from skbellman.training import Plan, Record
from skbellman.validation import check_count, validate_table

# Nodes and probes of an approximate score, see doc/decisions/flow-integral.md.
_QUICK_NODES, _MOST_QUICK_PROBES = 8, 4
# Largest n_steps="auto", in the first round and in all rounds.
_MAX_FIRST_STEPS, _MAX_STEPS = 4000, 8000


@with_own_settings
class BellmanDiffusionDensity(TableDensity):
    r"""Density of a table, as a gradient field and a scalar field learned from its rows.

    The fields are :math:`g = \nabla p_\sigma` and :math:`s = p_\sigma` at every noise level sigma
    (arXiv 2410.01796, made noise-conditional). `score_samples` integrates the probability
    flow, so it is normalised; `sample` runs annealed Bellman Diffusion Dynamics.

    Numbers are scaled internally, and the score contains the log-Jacobian. Do not put a scaler in
    front: a Pipeline loses its Jacobian, and the log-densities are those of the scaled columns.
    Strings, booleans and categorical columns are categories.

    Parameters
    ----------
    width : int or "auto", default="auto"
        Units of each layer of the gradient network. "auto" takes 64 to 192, growing with
        the number of rows.
    depth : int, default=3
        Residual blocks of each network.
    dropout : float, default=0.0
        Share of hidden units dropped in training.
    n_steps : int or "auto", default="auto"
        Largest number of optimiser steps of the gradient network. Early stopping may end before.
        "auto" takes about 11 sqrt(n) (1 + D / 40), at most 4000. It continues with twice as many
        while the held-out log-density rises by 0.2 nat, up to 8000 in total.
    batch_size : int, default=512
        Rows of a batch.
    learning_rate : float or "auto", default="auto"
        Peak learning rate of AdamW; it decays by a cosine. Muon, which trains the hidden matrices,
        uses 7 times this rate. "auto" is 0.003 up to 4000 rows, and falls with the square root of
        the number of rows beyond.
    weight_decay : float or "auto", default="auto"
        Weight decay of AdamW and Muon. "auto" is 0.3 up to 4000 rows, and falls with the square of
        the number of rows beyond.
    validation_fraction : float, default=0.1
        Share of rows that are held out. Their log-density selects the state that is kept.
    patience : int, default=4
        Stop after this number of evaluations without a better held-out log-density. There are 10.
    conditional_fraction : float, default=0.25
        Share of each batch with a random mix of observed, noisy and hidden columns. It trains
        marginals and conditionals.
    sigma_min : float, default=0.01
        Lowest noise level of a numeric column, in its standard deviations. Finer details are
        blurred. Categories have their own lowest level.
    n_nodes : int or "auto", default="auto"
        Nodes of the probability-flow integral. "auto" is 64 for one or two coordinates and 16 for
        more. Rows on the boundary between separated modes get up to 128.
    n_levels : int, default=16
        Noise levels of `sample`, each with one pass of the network.
    beta : float, default=0.0
        Strength of the Bellman dynamics in sampling: noise that is removed and added again at each
        level. 0 is the probability flow, 1 the reverse diffusion. Larger values cost no extra
        passes, and improve samples of some tables (doc/decisions/sampling-levels.md).
    categorical_features : "from_dtype", None, or array-like of int, str or bool, \
            default="from_dtype"
        Which columns are categories. "from_dtype" selects strings, booleans and categorical dtypes
        of a frame. Leave it at its default if ``encoder`` is given, which has the same parameter.
    encoder : TableEncoder, optional
        How columns are read. By default ``TableEncoder(categorical_features)``. A fitted encoder is
        not fitted again, so densities of several tables can share one measure.
    constraints : list or tuple of str, callable, KnownCombinations or Unique, default=()
        Constraints that every sample keeps, see `skbellman.constraints`: ``"start <= end"``, or a
        callable from a table to a mask of its rows. `fit` refuses rows that break one. Scores are
        those of the density without constraints, see ``acceptance_``.
    device : str, default="auto"
        "cpu", "cuda", ...; "auto" takes a GPU if there is one.
    verbose : int, default=0
        1 prints the progress, with the time left.
    random_state : int, RandomState instance or None, default=None
        Seeds the fit. Global random states are not changed.

    Attributes
    ----------
    field_ : Mixture
        The fields of the encoded columns, numbers first. They are a mixture of the networks and a
        closed form: Gaussians, in latent classes if there are categories. The mixture weights
        maximise the likelihood of held-out rows.
    schedule_ : NoiseSchedule
        The noise levels of the encoded columns.
    encoder_ : TableEncoder
        The map between the table and the encoded columns.
    measure_ : tuple of ColumnMeasure
        What log-densities are relative to, column by column.
    history_ : dict of list
        "step", "loss", "validation_loss" and "validation_log_density" by evaluation.
    n_iter_ : int
        The step whose state was kept.
    stopped_ : str
        Why training ended.
    fidelity_ : FidelityReport or None
        How well samples can be told from the held-out rows, see `fidelity_report`. At most 1000
        rows are compared. Samples are those without constraints. None if fewer than 100 rows are
        held out.
    constraints_ : list
        The constraints, with the combinations of the fitted table.
    acceptance_ : float
        Share of 1000 samples of the density that keep the constraints, if there are any. A row
        that keeps them has log-density ``score_samples(X) - log(acceptance_)`` among such rows.
    device_ : torch.device
        Device of the fields.
    is_categorical_ : ndarray of bool, shape (n_features_in_,)
        Which columns are categories.
    n_samples_seen_ : int
        Number of rows seen by `fit` and `partial_fit`.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    PaperDensity : The paper's own method, at one noise level.
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
    >>> density = BellmanDiffusionDensity(n_steps=10, random_state=0).fit(X)
    >>> density.score_samples(X).shape
    (150,)
    >>> list(density.sample(3, random_state=0).columns) == list(X.columns)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "width": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "n_steps": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "weight_decay": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "conditional_fraction": [Interval(Real, 0, 1, closed="both")],
        "sigma_min": [Interval(Real, 0, 1, closed="neither")],
        "n_nodes": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "n_levels": [Interval(Integral, 1, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "encoder": [TableEncoder, None],
        "constraints": [list, tuple],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        width: int | str = "auto",
        depth: int = 3,
        dropout: float = 0.0,
        n_steps: int | str = "auto",
        batch_size: int = 512,
        learning_rate: float | str = "auto",
        weight_decay: float | str = "auto",
        validation_fraction: float = 0.1,
        patience: int = 4,
        conditional_fraction: float = 0.25,
        sigma_min: float = 0.01,
        n_nodes: int | str = "auto",
        n_levels: int = 16,
        beta: float = 0.0,
        categorical_features: Any = "from_dtype",
        encoder: TableEncoder | None = None,
        constraints: Sequence[Any] = (),
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
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
        self.n_nodes = n_nodes
        self.n_levels = n_levels
        self.beta = beta
        self.categorical_features = categorical_features
        self.encoder = encoder
        self.constraints = constraints
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> BellmanDiffusionDensity:
        """Add rows: the density becomes a mixture of itself and a fit of the new rows.

        With n earlier rows and m new ones, it is (n p + m q) / (n + m), with q fitted to the new
        rows only. No rows are replayed, and none are forgotten. A score takes as long as the scores
        of all parts; `consolidated` merges them.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            New rows with the same columns, and no new categories. The first call is `fit`.
            Values beyond the bounds of the first rows count as the bound, with a warning.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            As for `fit`.

        Returns
        -------
        self : BellmanDiffusionDensity
            The fitted estimator. ``history_``, ``n_iter_`` and ``stopped_`` belong to the new rows.

        Raises
        ------
        ValueError
            As `fit` does. Also for a new category, or if ``sigma_min`` or ``constraints`` have
            changed.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity
        >>> X = np.random.default_rng(0).normal(size=(90, 2))
        >>> density = BellmanDiffusionDensity(n_steps=5, random_state=0)
        >>> density.partial_fit(X[:60]).partial_fit(X[60:]).n_samples_seen_
        90
        >>> density.field_.weights
        tensor([0.6667, 0.3333])
        """
        if not hasattr(self, "field_"):
            return self.fit(X, y, sample_weight=sample_weight)
        X = validate_table(self, X, reset=False)
        floor = self.encoder_.floors(self.sigma_min)
        if not np.allclose(floor, self.schedule_.floor.cpu().numpy()):
            raise ValueError(
                f"sigma_min={self.sigma_min} differs from that of the first rows. Set it back."
            )
        if len(self.constraints) != len(self.constraints_):
            raise ValueError(
                f"constraints={self.constraints!r} differ from those of the first rows, which may "
                "break them. Set them back, and pass new ones to sample."
            )
        with renewed(self) as draft:
            new = self._like_this().fit(X, sample_weight=sample_weight)
            n_rows = torch.tensor([self.n_samples_seen_, new.n_samples_seen_], dtype=torch.float64)
            parts = [self.field_, new.field_.to(self.device_)]
            draft.field_ = Mixture(parts, n_rows.to(self.schedule_.floor))
            gaps = Gaps.joined([self.encoder_.gaps, new.encoder_.gaps], n_rows.tolist())
            # The new encoder knows the identifiers of all rows.
            draft.encoder_ = new.encoder_.with_gaps(gaps)
            draft.n_samples_seen_ = self.n_samples_seen_ + new.n_samples_seen_
            draft.constraints_ = own_constraints(new, self)
            for name in ("history_", "n_iter_", "stopped_", "fidelity_"):
                setattr(draft, name, getattr(new, name))
            draft._find_acceptance(check_random_state(self.random_state).randint(2**31))
        return self

    def consolidated(
        self, n_samples: int | None = None, random_state: Any = None
    ) -> BellmanDiffusionDensity:
        """Return a density with one network, which learns the fields of this one without data.

        A fit learns from noisy rows. This method learns from the exact fields, at samples with
        noise of every level.

        Parameters
        ----------
        n_samples : int, optional
            Number of samples. By default one for each row seen, at most 100,000.
        random_state : int, RandomState instance or None, default=None
            Seeds the samples. The fit uses the random_state of this density.

        Returns
        -------
        density : BellmanDiffusionDensity
            A density with the same encoder, so both have the same measure.

        Raises
        ------
        ValueError
            If n_samples is not a whole number of at least 2.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity
        >>> X = np.random.default_rng(0).normal(size=(90, 2))
        >>> density = BellmanDiffusionDensity(n_steps=5, width=8, depth=1, random_state=0)
        >>> one = density.partial_fit(X[:60]).partial_fit(X[60:]).consolidated(100, random_state=0)
        >>> one.measure_ == density.measure_
        True
        """
        check_is_fitted(self, "field_")
        if n_samples is None:
            n_samples = min(self.n_samples_seen_, 100_000)
        free = as_scored(self)
        drawn = free.sample(check_count("n_samples", n_samples, 2), random_state)
        one = self._like_this()
        with renewed(one) as draft:
            draft.constraints_ = self.constraints_
            fit = one._fit_draft(draft, drawn, teacher=self.field_)
            draft.encoder_ = draft.encoder_.with_gaps(self.encoder_.gaps)
        fit.warn_or_raise()
        return one

    def _like_this(self) -> BellmanDiffusionDensity:
        """Return an unfitted density of the same parameters, with the fitted encoder."""
        like: BellmanDiffusionDensity = clone(self)
        return like.set_params(encoder=self.encoder_, categorical_features="from_dtype")

    def _fitted_encoder(self, X: Any, origin: np.ndarray | None = None) -> TableEncoder:
        if self.encoder is None:
            return TableEncoder(self.categorical_features).fitted_to(X, origin)
        if self.categorical_features is None or np.ndim(self.categorical_features):
            raise ValueError(
                "Set categorical_features in the encoder, not in the density, if encoder is given."
            )
        return self.encoder.fitted_to(X, origin)

    def _fit_fields(
        self, rows: Rows, schedule: NoiseSchedule, seed: int, report: Callable[[Record], bool]
    ) -> Fit:
        settings, plan = self._settings(rows), self._plan(rows)
        return fit_field(rows, schedule, settings, plan, seed, report)

    def _judge(self, rows: Rows, seed: int) -> str:
        of_constraints = self._find_acceptance(seed)
        self.fidelity_ = held_out_report(self._model, self._sampler(), rows.validation, seed)
        of_samples = "" if self.fidelity_ is None else self.fidelity_.complaint()
        return " ".join(filter(None, [of_constraints, of_samples]))

    def _find_acceptance(self, seed: int) -> str:
        """Set ``acceptance_``, and return why it is low, empty if nothing is known."""
        self.__dict__.pop("acceptance_", None)  # of an earlier fit
        if not self.constraints_:
            return ""
        self.acceptance_ = acceptance(self, seed % 2**32)
        return doubts(self.constraints_, self.encoder_, self.acceptance_)

    def _settings(self, rows: Rows) -> FieldSettings:
        n_rows = rows.draws.shape[1]
        return FieldSettings(
            width=_auto_width(n_rows) if self.width == "auto" else int(self.width),
            depth=self.depth,
            dropout=self.dropout,
            batch_size=self.batch_size,
            conditional_fraction=self.conditional_fraction,
        )

    def _plan(self, rows: Rows) -> Plan:
        n_rows, n_columns = rows.draws.shape[1:]
        if self.n_steps == "auto":
            n_steps = min(round(11 * math.sqrt(n_rows) * (1 + n_columns / 40)), _MAX_FIRST_STEPS)
        else:
            n_steps = int(self.n_steps)
        return Plan(
            n_steps=n_steps,
            max_steps=_MAX_STEPS if self.n_steps == "auto" else 0,
            learning_rate=(
                _auto_rate(n_rows) if self.learning_rate == "auto" else float(self.learning_rate)
            ),
            weight_decay=(
                _auto_decay(n_rows) if self.weight_decay == "auto" else float(self.weight_decay)
            ),
            patience=self.patience,
            hidden_rate=HIDDEN_RATE,
        )

    def _integral(self, approximate: bool | str, doubt: float = 0.06) -> FlowIntegral:
        """Return the integral. With "auto", a large error estimate of a step adds nodes.

        The limit is in units of the noise: 99% of Abalone's rows stay below it, see
        doc/decisions/flow-integral.md.
        """
        if approximate and approximate != "auto":
            n_probes = min(math.ceil(len(self.encoder_.blocks_) / 4), _MOST_QUICK_PROBES)
            return FlowIntegral(_QUICK_NODES, n_probes, multistep=True)
        auto, few = self.n_nodes == "auto", len(self.encoder_.blocks_) <= 2
        return FlowIntegral(
            n_nodes=(64 if few else 16) if auto else int(self.n_nodes),
            n_probes="auto" if approximate else None,
            tolerance=doubt if auto else math.inf,
        )

    def _cell_integral(self, n_nodes: int = 16) -> FlowIntegral:
        """Return an integral with few passes that is also correct far from all rows."""
        return replace(self._integral(approximate=True), n_nodes=n_nodes)

    def _sampler(self) -> Annealing:
        return Annealing(self.n_levels, self.beta)


def _auto_width(n_rows: int, wider_from: tuple[int, ...] = (100, 20_000)) -> int:
    """Return the width: 64, 128 or 192, by the number of rows.

    Measured in doc/decisions/noise-levels-in-training.md.
    """
    return 64 * (1 + int(np.searchsorted(wider_from, n_rows, "right")))


def _auto_rate(n_rows: int, largest: float = 3e-3, up_to: int = 4000) -> float:
    """Return the learning rate. It is constant up to some rows, then falls with their square root.

    Measured in doc/decisions/optimiser.md.
    """
    return largest * min(1.0, up_to / n_rows) ** 0.5


def _auto_decay(n_rows: int, largest: float = 0.3, up_to: int = 4000) -> float:
    """Return the weight decay. It is constant up to some rows, then falls with their square.

    Measured in doc/decisions/weight-decay.md.
    """
    return largest * min(1.0, up_to / n_rows) ** 2

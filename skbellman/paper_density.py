"""PaperDensity: the density of a table by the paper's own method."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from skbellman.batches import FieldSettings, Rows
from skbellman.fitting import Fit
from skbellman.likelihood import FlowIntegral
from skbellman.notices import warn
from skbellman.paper import Matching, fit_direct
from skbellman.sampling import Annealing
from skbellman.schedule import NoiseSchedule
from skbellman.table_density import TableDensity
from skbellman.tables import TableEncoder
from skbellman.training import Plan, Record

_MAX_PAIRWISE_COLUMNS = 6


class PaperDensity(TableDensity):
    r"""Density of a table by networks for g and s at one noise level, matched as in the paper.

    `score_samples` is the logarithm of the network for s, which is not normalised: neither are
    mixtures of it, nor distances from `skbellman.algebra.compare`. `sample` runs
    the paper's dynamics :math:`dx = g\,dt + \sqrt{s}\,dw` from a Gaussian start (arXiv
    2410.01796, section 3). It takes whole rows of numbers, and has no marginals or conditionals.
    `BellmanDiffusionDensity` has none of these limits.

    Parameters
    ----------
    objective : {"pairwise", "sliced"}, default="pairwise"
        How the fields are matched. "pairwise" is for up to 6 columns. The minimiser of "sliced" is
        the density only if there is one column.
    bandwidth : float or "auto", default="auto"
        Bandwidth of the kernel, in standard deviations of the columns. "auto" maximises the
        leave-one-out likelihood of the rows.
    slices : {"sphere", "gaussian", "axes"}, default="sphere"
        Distribution of the directions of the sliced objective.
    n_slices : int, default=16
        Number of directions in a step of the sliced objective.
    width : int, default=128
        Units of each layer of both networks.
    depth : int, default=3
        Residual blocks of each network.
    n_steps : int, default=2000
        Optimiser steps at most; early stopping may end before.
    batch_size : int, default=512
        Rows of a batch.
    learning_rate : float, default=1e-3
        Peak learning rate of AdamW; it decays to 0 by a cosine.
    weight_decay : float, default=0.3
        Weight decay of AdamW.
    validation_fraction : float, default=0.1
        Share of the rows that is held out. The loss on them selects the state that is kept.
    patience : int, default=4
        Stop after this many evaluations (of 10) without a lower held-out loss.
    n_dynamics_steps : int, default=2000
        Steps of the dynamics that `sample` takes.
    dequantize : bool, default=True
        Whether columns on a grid (integers, prices) are spread uniformly over a step for fitting,
        and sampled on the grid.
    device : str, default="auto"
        "cpu", "cuda", ...; "auto" takes a GPU if there is one.
    verbose : int, default=0
        1 prints the progress, with the time left.
    random_state : int, RandomState instance or None, default=None
        Seeds fitting. The global random states are left alone.

    Attributes
    ----------
    field_ : Mixture
        Mixture of one `DirectField`, on the encoded columns.
    encoder_ : TableEncoder
        The map between the table and the encoded columns.
    measure_ : tuple of ColumnMeasure
        What log-densities are relative to, column by column.
    history_ : dict of list
        "step", "loss", "validation_loss" and "validation_log_density", here minus the loss, by
        evaluation.
    n_iter_ : int
        The step whose state was kept.
    stopped_ : str
        Why training ended.
    device_ : torch.device
        Device of the fields.
    n_samples_seen_ : int
        Number of rows of the fit.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    BellmanDiffusionDensity : The same fields at every noise level, with normalised scores.

    References
    ----------
    Li, Lai, Schoenlieb, Mitsufuji, Ermon. Bellman Diffusion. arXiv 2410.01796, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman import PaperDensity
    >>> X = np.random.default_rng(0).normal(size=(200, 1))
    >>> density = PaperDensity(n_steps=20, n_dynamics_steps=100, random_state=0).fit(X)
    >>> density.sample(3, random_state=0).shape
    (3, 1)
    """

    # Ranges are kept to by rejection alone.
    _has_marginals: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "objective": [StrOptions({"pairwise", "sliced"})],
        "bandwidth": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "slices": [StrOptions({"sphere", "gaussian", "axes"})],
        "n_slices": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 0, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "n_dynamics_steps": [Interval(Integral, 1, None, closed="left")],
        "dequantize": ["boolean"],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        objective: str = "pairwise",
        bandwidth: float | str = "auto",
        slices: str = "sphere",
        n_slices: int = 16,
        width: int = 128,
        depth: int = 3,
        n_steps: int = 2000,
        batch_size: int = 512,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.3,
        validation_fraction: float = 0.1,
        patience: int = 4,
        n_dynamics_steps: int = 2000,
        dequantize: bool = True,
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
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_dynamics_steps = n_dynamics_steps
        self.dequantize = dequantize
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def _fitted_encoder(self, X: Any, origin: np.ndarray | None = None) -> TableEncoder:
        encoder = TableEncoder(dequantize=self.dequantize, atom_share=1.0).fit(X)
        _check_whole_numbers(encoder)
        if self.objective == "pairwise" and len(encoder.blocks_) > _MAX_PAIRWISE_COLUMNS:
            warn(
                f'objective="pairwise" is unreliable in {len(encoder.blocks_)} columns: almost no '
                "two rows are within a kernel of each other. Use BellmanDiffusionDensity."
            )
        return encoder

    def _fit_fields(
        self, rows: Rows, schedule: NoiseSchedule, seed: int, report: Callable[[Record], bool]
    ) -> Fit:
        eps = None if self.bandwidth == "auto" else float(self.bandwidth) ** 2
        matching = Matching(self.objective, eps, self.slices, self.n_slices)
        settings = FieldSettings(self.width, self.depth, 0.0, self.batch_size, 0.0)
        plan = Plan(
            n_steps=self.n_steps,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
        )
        return fit_direct(rows, matching, settings, plan, seed, report)

    def _integral(self, approximate: bool | str) -> FlowIntegral:
        return FlowIntegral(n_nodes=1)  # there is no integral at one level

    def _sampler(self) -> Annealing:
        return Annealing(n_levels=1, n_steps_at_one_level=self.n_dynamics_steps)

    def _check_learned_conditionals(self) -> None:
        raise ValueError(
            "PaperDensity learns the density of whole rows: for missing values, marginals and "
            "conditionals use BellmanDiffusionDensity."
        )

    def _check_learned_levels(self) -> None:
        raise ValueError(
            "PaperDensity learns the fields at one level of noise: set noise=0, or use "
            "BellmanDiffusionDensity to see rows through other levels."
        )

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: missing values are refused."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = False
        return tags


def _check_whole_numbers(encoder: TableEncoder) -> None:
    """Refuse categories and missing values."""
    gaps = [encoder.names[j] for j in np.flatnonzero(encoder.gaps_.any(0))]
    if gaps:
        raise ValueError(
            f"PaperDensity takes whole rows only, but columns {gaps} hold missing values (NaN): "
            "drop or impute them, or use BellmanDiffusionDensity."
        )
    named = zip(encoder.names, encoder.columns_, strict=True)
    categories = [name for name, column in named if column.n_dims and not column.holds_numbers]
    if categories:
        raise ValueError(
            f"PaperDensity takes numbers only, but columns {categories} hold categories: encode "
            "them as numbers, or use BellmanDiffusionDensity."
        )

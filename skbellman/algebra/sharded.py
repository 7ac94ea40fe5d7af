"""ShardedDensity: a mixture of densities, each fitted to one shard of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from skbellman.algebra.base import Density
from skbellman.algebra.mixture import MixtureDensity
from skbellman.algebra.parts import is_rows, is_to_be_read, parts_of, placed, read
from skbellman.algebra.rows import take
from skbellman.algebra.workers import call_each
from skbellman.constraints import acceptance, own_constraints, sample_constrained, warned_of_few
from skbellman.density import BellmanDiffusionDensity
from skbellman.packing import PackableMixin
from skbellman.questions import listed_names
from skbellman.settings import with_own_settings
from skbellman.state import renewed
from skbellman.tables.measures import TableMeasure
from skbellman.validation import validate_table

Shard = tuple[Any, Any, int]


@with_own_settings
class ShardedDensity(PackableMixin, Density, DensityMixin, BaseEstimator):
    r"""Density of a table that is fitted shard by shard: :math:`\sum_k (n_k / n) p_k`.

    Each shard of rows is fitted alone and in parallel, where its rows are if they are on several
    machines. Only fitted densities move. All shards have one encoder, so their densities can be
    added. A shard can be added later. It can also be forgotten exactly: the result equals, bit for
    bit, a fit of the other shards with that encoder.

    The encoder keeps the categories and ranges of the rows that it was fitted to. To forget a shard
    completely, give the estimator an encoder that was fitted to other rows.

    Parameters
    ----------
    estimator : estimator of a density, optional
        Unfitted. By default a `BellmanDiffusionDensity`. If it has a parameter ``encoder``, all
        shards get the same one. If it has a ``random_state``, each shard gets its own.
    n_shards : int, default=8
        Number of shards if `fit` divides a table. No shard has fewer than two rows.
    n_jobs : int, optional
        Shards that are fitted and scored in parallel, as joblib counts them. Set the backend (loky,
        threading or dask) by joblib's ``parallel_config(backend=...)``; results are the same. Each
        shard uses one thread.
    random_state : int, RandomState instance or None, default=None
        Seeds the division of the rows and the fits. The seed of a shard depends on this and its
        key alone.

    Attributes
    ----------
    parts_ : list of fitted densities
        One for each shard.
    keys_ : list
        The name of each shard: counted from 0, or the keys of the mapping that was fitted.
    n_rows_ : ndarray of int, shape (n_parts,)
        Rows of each shard.
    weights_ : ndarray of shape (n_parts,)
        The share of each shard in all rows.
    row_keys_ : ndarray of shape (n_samples,)
        The shard of each row, if `fit` divided a table.
    encoder_ : TableEncoder
        The encoder of all parts, if the estimator takes one.
    measure_ : tuple of ColumnMeasure
        What log-densities are relative to, column by column.
    constraints_ : list
        The constraints of the estimator, with the combinations of any shard.
    acceptance_ : float
        Share of 1000 samples without constraints that keep the constraints, if there are any.
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Names of the columns, if the table has any.

    See Also
    --------
    skbellman.algebra.mixture : The mixture of any densities.

    Examples
    --------
    >>> import numpy as np
    >>> from skbellman import BellmanDiffusionDensity, ShardedDensity
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> estimator = BellmanDiffusionDensity(n_steps=5, n_nodes=8)
    >>> density = ShardedDensity(estimator, n_shards=2, random_state=0).fit(X)
    >>> density.add(X[:20] + 1.0).keys_, density.n_rows_
    ([0, 1, 2], array([30, 30, 20]))
    >>> density.forget(1).keys_, density.weights_
    ([0, 2], array([0.6, 0.4]))
    >>> density.sample(5, random_state=0).shape
    (5, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "score_samples", "sample"]), None],
        "n_shards": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_shards: int = 8,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.n_shards = n_shards
        self.n_jobs = n_jobs
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> ShardedDensity:
        """Fit a density to each shard.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features), or iterable of parts
            A table is shuffled and divided. Parts are used as shards. A part is a table, the path
            of a Parquet file, a lazy or delayed frame, a future, or a function without arguments
            that returns a table. A frame of dask stands for its partitions. The worker that fits a
            part also reads it. Unless the estimator has an encoder, a worker fits one to the first
            part. A mapping of keys to parts names the shards.
        y : None
            Ignored.

        Returns
        -------
        self : ShardedDensity
            The fitted estimator.

        Raises
        ------
        ValueError
            As the estimator raises for a shard; if there is no part.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, ShardedDensity
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> density = ShardedDensity(BellmanDiffusionDensity(n_steps=5), random_state=0)
        >>> density.fit({"north": X[:30], "south": X[30:]}).keys_
        ['north', 'south']
        """
        with renewed(self) as draft:
            draft._forget_fit()
            rng = check_random_state(self.random_state)
            draft._seed = int(rng.randint(2**31))
            table = validate_table(draft, X, reset=True) if is_rows(X) else None
            parts = parts_of(X) if table is None else draft._divided(table, rng)
            first = next(parts, None)
            if first is None:
                raise ValueError("there is no part to fit a density to.")
            draft._decide_encoder(first[1] if table is None else table)
            draft._keep(draft._fitted(chain([first], parts)))
            draft._name_columns()
        return self

    def add(self, X: Any, key: Any = None) -> ShardedDensity:
        """Fit one more shard, with the encoder of the others.

        Parameters
        ----------
        X : table, path, or function that returns a table
            A part, as `fit` takes them.
        key : hashable, optional
            Its name. By default the number after the largest of the others.

        Returns
        -------
        self : ShardedDensity
            The estimator with one more part.

        Raises
        ------
        ValueError
            If a shard has that name already, or the encoder does not know a category of the part.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, ShardedDensity
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> estimator = BellmanDiffusionDensity(n_steps=1, n_nodes=4)
        >>> density = ShardedDensity(estimator, n_shards=2, random_state=0).fit(X)
        >>> density.add(X[:20], key="new").keys_
        [0, 1, 'new']
        """
        check_is_fitted(self, "parts_")
        key = self._next_key() if key is None else key
        if key in self.keys_:
            raise ValueError(f"there is a shard {key!r} already: forget it, or give another key.")
        with renewed(self) as draft:
            draft._keep([*self._shards(), *self._fitted([(key, placed(X))])])
        return self

    def forget(self, key: Any) -> ShardedDensity:
        """Drop a shard, as if it had never been fitted.

        Parameters
        ----------
        key : hashable
            One of ``keys_``.

        Returns
        -------
        self : ShardedDensity
            The estimator without that part.

        Raises
        ------
        ValueError
            If there is no such shard, or it is the only one.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, ShardedDensity
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> estimator = BellmanDiffusionDensity(n_steps=1, n_nodes=4)
        >>> density = ShardedDensity(estimator, n_shards=2, random_state=0).fit(X)
        >>> density.forget(0).keys_
        [1]
        """
        check_is_fitted(self, "parts_")
        if key not in self.keys_:
            raise ValueError(f"there is no shard {key!r}: the shards are {self.keys_}.")
        if len(self.keys_) == 1:
            raise ValueError(f"{key!r} is the last shard: without it there is no density.")
        with renewed(self) as draft:
            draft._keep(shard for shard in self._shards() if shard[0] != key)
        return self

    def score_samples(
        self, X: Any, *, columns: Sequence[Any] | None = None, given: Sequence[Any] | None = None
    ) -> np.ndarray:
        """Return the log-density of each row, of some of its columns, or given some.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features), or iterable of parts
            With the columns of the fitted table. What is missing in a row is integrated out. Parts
            are as in `fit`; each is read and scored by one worker.
        columns : sequence of names, or of positions for an array, optional
            Columns whose density is asked, the others integrated out. By default all that
            are not in ``given``.
        given : sequence of names or positions, optional
            Columns that are conditions.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In the units of the columns. For parts, the values follow the order of the parts.

        Raises
        ------
        ValueError
            As the parts raise; if there is no part to score.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, ShardedDensity
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> estimator = BellmanDiffusionDensity(n_steps=1, n_nodes=4)
        >>> density = ShardedDensity(estimator, n_shards=2, random_state=0).fit(X)
        >>> density.score_samples(X, columns=[0], given=[1]).shape
        (60,)
        """
        columns, given = listed_names(columns, "columns"), listed_names(given, "given")
        mixture = self._as_scored()
        if is_rows(X):
            return mixture.score_samples(X, columns=columns, given=given)
        calls = ((mixture, part, columns, given) for _, part in parts_of(X))
        logs = call_each(_score_part, calls, self.n_jobs)
        if not logs:
            raise ValueError("there is no part to score.")
        return np.concatenate(logs)

    def sample(self, n_samples: Any = 1, random_state: Any = None, *, given: Any = None) -> Any:
        """Draw rows, or fill rows given some of their values.

        Parameters
        ----------
        n_samples : int or array-like of int, default=1
            At least 1. With a table of conditions, so many rows for each of its rows, or a number
            of each row.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        given : mapping, DataFrame or array-like, optional
            Values that the rows are to have.

        Returns
        -------
        X : DataFrame or ndarray
            A table like the fitted one. With a table of m conditions, m * n_samples rows: those of
            the first condition come first.

        Examples
        --------
        >>> import numpy as np
        >>> from skbellman import BellmanDiffusionDensity, ShardedDensity
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> estimator = BellmanDiffusionDensity(n_steps=1, n_nodes=4)
        >>> density = ShardedDensity(estimator, n_shards=2, random_state=0).fit(X)
        >>> density.sample(2, random_state=0, given={1: 0.5})[:, 1]
        array([0.5, 0.5])
        """
        if not self.constraints_:
            return self._as_scored().sample(n_samples, random_state, given=given)
        return warned_of_few(sample_constrained(self, n_samples, (), random_state, given=given))

    @property
    def constraints_(self) -> list[Any]:
        """The constraints of the estimator; combinations are those of any shard."""
        check_is_fitted(self, "parts_")
        return own_constraints(*self.parts_)

    @property
    def acceptance_(self) -> float:
        """Share of 1000 samples without constraints that keep the constraints, if any."""
        if not self.constraints_:
            raise AttributeError("acceptance_ is of a density with constraints; this has none.")
        return acceptance(self, self._seed)

    @property
    def measure_(self) -> TableMeasure:  # type: ignore[override]
        """What log-densities are relative to, column by column."""
        check_is_fitted(self, "parts_")
        return self.parts_[0].measure_

    def _parts_drawn_from(self) -> list[Any]:
        return self.parts_

    def _row_given(self, given: Mapping[Any, Any]) -> Any:
        return self._as_scored()._row_given(given)

    def _as_scored(self) -> MixtureDensity:
        check_is_fitted(self, "parts_")
        return _ShardMixture(self.parts_, self.n_rows_, self.n_jobs)

    def _forget_fit(self) -> None:
        """Drop attributes that a new fit may not set."""
        for name in ("row_keys_", "encoder_", "feature_names_in_"):
            self.__dict__.pop(name, None)

    def _divided(self, X: Any, rng: np.random.RandomState) -> Iterator[tuple[Any, Any]]:
        """Iterate over the shards of a table, whose rows are shuffled."""
        n_shards = min(self.n_shards, len(X) // 2)
        self.row_keys_ = keys = rng.permutation(np.arange(len(X)) % n_shards)
        return ((k, take(X, np.flatnonzero(keys == k))) for k in range(n_shards))

    def _decide_encoder(self, part: Any) -> None:
        """Fit the encoder to a table, or to one that has to be read, if none is given."""
        default = BellmanDiffusionDensity()
        self._prototype = default if self.estimator is None else clone(self.estimator)
        if "encoder" in self._prototype.get_params(deep=False):
            # Only the worker may be able to read these rows.
            n_jobs = self.n_jobs if is_to_be_read(part) else 1
            (self.encoder_,) = call_each(_encoder_of, [(self._prototype, part)], n_jobs)
            self._prototype.set_params(encoder=self.encoder_, categorical_features="from_dtype")

    def _fitted(self, parts: Iterable[tuple[Any, Any]]) -> list[Shard]:
        """Return the fitted density, with its key and number of rows, of each part."""
        calls = ((self._seeded(key), key, part) for key, part in parts)
        return call_each(_fit_part, calls, self.n_jobs)

    def _seeded(self, key: Any) -> Any:
        """Return an unfitted estimator with the seed of a shard."""
        estimator = clone(self._prototype)
        if "random_state" in estimator.get_params(deep=False):
            words = np.frombuffer(hashlib.sha256(repr(key).encode()).digest(), np.uint32)
            seed = np.random.SeedSequence([self._seed, *words.tolist()]).generate_state(1)[0]
            estimator.set_params(random_state=int(seed))
        return estimator

    def _shards(self) -> list[Shard]:
        return list(zip(self.keys_, self.parts_, self.n_rows_.tolist(), strict=True))

    def _keep(self, shards: Iterable[Shard]) -> None:
        """Set the fitted attributes about shards."""
        keys, parts, n_rows = zip(*shards, strict=True)
        self.keys_, self.parts_, self.n_rows_ = list(keys), list(parts), np.array(n_rows)
        self.weights_ = self.n_rows_ / self.n_rows_.sum()

    def _name_columns(self) -> None:
        first = self.parts_[0]
        self.n_features_in_ = first.n_features_in_
        if hasattr(first, "feature_names_in_"):
            self.feature_names_in_ = first.feature_names_in_

    def _next_key(self) -> int:
        return max((key for key in self.keys_ if type(key) is int), default=-1) + 1

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: missing values are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class _ShardMixture(MixtureDensity):
    """The mixture of the parts, each scored with one thread, as it was fitted."""

    def _of_each(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        calls = zip(self.densities, arguments, strict=True)
        return call_each(function, ((part, *args) for part, args in calls), self.n_jobs)


def _fit_part(estimator: Any, key: Any, part: Any) -> Shard:
    """Return the key of a part, its fitted density, and its number of rows."""
    table = read(part)
    return key, estimator.fit(table), len(table)


def _encoder_of(estimator: Any, part: Any) -> Any:
    """Return the encoder that an estimator fits to a part."""
    return estimator._fitted_encoder(validate_table(clone(estimator), read(part), reset=True))


def _score_part(
    density: Density, part: Any, columns: Sequence[Any] | None, given: Sequence[Any] | None
) -> np.ndarray:
    return density.score_samples(read(part), columns=columns, given=given)

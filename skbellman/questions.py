"""The parameters of a fitted density: ``columns``, ``given``, ``noise``, counts and gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import issparse

from skbellman.tables import Cells
from skbellman.tables.kinds import is_gap
from skbellman.tables.parts import rows_of
from skbellman.validation import check_count, validate_table


def counted(n_samples: Any, given: Any) -> tuple[int, Any]:
    """Return the number of samples for each condition, and the conditions.

    Several numbers are those of the rows of a table, which are repeated as often.
    """
    if np.ndim(n_samples) == 0:
        return check_count("n_samples", n_samples), given
    counts = np.asarray(n_samples)
    is_frame = nw.dependencies.is_into_dataframe(given)
    if given is None or (hasattr(given, "keys") and not is_frame):
        raise ValueError("n_samples has several numbers: pass a table as given, one row for each.")
    table = given if is_frame else np.asarray(given)
    if counts.shape != (len(table),):
        raise ValueError(
            f"n_samples has shape {counts.shape}, but given has {len(table)} rows: pass one whole "
            "number, or one for each row."
        )
    if counts.dtype.kind not in "iu" or (counts < 0).any() or not counts.any():
        raise ValueError(
            f"n_samples must have whole numbers of at least 0, and not only 0, got {n_samples!r}."
        )
    return 1, rows_of(table, np.repeat(np.arange(len(table)), counts))


def asked_gaps(
    density: Any, with_missing: Any, n_rows: int, given: list[Cells] | None, rng: Any
) -> np.ndarray | None:
    """Return gaps of sampled rows, (n_rows, n_features), by ``with_missing``; None for none."""
    encoder = density.encoder_
    if with_missing is None or type(with_missing) in (bool, np.bool_):
        return encoder.draw_gaps(n_rows, given, rng) if with_missing else None
    names = listed_names(with_missing, "with_missing") or []
    check_names(density, names, "with_missing")
    gaps = np.tile([name in names for name in encoder.names], (n_rows, 1))
    for j in np.flatnonzero(gaps.any(0)):
        if given and not given[j].missing.all():
            raise ValueError(f"column {encoder.names[j]!r} is in with_missing, but given.")
        if not encoder.container_.holds_gaps(j):
            raise ValueError(
                f"column {encoder.names[j]!r} is in with_missing, but its dtype holds no missing "
                "value: convert it before the fit, for example to Int64 or boolean."
            )
    return gaps


def with_gaps(density: Any, drawn: Any, given: Any, with_missing: Any, rng: Any) -> Any:
    """Return sampled rows with gaps, by ``with_missing``, where nothing was given.

    Rows that have to be within something are drawn whole: a row with gaps is within more.
    """
    if with_missing is None or with_missing is False:
        return drawn
    encoder = density.encoder_
    cells, n_rows = encoder.read_given(drawn), len(drawn)
    free = [
        c._replace(missing=is_free)
        for c, is_free in zip(cells, _free_cells(density, given, n_rows), strict=True)
    ]
    seed = rng.randint(2**31)
    gaps = asked_gaps(density, with_missing, n_rows, free, np.random.default_rng(seed))
    return encoder.restore(encoder.codes([c.numbers() for c in cells]), cells, gaps)


def _free_cells(density: Any, given: Any, n_rows: int) -> list[np.ndarray]:
    """Return which cells of each column were not given, (n_rows,) each.

    The rows of a table of conditions are all sampled equally often, one after the other.
    """
    if given is None or isinstance(given, Mapping):
        held = {name for name, value in (given or {}).items() if not is_gap(value)}
        return [np.full(n_rows, name not in held) for name in density.encoder_.names]
    cells = given_cells(density, given)
    return [c.missing.repeat(n_rows // len(c.missing)) for c in cells]


def given_cells(density: Any, given: Any) -> list[Cells]:
    """Return the cells of each column, missing where they are not given."""
    encoder = density.encoder_
    if isinstance(given, Mapping) and not issparse(given):  # some sparse matrices are
        check_names(density, list(given), "given")
    elif nw.dependencies.is_into_dataframe(given) and not encoder.goes_by_position(given):
        check_names(density, nw.from_native(given).columns, "given")
    else:
        given = validate_table(density, given, reset=False)
    cells: list[Cells] = encoder.read_given(given)
    if not len(cells[0].missing):
        raise ValueError("given holds no row.")
    values = [c.numbers() for c in cells]
    encoder.check_holdable(values)
    encoder.check_known(values)
    return cells


def asked_columns(
    density: Any, X: Any, columns: Sequence[Any] | None, given: Sequence[Any] | None
) -> tuple[Any, list[Any], list[Any]]:
    """Return the table, the names in ``columns`` and the names in ``given``."""
    encoder = density.encoder_
    asked, conditions = listed_names(columns, "columns"), listed_names(given, "given") or []
    if asked is None and given is None:
        return validate_table(density, X, reset=False), encoder.names, []
    check_names(density, conditions, "given")
    if asked is None:
        asked = [name for name in encoder.names if name not in conditions]
    check_names(density, asked, "columns")
    if both := [name for name in asked if name in conditions]:
        raise ValueError(f"{both} are both among columns and among given.")
    if not asked:
        raise ValueError("no column is left to score: columns is empty, or given names them all.")
    if not nw.dependencies.is_into_dataframe(X) or encoder.goes_by_position(X):
        return validate_table(density, X, reset=False), asked, conditions
    held = nw.from_native(X, eager_only=True).columns
    if absent := [name for name in [*asked, *conditions] if name not in held]:
        raise ValueError(f"X lacks the columns {absent}, which are in columns or given.")
    if not len(X):
        raise ValueError("X holds no row.")
    return X, asked, conditions


def asked_noise(density: Any, noise: Any, asked: Sequence[Any]) -> np.ndarray:
    """Return the noise on each coordinate, (n_dims,): 0 on what is not asked, and on levels."""
    encoder = density.encoder_
    is_mapping, wanted = isinstance(noise, Mapping), noise
    if is_mapping:
        check_names(density, list(noise), "noise")
        wanted = [noise.get(name, 0.0) for name in encoder.names]
    levels = _one_for_each(wanted, len(encoder.names))
    if levels is None:
        raise ValueError(
            f"noise is {noise!r}: give one number, a mapping of names of columns to numbers, or an "
            f"array of {len(encoder.names)} numbers, one for each column."
        )
    for name, level in zip(encoder.names, levels, strict=True):
        if not 0 <= level < np.inf:
            raise ValueError(f"noise must be finite and at least 0, got {level} for {name!r}.")
    _check_noisy(density, (levels > 0) & is_mapping, asked)
    return encoder.on_numbers(np.where([name in asked for name in encoder.names], levels, 0.0))


def _one_for_each(numbers: Any, n_columns: int) -> np.ndarray | None:
    """Return a number for each column, from one or as many; None if they are something else."""
    try:
        found = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    fits = found.shape in ((), (n_columns,))
    return np.broadcast_to(found, (n_columns,)) if fits else None


def _check_noisy(density: Any, named: np.ndarray, asked: Sequence[Any]) -> None:
    """Refuse noise that was named for columns that cannot have it, or are not asked."""
    is_number = density.encoder_.on_numbers(np.ones(len(named)))
    numbers = density.encoder_.layout_.column_of[is_number > 0]
    for j in np.flatnonzero(named):
        name = density.encoder_.names[j]
        if j not in numbers:
            raise ValueError(
                f"noise names column {name!r}, whose values have probabilities: only a density can "
                "be seen through noise. Leave the column out of noise."
            )
        if name not in asked:
            raise ValueError(
                f"noise names column {name!r}, which is not asked: conditions are exact. Leave it "
                "out of noise, or ask for it in columns."
            )


def listed_names(names: Any, parameter: str) -> list[Any] | None:
    """Return names of columns as a list, None for none; an iterator could be read only once."""
    if names is None:
        return None
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise ValueError(f"{parameter} is a single name: write {parameter}=[{names!r}].")
    if isinstance(names, Mapping) or nw.dependencies.is_into_dataframe(names):
        raise ValueError(f"{parameter} takes names of columns, whose values X holds.")
    return list(names)


def check_names(density: Any, names: Sequence[Any], parameter: str) -> None:
    """Refuse names in a parameter that are not columns of the table.

    True is no position, although it equals 1: a mask would ask for other columns.
    """
    known = density.encoder_.names
    of_truth = [name for name in names if type(name) in (bool, np.bool_)]
    if any(type(name) is bool for name in known):
        of_truth = []
    if unknown := [name for name in names if name not in known] or of_truth:
        raise ValueError(
            f"{parameter} names {unknown}, which the fitted table does not have: its columns "
            f"are {known}."
        )

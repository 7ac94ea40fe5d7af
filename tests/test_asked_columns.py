"""Names of columns in ``columns``, ``given`` and ``with_missing``: read once, and by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_restrictions import another, closed_form, fitted, table

from skbellman.algebra import compare, mixture, rescale, reweight


def others():
    p, q = closed_form(), another()
    return {
        "density": p,
        "mixture": mixture([p, q], [2, 1]),
        "rescaled": rescale(p, {"x": (2.0, 1.0)}),
        "reweighted": reweight(p, "sex", {"F": 0.5, "M": 0.5}),
    }


@pytest.mark.parametrize("kind", ["density", "mixture", "rescaled", "reweighted"])
@pytest.mark.parametrize("form", [iter, pytest.param(pd.Index, marks=pytest.mark.slow)])
def test_names_may_be_any_iterable(kind, form):
    """An iterator was read once by the check, and then named no column: the joint was returned."""
    density, X = others()[kind], table(6)
    X = X[X["sex"] != "X"]
    expected = density.score_samples(X, columns=["x"], given=["y", "sex"])
    found = density.score_samples(X, columns=form(["x"]), given=form(["y", "sex"]))
    np.testing.assert_array_equal(found, expected)
    rest = density.score_samples(X, given=["y", "sex"])
    np.testing.assert_array_equal(density.score_samples(X, given=form(["y", "sex"])), rest)
    assert np.abs(rest - density.score_samples(X)).min() > 0.01


def test_both_sides_of_a_comparison_read_an_iterator():
    comparison, X = compare(closed_form(), another()), table(5)
    expected = comparison.log_ratio(X, columns=["x"], given=["sex"])
    np.testing.assert_array_equal(
        comparison.log_ratio(X, columns=iter(["x"]), given=iter(["sex"])), expected
    )


def test_a_mask_is_no_list_of_positions():
    """True equals 1: a mask of the first column asked for the second and the first."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    density = fitted(X)
    message = r"columns names \[True, False, False\], which the fitted table does not have"
    with pytest.raises(ValueError, match=message):
        density.score_samples(X[:2], columns=[True, False, False])
    with pytest.raises(ValueError, match=r"given names \[True\]"):
        density.sample(2, given={True: 0.5})
    with pytest.raises(ValueError, match=r"with_missing names \[np.True_\]"):
        density.sample(2, with_missing=np.array([True]))
    with pytest.raises(ValueError, match="is a mask of 3 columns, but X has 2"):
        fitted(X[:, :2], categorical_features=[True, False, False])


def test_a_position_in_with_missing_is_not_true():
    X = np.random.default_rng(0).normal(size=(200, 3))
    with pytest.raises(ValueError, match=r"with_missing is a single name: write .*=\[2\]"):
        fitted(X).sample(2, with_missing=2)


def test_a_table_of_arrow_needs_only_the_columns_that_are_asked():
    df = table(200)
    density, X = fitted(pa.Table.from_pandas(df)), pa.Table.from_pandas(df[["y", "x"]])
    np.testing.assert_array_equal(
        density.score_samples(X, columns=["x"], given=["y"]),
        density.score_samples(pa.Table.from_pandas(df), columns=["x"], given=["y"]),
    )
    with pytest.raises(ValueError, match=r"X lacks the columns \['sex'\]"):
        density.score_samples(X, columns=["sex"])


@pytest.mark.parametrize("noise", ["a", {"x": "a"}, [0.1, 0.2], [[0.1, 0.1, 0.1, 0.1]]])
def test_noise_that_is_no_number_is_refused_by_its_name(noise):
    with pytest.raises(ValueError, match=r"noise is .*: give one number, a mapping of names"):
        closed_form().score_samples(table(3), noise=noise)

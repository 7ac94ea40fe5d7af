"""Pictures show what the estimators say: heights are probabilities, curves are densities."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import NotFittedError
from test_house import imports
from test_restrictions import closed_form, fitted, table

from skbellman import (
    BellmanDiffusionDensity,
    BellmanOutlierDetector,
    DistributionalValueEstimator,
)
from skbellman.algebra import rescale
from skbellman.inspection import (
    ConditionalDisplay,
    DensityDisplay,
    ExplanationDisplay,
    LearningCurveDisplay,
    PairsDisplay,
    ReturnLawDisplay,
)
from skbellman.inspection.laws import law_of


def heights(ax):
    return np.array([bar.get_height() for bar in ax.patches if hasattr(bar, "get_height")])


def test_a_curve_is_the_density_and_bars_are_probabilities():
    density, X = closed_form(), table()
    display = DensityDisplay.from_estimator(density, X)
    x, sex = display.ax_[0], display.ax_[3]
    line = x.lines[0]
    frame = pd.DataFrame({"x": line.get_xdata()})
    expected = np.exp(density.score_samples(frame, columns=["x"]))
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1, abs=0.03)
    levels = pd.DataFrame({"sex": ["F", "M", "X"]})
    np.testing.assert_allclose(heights(sex), np.exp(density.score_samples(levels, columns=["sex"])))
    assert heights(sex).sum() == pytest.approx(1, abs=0.01)
    shares = sex.lines[0].get_ydata()
    np.testing.assert_allclose(shares, X["sex"].value_counts(normalize=True)[["F", "M", "X"]])
    assert [label.get_text() for label in sex.get_xticklabels()] == ["F", "M", "X"]
    assert heights(display.ax_[2]).sum() == pytest.approx(1, abs=0.02)
    assert display.figure_ is x.figure


def test_the_histogram_of_the_rows_has_the_share_beside_point_masses():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"g": np.where(rng.random(600) < 0.4, 0.0, rng.normal(8, 1, 600))})
    density = fitted(X)
    display = DensityDisplay.from_estimator(density, X, columns=["g"])
    (masses,) = display.mass_axes_
    expected = np.exp(density.score_samples(pd.DataFrame({"g": [0.0]})))
    np.testing.assert_allclose(heights(masses), expected)
    assert masses.lines[0].get_ydata() == pytest.approx((X["g"] == 0).mean())
    values, edges, _ = display.ax_.patches[0].get_data()
    assert (values * np.diff(edges)).sum() == pytest.approx((X["g"] != 0).mean())
    assert DensityDisplay.from_estimator(density).ax_.get_ylabel() == "density"


def test_the_law_given_each_value_is_the_conditional():
    density = closed_form()
    display = ConditionalDisplay.from_estimator(density, "x", "sex", X=table(), n_points=30)
    assert display.values == ["F", "M", "X"]
    for line, level in zip(display.ax_.lines, display.values, strict=True):
        frame = pd.DataFrame({"x": line.get_xdata(), "sex": level})
        expected = np.exp(density.score_samples(frame, columns=["x"], given=["sex"]))
        np.testing.assert_allclose(line.get_ydata(), expected)
    display = ConditionalDisplay.from_estimator(density, "sex", "age", values=[20, 70])
    frame = pd.DataFrame({"sex": ["F", "M", "X"], "age": 70})
    expected = np.exp(density.score_samples(frame, columns=["sex"], given=["age"]))
    np.testing.assert_allclose(heights(display.ax_)[3:], expected)
    assert len(ConditionalDisplay.from_estimator(density, "y", "x", n_points=9).ax_.lines) == 5


def test_pairs_show_both_tables():
    X = table(300).assign(x=lambda df: df["x"].where(df.index % 3 > 0))
    display = PairsDisplay.from_estimator(closed_form(), X, columns=["x", "sex"])
    real, drawn = display.ax_[1, 0].collections
    assert real.get_offsets().shape == drawn.get_offsets().shape == (300, 2)
    np.testing.assert_array_equal(real.get_offsets()[:, 0].filled(np.nan), X["x"])
    of_real, _ = (patch.get_data().values for patch in display.ax_[1, 1].patches)
    np.testing.assert_allclose(of_real, X["sex"].value_counts(normalize=True)[["F", "M", "X"]])
    assert display.ax_[1, 0].get_xlabel() == "x"


def test_curves_of_returns_are_their_densities():
    rng = np.random.default_rng(0)
    steps = pd.DataFrame({"state": rng.integers(0, 2, 300), "reward": rng.normal(size=300)})
    steps = steps.assign(next_state=steps["state"], terminated=True)
    value = DistributionalValueEstimator(gamma=0.9, random_state=0).fit(steps)
    display = ReturnLawDisplay.from_estimator(value, [0, 1], labels=["left", "right"])
    lines = display.ax_.lines
    for line, state in zip(lines[:2], [0, 1], strict=True):
        returns = line.get_xdata()
        logs = value.score_samples([state] * len(returns), returns=returns)
        np.testing.assert_allclose(line.get_ydata(), np.exp(logs))
    means = [line.get_xdata()[0] for line in lines[2:]]
    np.testing.assert_allclose(means, value.predict([0, 1]))
    with pytest.raises(ValueError, match="1 labels for 2 states"):
        ReturnLawDisplay.from_estimator(value, [0, 1], labels=["left"])


def test_the_learning_curve_is_the_history():
    density = closed_form()
    display = LearningCurveDisplay.from_estimator(density)
    curve, kept = display.ax_.lines
    np.testing.assert_array_equal(curve.get_xdata(), density.history_["step"])
    np.testing.assert_array_equal(curve.get_ydata(), density.history_["validation_log_density"])
    assert kept.get_xdata()[0] == density.n_iter_
    assert LearningCurveDisplay.from_estimator(density, metric="loss").name == "loss"
    with pytest.raises(ValueError, match="metric='los' is none of history_"):
        LearningCurveDisplay.from_estimator(density, metric="los")


@pytest.mark.slow
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_colours_are_surprises_and_frames_mark_the_largest(library):
    rows = table(4).assign(x=[0.0, 9.0, np.nan, 0.0], sex=["F", "M", None, "never seen"])
    found = closed_form().explain(rows, reference=table(50))
    display = ExplanationDisplay.from_estimator(
        closed_form(), library(rows), reference=library(table(50))
    )
    np.testing.assert_allclose(display.surprise, found)
    (image,) = display.ax_.images
    np.testing.assert_allclose(image.get_array().filled(np.nan), found.clip(-10, 10))
    corners = [frame.get_xy() for frame in display.ax_.patches]
    largest = np.nanargmax(found.to_numpy(), axis=1)
    np.testing.assert_array_equal(corners, np.column_stack([largest, range(4)]) - 0.5)
    texts = [text.get_text() for text in display.ax_.texts]
    assert texts[3::4] == ["F", "M", "missing", "never seen"]
    assert texts[::4] == ["0", "9", "missing", "0"]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == list(rows)


@pytest.mark.slow
def test_a_detector_is_explained_and_surprises_are_drawn_again():
    rows = table(3).set_axis(["a", "b", "c"])
    detector = BellmanOutlierDetector(closed_form(), noise=(), n_components=0, random_state=0)
    display = ExplanationDisplay.from_estimator(detector.fit(table(60)), rows)
    np.testing.assert_allclose(display.surprise, detector.explain(rows))
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["a", "b", "c"]
    surprise = np.full((60, 2), np.nan)
    display = ExplanationDisplay.from_predictions(surprise)
    assert not len(display.ax_.texts) + len(display.ax_.patches)
    with pytest.raises(ValueError, match=r"X has shape \(3, 4\), but surprise has \(60, 2\)"):
        ExplanationDisplay.from_predictions(surprise, rows)


def test_axes_that_are_given_are_drawn_into():
    figure, axes = plt.subplots(1, 2)
    display = DensityDisplay.from_estimator(closed_form(), columns=["x", "sex"], ax=axes)
    assert display.figure_ is figure
    display = ConditionalDisplay.from_estimator(closed_form(), "x", "sex", ax=axes[0])
    assert display.ax_ is axes[0]
    with pytest.raises(ValueError, match="ax holds 2 axes, but 1 are drawn into"):
        DensityDisplay.from_estimator(closed_form(), columns=["x"], ax=axes)
    with pytest.raises(ValueError, match="'z' is no column"):
        DensityDisplay.from_estimator(closed_form(), columns=["z"])


def test_matplotlib_is_loaded_when_something_is_drawn():
    loaded = {
        name
        for module, names in imports().items()
        if module.startswith("skbellman.inspection")
        for name in names
    }
    assert "sklearn.utils._optional_dependencies" in loaded
    assert not any(name.startswith("matplotlib") for name in loaded)


def test_curve_and_bars_of_a_grid_add_up_to_one():
    """Bytes that are cut at 255: repeated values were bars, under a curve that ignored them."""
    values = np.random.default_rng(0).normal(200, 60, 600).clip(0, 255)
    X = pd.DataFrame({"byte": values.astype(np.uint8)})
    law = law_of(fitted(X), "byte", 0, 255, n_points=256)
    assert law.points.tolist() == [255]
    assert law.probabilities == pytest.approx([(X["byte"] == 255).mean()], abs=0.01)
    assert law.density.sum() + law.probabilities.sum() == pytest.approx(1, abs=0.01)


def test_what_has_no_picture_is_refused_by_name():
    for draw in (DensityDisplay.from_estimator, PairsDisplay.from_estimator):
        with pytest.raises(ValueError, match=r"columns is a single name: write columns=\['age'\]"):
            draw(closed_form(), table(9), columns="age")
    with pytest.raises(NotFittedError):
        DensityDisplay.from_estimator(BellmanDiffusionDensity())
    with pytest.raises(NotFittedError):
        ConditionalDisplay.from_estimator(BellmanDiffusionDensity(), "x", "y")
    with pytest.raises(
        ValueError, match="a rescaled density are not read in its units, by pictures"
    ):
        DensityDisplay.from_estimator(rescale(closed_form(), {"x": (2, 0)}))

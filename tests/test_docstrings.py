"""Public docstrings follow numpydoc: every parameter, every result, an example."""

from __future__ import annotations

import inspect

import pytest
from numpydoc.validate import validate

import skbellman
import skbellman.dynamics
import skbellman.fidelity
import skbellman.privacy
import skbellman.solvers
import skbellman.table_density

# An extended summary and a "See Also" are for the author to judge; scikit-learn names results.
OPTIONAL = {"ES01", "SA01", "RT02"}


# The library's own: they take what was read of a table.
INNER = {f"skbellman.TableEncoder.{method}" for method in vars(skbellman.TableEncoder)} - {
    f"skbellman.TableEncoder.{method}" for method in ("fit", "set_params")
}


def public_names():
    modules = [skbellman.constraints, skbellman.inspection]
    for module in modules:
        names = getattr(module, "__all__", ["KnownCombinations", "Unique", "sample_constrained"])
        for name in names:
            yield f"{module.__name__}.{name}"
            for method in ("from_estimator", "from_predictions", "plot"):
                if hasattr(getattr(module, name), method):
                    yield f"{module.__name__}.{name}.{method}"
    for name in skbellman.__all__:
        if inspect.ismodule(getattr(skbellman, name)):
            continue
        yield f"skbellman.{name}"
        for method, value in vars(getattr(skbellman, name)).items():
            path = f"skbellman.{name}.{method}"
            if inspect.isfunction(value) and not method.startswith("_") and path not in INNER:
                yield path
    for method in ("fit", "score_samples", "score", "sample", "explain", "gradient"):
        yield f"skbellman.table_density.TableDensity.{method}"
    yield "skbellman.fidelity.fidelity_report"
    yield "skbellman.privacy.copying_report"
    yield "skbellman.privacy.membership_report"
    yield "skbellman.dynamics.bellman_dynamics"
    yield "skbellman.solvers.annealed_dynamics"


@pytest.mark.parametrize("name", list(public_names()))
def test_docstring_is_complete(name):
    errors = [error for error in validate(name)["errors"] if error[0] not in OPTIONAL]
    assert not errors

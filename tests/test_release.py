"""Versions and lower bounds are the same wherever they are written."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import skbellman

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Tools that check the code, and do not run with it.
TOOLS = {"mypy", "numpydoc", "ruff"}


def bounds(requirements):
    """Return the lower bound of each requirement, padded to three numbers."""
    found = dict(
        re.fullmatch(r"([\w-]+)(?:\[\w+\])?\s*[=>]=([\d.]+)", r).groups() for r in requirements
    )
    return {name: tuple(map(int, (v + ".0.0").split(".")[:3])) for name, v in found.items()}


def test_the_lowest_versions_that_are_tested_are_those_of_pyproject():
    lines = (ROOT / ".ci" / "minimum_versions.txt").read_text().splitlines()
    tested = bounds(line for line in lines if not line.startswith("#"))
    extras = PROJECT["optional-dependencies"]["test"]
    wanted = bounds([*PROJECT["dependencies"], *extras])
    assert tested == {name: bound for name, bound in wanted.items() if name not in TOOLS}


@pytest.mark.parametrize("extra", ["example", "benchmark", "doc", "environment"])
def test_extras_have_one_lower_bound_for_each_package(extra):
    known = bounds(PROJECT["optional-dependencies"]["test"])
    for name, bound in bounds(PROJECT["optional-dependencies"][extra]).items():
        assert known.get(name, bound) == bound, name


def test_the_conda_recipe_has_the_same_version_and_bounds():
    recipe = (ROOT / "conda" / "meta.yaml").read_text()
    assert f'version = "{skbellman.__version__}"' in recipe
    run = recipe.partition("  run:\n")[2].partition("\ntest:")[0]
    found = bounds(line.strip(" -") for line in run.splitlines() if line.strip())
    python = PROJECT["requires-python"]
    assert found.pop("python") == bounds([f"python{python}"])["python"]
    found["torch"] = found.pop("pytorch")
    assert found == bounds(PROJECT["dependencies"])


def test_the_citation_has_the_version():
    assert f"version: {skbellman.__version__}\n" in (ROOT / "CITATION.cff").read_text()

"""Dependence runs one way, and rooms that are not to know each other do not."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skbellman

ROOT = Path(skbellman.__file__).parent
# What each room may not import, beside what would be a cycle.
FORBIDDEN = {
    "fields": ("skbellman.tables", "skbellman.returns", "pandas", "sklearn", "gymnasium"),
    "tables": ("torch", "skbellman.fields", "skbellman.returns", "skbellman.fitting", "gymnasium"),
    "returns": ("skbellman.tables", "skbellman.density", "skbellman.table_model", "pandas"),
    "fitting": ("skbellman.tables", "skbellman.density", "pandas", "narwhals"),
    "likelihood": ("skbellman.tables", "skbellman.fitting", "pandas"),
    "dynamics": ("skbellman.tables", "skbellman.fitting", "skbellman.sampling", "pandas"),
    "solvers": ("skbellman.tables", "skbellman.fitting", "skbellman.sampling", "pandas"),
    "sampling": ("skbellman.tables", "skbellman.fitting", "skbellman.table_model", "pandas"),
    "table_model": ("skbellman.density", "skbellman.table_density", "sklearn", "pandas"),
}  # fmt: skip


def imports() -> dict[str, set[str]]:
    """Return the modules that each module imports when it is loaded."""
    found = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(["skbellman", *path.relative_to(ROOT).with_suffix("").parts])
        name = name.removesuffix(".__init__")
        nodes = ast.parse(path.read_text()).body
        names = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
        names += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
        found[name] = set(names)
    return found


def test_there_is_no_cycle():
    own = imports()
    graph = {
        name: {other for other in others if other in own and other != name}
        for name, others in own.items()
    }
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_do_not_know_what_is_above_or_beside_them(room):
    inside = f"skbellman.{room}"
    broken = {
        f"{name} imports {other}"
        for name, others in imports().items()
        if name == inside or name.startswith(f"{inside}.")
        for other in others
        if any(other == word or other.startswith(f"{word}.") for word in FORBIDDEN[room])
    }
    assert not broken


def test_what_few_need_is_loaded_when_it_is_used():
    late = {"gymnasium", "sklearn.mixture", "skbellman.value", "skbellman.return_laws", "dask"}
    late |= {
        "skbellman.return_arithmetic",
        "skbellman.inspection",
        "skbellman.io",
        "matplotlib",
        "skops",
    }
    program = (
        "import sys, skbellman; print(*sys.modules); "
        "skbellman.DistributionalValueEstimator, skbellman.MixtureOfReturns; "
        "assert set(skbellman.__all__) <= set(dir(skbellman))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(ran.stdout.split())
    assert "skbellman.density" in loaded
    assert not late & loaded
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = skbellman.Nothing

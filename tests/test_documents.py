"""The code of the pages runs as it stands, on a table like a reader's."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config

import skbellman.algebra
import skbellman.density
import skbellman.fields
from skbellman import BellmanDiffusionDensity
from skbellman.likelihood import FlowIntegral

ROOT = Path(__file__).parent.parent
# What would take minutes, and what stands for it here.
SHORT = {
    "n_steps=20_000": "n_steps=1_100",
    "n_steps=10_000": "n_steps=1_050",
    "n_steps=20,": "n_steps=2,",
    "n_shards=8": "n_shards=4",
    ".kl()": ".kl(5)",
    "(100, random_state": "(5, random_state",
    "n_samples=100": "n_samples=5",
    " 200)": " 20)",
    " 100)": " 20)",
}


def blocks_of(page: str) -> list[str]:
    """Return the blocks of Python of a page, in their order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def calls_of(page: str) -> list[str]:
    """Return the calls in the second column of the tables of a page."""
    return re.findall(r"^\|[^|]*\| `(\w+[.(][^`]*\))` \|", (ROOT / page).read_text(), re.MULTILINE)


def shortened(code: str) -> str:
    """Return the code with what takes long made short."""
    for long, short in SHORT.items():
        code = code.replace(long, short)
    return code


def people(n_rows: int, seed: int) -> pd.DataFrame:
    """Return a table such as readers have: whole years, text, money."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n_rows)
    return pd.DataFrame(
        {
            "age": age,
            "sex": rng.choice(["F", "M"], n_rows),
            "income": np.round(np.exp(9 + age / 100 + rng.normal(0, 0.5, n_rows)), 2),
        }
    )


def walks(seed: int) -> pd.DataFrame:
    """Return transitions of twelve walks between three states, numbered."""
    rng = np.random.default_rng(seed)
    states, actions = rng.integers(0, 3, 60), rng.integers(0, 2, 60)
    return pd.DataFrame(
        {
            "episode": np.repeat(np.arange(12), 5),
            "state": states,
            "action": actions,
            "reward": 1.0 * actions,
            "next_state": np.roll(states, -1),
            "terminated": np.arange(60) % 5 == 4,
        }
    )


@pytest.fixture(autouse=True)
def _short_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(skbellman.density, "_MAX_FIRST_STEPS", 2)
    monkeypatch.setattr(skbellman.density, "_MAX_STEPS", 2)
    monkeypatch.setattr(
        BellmanDiffusionDensity, "_integral", lambda self, approximate: FlowIntegral(4)
    )
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    with parallel_config(backend="threading"):
        yield


def run(page: str, names: dict) -> dict:
    """Run all blocks of a page, one after another with the same names."""
    assert blocks_of(page)
    for code in blocks_of(page):
        exec(compile(shortened(code), page, "exec"), names)
    return names


def test_the_readme():
    transitions = walks(0)
    names = {
        "df": people(60, 0),
        "df_test": people(10, 1),
        "df_new": people(40, 2),
        "transitions": transitions,
    }
    run("README.md", names)
    assert set(names["shards"].keys_) == {0, 1, 2}


@pytest.mark.slow
def test_the_guide():
    df = people(60, 0)
    df_partial = df[:4].astype({"age": "Int64"})
    df_partial.iloc[0, 0] = df_partial.iloc[1, 2] = None
    df.iloc[:5, 2] = np.nan
    names = {
        "df": df,
        "df_new": people(20, 1),
        "df_partial": df_partial,
        "df_test": people(60, 2),
        "df_reference": people(20, 3),
    }
    run("doc/guide.md", names)
    assert len(calls_of("doc/guide.md")) > 8
    for call in calls_of("doc/guide.md"):
        exec(call, names)


@pytest.mark.slow
def test_the_page_on_arithmetic():
    run("doc/arithmetic.md", {})


def test_the_page_on_returns():
    transitions = walks(0)
    observation, _ = gymnasium.make("CartPole-v1").reset(seed=0)
    names = {
        "transitions": transitions,
        "frame": transitions,
        "observation": observation,
        "states": [0, 1],
        "actions": [0, 0],
        "returns": [0.5, 0.5],
        "state": 0,
        "action": 0,
        "r": 1.0,
    }
    run("doc/returns.md", names)
    names["value_a"] = names["value_b"] = names["value"]
    assert len(calls_of("doc/returns.md")) > 8
    for call in calls_of("doc/returns.md"):
        exec(call, names)


@pytest.mark.parametrize("long", SHORT)
def test_what_is_made_short_is_on_a_page(long):
    pages = ("README.md", "doc/guide.md", "doc/arithmetic.md", "doc/returns.md")
    assert any(long in code for page in pages for code in blocks_of(page))


@pytest.mark.parametrize("module", [skbellman, skbellman.algebra, skbellman.fields])
def test_the_reference_lists_everything_public(module):
    listed = re.findall(r"^   (skbellman\.\S+)$", (ROOT / "doc/api.rst").read_text(), re.MULTILINE)
    parts = {name for path in listed for name in path.split(".")[1:]}
    assert set(module.__all__) <= parts

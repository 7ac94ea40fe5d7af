"""Shards on a cluster of dask: two worker processes on this machine, and the same bits as here."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config

from skbellman import BellmanDiffusionDensity, ShardedDensity

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
frames = pytest.importorskip("dask.dataframe")

pytestmark = pytest.mark.slow
QUICK = {"n_steps": 1, "n_nodes": 2, "n_levels": 5, "width": 8}
PAGE = Path(__file__).parent.parent / "doc" / "distributed.md"


class Watched(BellmanDiffusionDensity):
    """A density that remembers the process and the threads of its fit."""

    def fit(self, X, y=None, sample_weight=None):
        self.pid_, self.threads_ = os.getpid(), torch.get_num_threads()
        return super().fit(X, y, sample_weight)


def table(n_rows=20, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"x": rng.normal(size=n_rows), "c": rng.choice(["a", "b"], n_rows)})


def read(path):
    """Return a frame, and write down which process read it."""
    with Path(f"{path}.pids").open("a") as log:
        log.write(f"{os.getpid()}\n")
    return pd.read_parquet(path)


def readers(path):
    return [int(line) for line in Path(f"{path}.pids").read_text().split()]


def unfitted():
    return ShardedDensity(Watched(**QUICK), random_state=0)


@pytest.fixture(scope="module")
def client():
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def workers(client):
    """Open the backend; give the processes of the workers."""
    with parallel_config(backend="dask"):
        yield set(client.run(os.getpid).values())


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    found = [str(folder / f"{k}.parquet") for k in range(2)]
    for k, path in enumerate(found):
        table(seed=k).to_parquet(path)
    return found


@pytest.fixture(scope="module")
def here(paths):
    """Return the density that this process alone has fitted."""
    return unfitted().fit(paths)


def assert_same(density, here, X):
    """Compare bit for bit."""
    assert density.n_rows_.tolist() == here.n_rows_.tolist()
    np.testing.assert_array_equal(density.score_samples(X), here.score_samples(table(30, 9)))
    drawn, expected = (d.sample(12, random_state=0) for d in (density, here))
    np.testing.assert_array_equal(drawn["x"], expected["x"])
    assert drawn["c"].tolist() == expected["c"].tolist()


@pytest.mark.parametrize("kind", ["paths", "frame", "persisted"])
def test_partitions_are_fitted_on_workers(kind, paths, here, workers):
    frame = frames.from_map(pd.read_parquet, paths)
    parts = {
        "paths": lambda: paths,
        "frame": lambda: frame,
        "persisted": lambda: frame.persist().to_delayed(),
    }[kind]()
    density = unfitted().fit(parts)
    assert {part.pid_ for part in density.parts_} <= workers - {os.getpid()}
    assert {part.threads_ for part in density.parts_} == {1}
    assert_same(density, here, table(30, 9))


def test_worker_reads_what_it_fits_and_scores(paths, here, workers):
    parts = [dask.delayed(read)(path) for path in paths]
    density = unfitted().fit(parts)
    assert [readers(path)[-1] for path in paths] == [part.pid_ for part in density.parts_]
    scores = density.score_samples(iter(parts), columns=["x"], given=["c"])
    expected = [here.score_samples(pd.read_parquet(p), columns=["x"], given=["c"]) for p in paths]
    np.testing.assert_array_equal(scores, np.concatenate(expected))
    read_by = [pid for path in paths for pid in readers(path)]
    assert len(read_by) == 5  # the first also for the encoder
    assert set(read_by) <= workers - {os.getpid()}


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_other_backends_give_the_same_bits(backend, paths, here):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with parallel_config(backend=backend, n_jobs=2):
            density = unfitted().fit(paths)
            assert_same(density, here, table(30, 9))
        assert {part.threads_ for part in density.parts_} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_draws_stay_on_workers(client, here):
    parts = [dask.delayed(here.sample)(5, random_state=seed) for seed in range(2)]
    drawn = frames.from_delayed(parts, meta=table(1)[:0]).compute()
    assert drawn["x"].tolist()[:5] == here.sample(5, random_state=0)["x"].tolist()


def test_page_runs(paths, client, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names = {"QUICK": QUICK}
    for block in blocks[2:]:  # the first two start a cluster, which is here already
        quick = block.replace('["0.parquet", "1.parquet"]', repr(paths))
        quick = quick.replace("n_steps=500", "**QUICK").replace('"drawn"', repr(str(tmp_path)))
        exec(quick, names)
    assert len(blocks) == 5
    assert names["scores"].shape == (40,)
    assert len(pd.read_parquet(tmp_path)) == 20


def test_sentences_of_the_page_are_short():
    prose = re.sub(r"```.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    prose = re.sub(r"^(\||    ).*$", "", prose, flags=re.MULTILINE)  # tables and commands
    sentences = re.split(r"(?<=[.:;!?])\s+|\n\n+", prose)
    assert max(len(sentence.split()) for sentence in sentences) < 30

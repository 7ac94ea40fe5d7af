from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Without it scikit-learn skips its check of array API inputs; read when scipy is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption(
        "--tables", type=Path, default=None, help="folder with CSV files of real tables"
    )


@pytest.fixture
def tables(request):
    folder = request.config.getoption("--tables")
    if folder is None or not folder.is_dir():
        pytest.skip("needs --tables, a folder with CSV files of real tables")
    return folder

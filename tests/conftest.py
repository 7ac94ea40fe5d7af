from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(2)


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

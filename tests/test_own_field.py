"""The pages on a field and a network of one's own: their code runs, and fields are densities."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from skbellman.likelihood import FlowIntegral

PAGES = Path(__file__).parent.parent / "doc"


def code_of(page: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
    return code


def test_the_page_on_a_field_of_ones_own():
    code = code_of("fields.md")
    own_class = re.search(r"class MyField.*?\n\n\n", code, re.DOTALL)
    assert own_class is not None
    assert own_class.group().strip().count("\n") < 30
    names: dict = {}
    exec(code, names)
    field, rows, schedule = names["field"], names["rows"], names["schedule"]
    reference, scores = names["reference"], names["scores"]
    assert scores.mean() > reference.log_scalar(rows[:100], 0.02).mean() + 0.5
    axis = torch.linspace(-4, 4, 81)
    points = torch.cartesian_prod(axis, axis)
    for asked in (field, names["mixed"]):
        with torch.no_grad():
            mass = FlowIntegral(32).log_density(asked, points, schedule).exp().sum() * 0.1**2
        assert abs(float(mass) - 1) < 0.03
    near_a_mode = (names["draws"].abs() - 1).abs().amax(1) < 1
    assert float(near_a_mode.float().mean()) > 0.9


def test_the_page_on_images():
    names: dict = {}
    exec(code_of("images.md").replace("n_steps=400", "n_steps=150"), names)
    field, rows, schedule = names["field"], names["rows"], names["schedule"]
    alone = -field.reference.log_scalar(rows[1600:], schedule(0.0)).mean()
    peaks = schedule(0.0).log().sum() + 32 * torch.tensor(2 * torch.pi).log()
    of_pixels = float((alone - peaks) / 64 / torch.tensor(2.0).log())
    assert float(names["bits"]) < of_pixels - 0.1
    assert bool((names["completed"][:, 32:] == rows[1600:1610, 32:]).all())
    values = names["drawn"] * names["unit"] + names["mean"]
    assert float((values - values.round()).abs().mean()) < 0.15

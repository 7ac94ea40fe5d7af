"""The page on a field of one's own: its code runs, and the field is a density."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from skbellman.likelihood import FlowIntegral

PAGE = Path(__file__).parent.parent / "doc" / "fields.md"


def test_the_page_on_a_field_of_ones_own():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
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

"""What else one would fit to a table of numbers, tuned on the validation rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import zuko
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity


def kernel_density(train: np.ndarray, validation: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Bandwidth on the validation rows, then fitted to both parts."""
    models = [KernelDensity(bandwidth=h).fit(train) for h in np.geomspace(0.02, 1.0, 15)]
    best = max(models, key=lambda model: model.score(validation))
    return best.fit(np.vstack([train, validation])).score_samples


def gaussian_mixture(train: np.ndarray, validation: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Components and ridge on the validation rows, then fitted to both parts."""
    models = [
        GaussianMixture(k, reg_covar=ridge, random_state=0).fit(train)
        for k in (1, 2, 3, 5, 8, 12, 16, 24, 32)
        for ridge in (1e-6, 1e-4, 1e-3, 1e-2)
        if k <= len(train) / 4
    ]
    best = max(models, key=lambda model: model.score(validation))
    return best.fit(np.vstack([train, validation])).score_samples


def spline_flow(train: np.ndarray, validation: np.ndarray) -> Callable[[np.ndarray], Any]:
    """zuko's NSF, stopped when 20 epochs bring nothing on the validation rows."""
    torch.manual_seed(0)
    fit, held_out = (torch.tensor(part, dtype=torch.float32) for part in (train, validation))
    flow = zuko.flows.NSF(fit.shape[1], transforms=3, hidden_features=(128, 128))
    optimiser = torch.optim.Adam(flow.parameters(), 1e-3)
    best, best_loss, stale = copy.deepcopy(flow), np.inf, 0
    while stale < 20:
        for rows in torch.randperm(len(fit)).split(256):
            loss = -flow().log_prob(fit[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            validation_loss = -float(flow().log_prob(held_out).mean())
        stale += 1
        if validation_loss < best_loss:
            best, best_loss, stale = copy.deepcopy(flow), validation_loss, 0

    def score_samples(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return best().log_prob(torch.tensor(rows, dtype=torch.float32)).numpy()

    return score_samples


PEERS = {"KDE": kernel_density, "GMM": gaussian_mixture, "NSF": spline_flow}

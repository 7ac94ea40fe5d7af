"""Fields in closed form, fitted to rows: the reference, the columns' mixtures, the mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from skbellman.batches import CHUNK, Rows
from skbellman.categories import with_categories
from skbellman.column_laws import column_mixtures
from skbellman.fields import ClosedFormField, ColumnShapes, GaussianMixtureField
from skbellman.mixtures import best_mixture, normal_moments, refined, shares_of
from skbellman.schedule import NoiseSchedule, masked


def fit_reference(
    rows: Rows,
    schedule: NoiseSchedule,
    ridges: Sequence[float] = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.3),
    most_rows: int = 2**18,
    n_judges: int = 10_000,
) -> ClosedFormField:
    """Return the Gaussian with the moments of the numbers, and the shares of the levels.

    The ridge on the covariance maximises the likelihood of the validation rows.
    """
    numbers = rows.draws.flatten(0, 1)[:most_rows, : rows.n_numbers].double()
    mean, covariance = (torch.as_tensor(m) for m in normal_moments(numbers.cpu().numpy()))
    eye = torch.eye(len(mean), dtype=numbers.dtype)
    candidates = [
        GaussianMixtureField.normal(mean, covariance + ridge * eye).to(numbers) for ridge in ridges
    ]
    path, judges = masked(schedule, rows.validation[:n_judges].double())
    floor = path(0.0).double()[..., : rows.n_numbers]
    scores = [c.log_scalar(judges[:, : rows.n_numbers], floor).mean() for c in candidates]
    best = candidates[int(torch.stack(scores).argmax())].to(rows.draws)
    first = rows.draws[0]
    return with_categories(best, first, torch.ones_like(first[:, :1]), rows.corners)


def column_shapes(numbers: Tensor) -> ColumnShapes | None:
    """Return the laws of columns of numbers, (n, P), NaN where a value is missing."""
    if not numbers.shape[1]:
        return None
    parts = column_mixtures(numbers.double().cpu().numpy())
    weights, means, variances = (torch.as_tensor(part).to(numbers) for part in parts)
    return ColumnShapes(weights.log(), means, variances)


def without_missing(
    rows: Rows, reference: ClosedFormField, schedule: NoiseSchedule, seed: int
) -> Rows:
    """Return the first training rows, with NaN filled by samples of the reference."""
    if not bool(torch.isnan(rows.whole).any()):
        return rows
    generator = torch.Generator(rows.draws.device).manual_seed(seed)
    parts = rows.whole.split(CHUNK)
    filled = [reference.draw_given(part, schedule(0.0), generator) for part in parts]
    return replace(rows, draws=torch.cat(filled).unsqueeze(0))


def fit_mixture(rows: Rows, schedule: NoiseSchedule, seed: int) -> ClosedFormField:
    """Return the closed-form mixture whose number of classes minimises the BIC.

    Gaussians are fitted to rows with noise of the lowest level, because categories would be points
    without it. The covariances are then corrected for this noise. Each Gaussian becomes a class, in
    which categories are independent of the rest. No value may be missing.
    """
    floor, rng = schedule(0.0).double().cpu().numpy(), np.random.default_rng(seed)
    noisy = rows.whole.double().cpu().numpy()[rng.permutation(len(rows.whole))]
    for part in np.array_split(noisy, len(noisy) // CHUNK + 1):
        part += floor * rng.standard_normal(part.shape)
    mixture = refined(best_mixture(noisy, seed % 2**32), noisy)
    n = rows.n_numbers
    values, vectors = np.linalg.eigh(mixture.covariances_[:, :n, :n] - np.diag(floor[:n] ** 2))
    covariances = (vectors * values.clip(min=0)[:, None, :]) @ vectors.transpose(0, 2, 1)
    parts = (mixture.weights_, mixture.means_[:, :n], covariances)
    gaussians = GaussianMixtureField(*(torch.as_tensor(part).to(rows.draws) for part in parts))
    responsibilities = torch.as_tensor(shares_of(mixture, noisy)).to(rows.draws)
    x = torch.as_tensor(noisy).to(rows.draws)
    return with_categories(gaussians, x, responsibilities, rows.corners)

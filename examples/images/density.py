"""A density of images of whole numbers, from a network of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from skbellman.fields import DiagonalGaussianField, GridField, NetworkField
from skbellman.fitting import fit_own_field
from skbellman.likelihood import FlowIntegral
from skbellman.sampling import Annealing, draw_given
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan

# Lowest level in the distance of neighbouring values: peaks of a grid hardly overlap, cells are
# hardly blurred. The highest level in deviations of the pixels.
PEAK, BLUR, CEILING = 0.12, 0.1, 20.0


class ImageDensity:
    """The density of images whose pixels are whole numbers from 0 to n_values - 1.

    Parameters
    ----------
    network : callable
        See `skbellman.fields.NetworkField`.
    n_values : int
        17 for scikit-learn's digits, 256 for most images.
    grid : bool
        Whether the reference knows the values (`GridField`). If not, images are dequantised
        uniformly and the reference is a `DiagonalGaussianField`: less memory for many values.
    n_steps, learning_rate, batch_size, conditional_fraction
        Of the training.
    """

    def __init__(
        self,
        network: Callable[[int], nn.Module],
        n_values: int,
        *,
        grid: bool = True,
        n_steps: int = 2000,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.3,
        batch_size: int = 128,
        conditional_fraction: float = 0.15,
        seed: int = 0,
    ) -> None:
        self.network, self.n_values, self.grid, self.seed = network, n_values, grid, seed
        self.batch_size, self.conditional_fraction = batch_size, conditional_fraction
        self.plan = Plan(
            n_steps, learning_rate, weight_decay, n_evaluations=20, patience=20, largest_decay=0.998
        )

    def fit(self, images: np.ndarray, validation: np.ndarray) -> ImageDensity:
        """Fit to images, (n, ...), and choose the state by others."""
        self.shape = images.shape[1:]
        torch.manual_seed(self.seed)  # of the network's first weights
        self.mean, self.unit = float(images.mean()), float(images.std())
        rows = self.coordinates(images)
        reference = self._reference(images) if self.grid else _independent(rows)
        floor = torch.full((rows.shape[1],), (PEAK if self.grid else BLUR) / self.unit)
        self.schedule = NoiseSchedule(floor, torch.full_like(floor, CEILING))
        self.field = NetworkField(reference, self.network)
        draws = rows if self.grid else torch.stack([self.coordinates(images) for _ in range(16)])
        self.record = fit_own_field(
            self.field,
            draws,
            self.coordinates(validation),
            self.schedule,
            self.plan,
            batch_size=self.batch_size,
            conditional_fraction=self.conditional_fraction,
            seed=self.seed,
        )
        self.field.requires_grad_(False)
        return self

    def log_density(self, images: np.ndarray, integral: FlowIntegral) -> np.ndarray:
        """Return log-probabilities of images, (n,), in nats.

        Lower bounds in expectation, by Jensen's inequality: of each value's cell, the density is
        asked at one place. That is the value with noise of the floor, or one of uniform noise.
        """
        x = self.coordinates(images)
        log_proposal = x.new_full((len(x),), x.shape[1] * math.log(self.unit))
        if self.grid:
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(self.seed))
            x = x + self.schedule.floor * noise
            log_proposal = -(0.5 * noise.square() + self.schedule.floor.log()).sum(1)
            log_proposal = log_proposal - x.shape[1] * 0.5 * math.log(2 * math.pi)
        return (integral.log_density(self.field, x, self.schedule) - log_proposal).numpy()

    def bits(self, images: np.ndarray, integral: FlowIntegral) -> np.ndarray:
        """Return bits per pixel, (n,)."""
        n_pixels = math.prod(self.shape)
        return -self.log_density(images, integral) / (n_pixels * math.log(2))

    def sample(
        self, n: int, annealing: Annealing, given: np.ndarray | None = None, seed: int = 0
    ) -> np.ndarray:
        """Return images, (n, ...); NaN in given images, (n, ...), are the pixels to be drawn."""
        nothing = np.full((n, *self.shape), np.nan)
        rows = self.coordinates(nothing if given is None else given)
        generator = torch.Generator().manual_seed(seed)
        parts = [
            draw_given(self.field, part, self.schedule, annealing, generator)
            for part in rows.split(512)
        ]
        values = torch.cat(parts) * self.unit + self.mean
        values = values.round() if self.grid else values.floor()
        return values.clamp(0, self.n_values - 1).view(-1, *self.shape).numpy().astype(int)

    def coordinates(self, images: np.ndarray) -> Tensor:
        """Return rows of about unit scale, (n, D), dequantised unless the reference is a grid."""
        values = torch.as_tensor(images.reshape(len(images), -1), dtype=torch.float32)
        if not self.grid:
            values = values + torch.rand(values.shape)
        return (values - self.mean) / self.unit

    def _reference(self, images: np.ndarray) -> GridField:
        """Return the shares of values in each pixel. Any pixel may have what others have."""
        codes = images.reshape(len(images), -1)
        counts = np.stack([(codes == value).sum(0) for value in range(self.n_values)], -1)
        anywhere = counts.sum(0) + 1
        points = (torch.arange(self.n_values) - self.mean) / self.unit
        return GridField(points, torch.tensor(counts + 2 * anywhere / anywhere.sum()).float())


def _independent(rows: Tensor) -> DiagonalGaussianField:
    return DiagonalGaussianField(rows.mean(0), rows.var(0) + 0.01)

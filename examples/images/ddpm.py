"""DDPM (arXiv 2006.11239) of the same network, steps and batches, as a peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from skbellman.fields import DensityField, DiagonalGaussianField
from skbellman.fields.base import Levels, as_levels
from skbellman.likelihood import FlowIntegral
from skbellman.schedule import NoiseSchedule
from skbellman.training import Plan, train

N_TIMES = 1000


class NoiseField(DensityField):
    r"""The field of a network that predicts the noise: :math:`h = -\epsilon / \sigma`.

    DDPM's rows are :math:`\sqrt{\bar\alpha} y + \sqrt{1 - \bar\alpha} n`; here they are divided by
    the first root.
    """

    def __init__(self, network: nn.Module, reference: DiagonalGaussianField) -> None:
        super().__init__()
        self.n_columns, self.network, self.reference = reference.n_columns, network, reference

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the predicted noise, (..., n, D)."""
        levels = sigma.expand_as(x)
        scaled = (x / (1 + levels.square()).sqrt()).reshape(-1, self.n_columns)
        inputs = (levels.log() / 4).reshape(scaled.shape)
        return self.network(scaled, inputs, torch.ones_like(inputs, dtype=torch.bool)).view_as(x)

    def log_gradient(self, x: Tensor, sigma: Levels) -> Tensor:
        levels = as_levels(sigma, x)
        return -self.noise(x, levels) / levels

    def log_scalar(self, x: Tensor, sigma: Levels) -> NoReturn:
        raise NotImplementedError

    def gradient_products(
        self, x: Tensor, sigma: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            points = x.detach().requires_grad_()
            h0, r = self.gradient_parts(points, sigma)
        grad = torch.autograd.grad
        products = [grad(r, points, each, retain_graph=True)[0] for each in directions]
        return h0.detach(), r.detach(), torch.stack(products)


class DDPM:
    """A denoising diffusion model with the linear schedule and the simple loss of its paper.

    It learns whole values, as in its paper, or values with uniform noise, which have a density.
    """

    def __init__(
        self,
        network: Callable[[int], nn.Module],
        n_values: int,
        *,
        n_steps: int,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.3,
        batch_size: int = 128,
        dequantised: bool = True,
        seed: int = 0,
    ) -> None:
        self.network, self.n_values, self.seed = network, n_values, seed
        self.batch_size, self.dequantised = batch_size, dequantised
        self.plan = Plan(
            n_steps, learning_rate, weight_decay, n_evaluations=20, patience=20, largest_decay=0.998
        )
        self.betas = torch.linspace(1e-4, 0.02, N_TIMES)
        kept = (1 - self.betas).cumprod(0)
        self.sigmas = ((1 - kept) / kept).sqrt()

    def fit(self, images: np.ndarray, validation: np.ndarray) -> DDPM:
        """Fit to images, (n, ...), and choose the state by others."""
        self.shape = images.shape[1:]
        torch.manual_seed(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        rows, judges = self.coordinates(images), self.coordinates(validation).repeat(16, 1)
        reference = DiagonalGaussianField(rows.mean(0), rows.var(0) + 1e-3)
        self.field = NoiseField(self.network(rows.shape[1]), reference)
        times = torch.randint(N_TIMES, (len(judges), 1), generator=generator)
        judge_noise = torch.randn(judges.shape, generator=generator)

        def squares(field: nn.Module, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
            return (field.noise(clean + sigma * noise, sigma) - noise).square().mean()

        def loss(field: nn.Module) -> Tensor:
            picked = torch.randint(len(images), (self.batch_size,), generator=generator)
            clean = self.coordinates(images[picked.numpy()])
            sigma = self.sigmas[torch.randint(N_TIMES, (len(clean), 1), generator=generator)]
            return squares(field, clean, sigma, torch.randn(clean.shape, generator=generator))

        @torch.no_grad()
        def evaluate(field: nn.Module) -> dict[str, float]:
            field.eval()
            parts = zip(
                judges.split(512),
                self.sigmas[times].split(512),
                judge_noise.split(512),
                strict=True,
            )
            return {"score": -float(np.mean([float(squares(field, *part)) for part in parts]))}

        self.record = train(self.field, loss, self.plan, evaluate)
        self.field.eval().requires_grad_(False)
        return self

    def bits(self, images: np.ndarray, integral: FlowIntegral) -> np.ndarray:
        """Return bits per pixel of dequantised images, (n,), by the probability flow."""
        x = self.coordinates(images)
        ones = torch.ones(x.shape[1])
        schedule = NoiseSchedule(self.sigmas[0] * ones, self.sigmas[-1] * ones)
        logs = integral.log_density(self.field, x, schedule)
        return (-logs / (x.shape[1] * math.log(2)) + math.log2(self.n_values / 2)).numpy()

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Return images, (n, ...), by all steps of the reverse chain."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, self.field.n_columns, generator=generator)
        kept = (1 - self.betas).cumprod(0)
        for t in range(N_TIMES - 1, -1, -1):
            noise = self.field.noise(x / kept[t].sqrt(), self.sigmas[t])
            x = (x - self.betas[t] / (1 - kept[t]).sqrt() * noise) / (1 - self.betas[t]).sqrt()
            if t:
                x = x + self.betas[t].sqrt() * torch.randn(x.shape, generator=generator)
        values = ((x + 1) / 2 * self.n_values).floor() if self.dequantised else self._rounded(x)
        values = values.clamp(0, self.n_values - 1)
        return values.view(-1, *self.shape).numpy().astype(int)

    def coordinates(self, images: np.ndarray) -> Tensor:
        """Return rows in [-1, 1], (n, D)."""
        values = torch.as_tensor(images.reshape(len(images), -1), dtype=torch.float32)
        if not self.dequantised:
            return 2 * values / (self.n_values - 1) - 1
        return 2 * (values + torch.rand(values.shape)) / self.n_values - 1

    def _rounded(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2 * (self.n_values - 1)).round()

"""The objectives whose minimisers are the fields, and the noise levels of training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from skbellman.fields import DensityField, NeuralField
from skbellman.fields.base import is_seen
from skbellman.schedule import NoiseSchedule


def denoising_loss(
    field: DensityField,
    clean: Tensor,
    sigma: Tensor,
    noise: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Denoising form of gradient matching: its minimiser is h = grad log p_sigma.

    .. math:: E\,(1 + \sigma^2)\,|\sigma h(y + \sigma n, \sigma) + n|^2, \qquad y \sim p,\; n \sim N(0, I),

    the mean over the columns that are seen. It is :math:`D_{grad}` of arXiv 2410.01796
    (section 3) with weight :math:`1 / p_\sigma` in place of :math:`p`, after integration by parts
    (Vincent 2011): single rows, no kernel.

    Parameters
    ----------
    field : DensityField
    clean : tensor of shape (..., n, D)
        Rows y.
    sigma : tensor of shape (..., 1, D) or (..., n, D)
        Noise levels; inf for a hidden column.
    noise : tensor of shape (..., n, D)
        Standard normal n.
    weight : tensor of shape (..., 1 or n, D), optional
        In place of 1 + sigma^2, see `level_weight`.

    Returns
    -------
    tensor of shape ()
    """  # noqa: E501 - one formula
    noisy, finite = with_noise(clean, sigma, noise)
    error = finite * field.log_gradient(noisy, sigma) + noise
    seen = is_seen(sigma)
    squares = torch.where(seen, error.square(), 0.0)
    weighted = ((1 + finite.square() if weight is None else weight) * squares).sum((-1, -2))
    return (weighted / seen.expand_as(squares).sum((-1, -2)).clamp(min=1)).mean()


def with_noise(clean: Tensor, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows with noise, and levels, both 0 in columns that are not seen."""
    seen = is_seen(sigma)
    finite = torch.where(seen, sigma, 0.0)
    return torch.where(seen, clean + finite * noise, 0.0), finite


def shares_of_own(noisy: Tensor, sigma: Tensor, own: Tensor) -> Tensor:
    r"""Return the probability of each of the batch's rows to be the clean row of a noisy one.

    .. math:: w_i \propto N(x; y_i, \sigma^2)

    Parameters
    ----------
    noisy : tensor of shape (n_batches, n_groups, n, D)
        Rows x with noise.
    sigma : tensor of shape (n_batches, n_groups, 1 or n, D)
    own : tensor of shape (n_batches, m, D)
        Clean rows y of the batch, with NaN for missing values. A row is no candidate for noisy rows
        in which its missing values are observed.

    Returns
    -------
    tensor of shape (n_batches, n_groups n, m)
    """
    seen = is_seen(sigma)
    lacks = torch.isnan(own)
    x, y = noisy.flatten(1, 2), torch.where(lacks, 0.0, own)
    precision = torch.where(seen, sigma.reciprocal().square(), 0.0)
    precision = precision.expand_as(noisy).flatten(1, 2)
    logs = (x * precision) @ y.mT - 0.5 * precision @ y.square().mT
    if bool(lacks.any()):
        asked = (precision > 0).to(y) @ lacks.to(y).mT > 0
        logs = torch.where(asked, -torch.inf, logs)
    return logs.softmax(-1)


def averaged_noise(noisy: Tensor, sigma: Tensor, own: Tensor, shares: Tensor) -> Tensor:
    r"""Return the expected noise in a row, if it comes from the batch's own rows.

    .. math:: \bar n = \frac{x - \sum_i w_i y_i}{\sigma}

    It replaces the added noise. It has less variance, and the same mean given x in the limit of all
    rows (stable target field, arXiv 2302.00670). Parameters are as for `shares_of_own`, which
    returns the w.

    Returns
    -------
    tensor of shape (n_batches, n_groups, n, D)
    """
    mean = (shares @ own.nan_to_num(0.0)).view_as(noisy)
    return torch.where(is_seen(sigma), (noisy - mean) / sigma, 0.0)


def taught_noise(teacher: DensityField, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Return the noise that a known field expects in rows: -sigma h, 0 in hidden columns.

    If it replaces the added noise, the minimiser of the `denoising_loss` is the teacher's h, for
    rows of any distribution. This regression has no noise of single rows. The teacher may be a
    mixture, which becomes one network.
    """
    seen = is_seen(sigma)
    return torch.where(seen, -sigma * teacher.log_gradient(noisy, sigma), 0.0)


def regression_loss(field: NeuralField, x: Tensor, sigma: Tensor, log_ratio: Tensor) -> Tensor:
    r"""Identity matching on known values of log s - log s_0.

    It is the mean Huber error, with a threshold of 1 nat. A few outlying rows, where log s_0 is
    wrong by tens of nats, would dominate squared errors.

    Parameters
    ----------
    field : NeuralField
    x : tensor of shape (..., n, D)
    sigma : tensor of shape (..., 1, D)
    log_ratio : tensor of shape (..., n)
        From `FlowIntegral.log_ratios`.
    """
    return huber_loss(field.log_scalar_residual(x, sigma), log_ratio)


def shared_levels(
    schedule: NoiseSchedule,
    n_groups: int,
    generator: torch.Generator,
    batches: tuple[int, ...] = (),
) -> Tensor:
    r"""Draw one level for all columns per group of rows, stratified: (*batches, n_groups, 1, D).

    In every other group :math:`\sigma` is log-uniform. This trains the high levels, which decide
    the category of a sampled row. In the others :math:`q = \sigma / \sqrt{1 + \sigma^2}` is: the
    density of log sigma is proportional to :math:`1 / (1 + \sigma^2)` then, as the log-density
    weighs errors. See `level_weight`.
    """
    device, floor, ceiling = generator.device, schedule(0.0), schedule(1.0)
    jitter = torch.rand(*batches, n_groups, 1, generator=generator, device=device)
    groups = torch.arange(n_groups, device=device).unsqueeze(-1)
    t = (groups + jitter).to(floor) / n_groups
    q = _q(floor) ** (1 - t) * _q(ceiling) ** t
    by_q = q / ((1 - q) * (1 + q)).sqrt()
    return torch.where(groups % 2 == 0, schedule(t.squeeze(-1)), by_q).unsqueeze(-2)


def level_weight(schedule: NoiseSchedule, sigma: Tensor) -> Tensor:
    r"""Return weights for squared errors of noise at `shared_levels`, as the log-density has them.

    It is 1 over the density of log sigma, up to a constant: :math:`1 + \sigma^2`, were all levels
    drawn by q. Infinite levels have weight 0.
    """
    floor, ceiling = schedule(0.0), schedule(1.0)
    ratio = (_q(ceiling) / _q(floor)).log() / (ceiling / floor).log()
    return torch.where(is_seen(sigma), 2 / (ratio + 1 / (1 + sigma.square())), 0.0)


def _q(sigma: Tensor) -> Tensor:
    return sigma / (1 + sigma.square()).sqrt()


def antithetic_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw noise of the shape (..., 2 m, D) whose second m rows are minus the first.

    For the same clean rows, the two signs cancel the noise of the loss if h is linear over the
    distance sigma. This holds at low levels.
    """
    shape = (*like.shape[:-2], like.shape[-2] // 2, like.shape[-1])
    noise = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
    return torch.cat([noise, -noise], -2)


def mixed_levels(
    schedule: NoiseSchedule,
    blocks: Tensor,
    n_groups: int,
    generator: torch.Generator,
    batches: tuple[int, ...] = (),
) -> Tensor:
    """Draw levels that teach conditionals and marginals: (*batches, n_groups, 1, D).

    In each group, a random share of the table's columns is observed (at the lowest level). Of the
    others, a random share is hidden (inf), and the rest is noisy, all at one level. At least one
    column is noisy. ``blocks``, of shape (D,), numbers the table's column that each column of x
    belongs to: the columns of a category are observed or hidden together.
    """
    levels = shared_levels(schedule, n_groups, generator, batches)
    shape = (*batches, n_groups)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=generator.device)

    n_blocks = int(blocks.max()) + 1
    observed = uniform(*shape, n_blocks) < uniform(*shape, 1)
    unseen = uniform(*shape, n_blocks) < uniform(*shape, 1).square()
    moving = (uniform(*shape) * n_blocks).long().unsqueeze(-1)
    observed.scatter_(-1, moving, False)
    unseen.scatter_(-1, moving, False)
    levels = torch.where(observed[..., None, blocks], schedule.floor, levels)
    return torch.where((unseen & ~observed)[..., None, blocks], torch.inf, levels)


def pairwise_gradient_loss(field: DensityField, x: Tensor, others: Tensor, eps: float) -> Tensor:
    r"""Pairwise gradient matching of arXiv 2410.01796, section 3: its minimiser is g = grad p.

    .. math:: E\,|g(x_1)|^2 + E\,\mathrm{tr}\,\nabla g(x_1)\; N(x_1 - x_2; 0, \epsilon I)

    which is :math:`E_p |g - \nabla p|^2` up to a constant as eps goes to 0. At finite eps the
    minimiser is :math:`\tfrac12 (\nabla p_\epsilon + p_\epsilon \nabla \log p)`.

    Parameters
    ----------
    field : DensityField
        Asked at level 0.
    x, others : tensor of shape (n, D), (m, D)
        Rows x_1 and x_2: no row may be in both, for a pair of itself has the kernel's peak.
    eps : float
        Variance of the kernel in each column.

    Returns
    -------
    tensor of shape ()
    """
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    gradient, slopes = _gradient_and_slopes(field, x, basis)
    return (gradient.square().sum(-1) + slopes.sum(0) * kernel_density(x, others, eps)).mean()


def pairwise_identity_loss(field: DensityField, x: Tensor, others: Tensor, eps: float) -> Tensor:
    r"""Pairwise identity matching of arXiv 2410.01796, section 3: its minimiser is s = p_eps.

    .. math:: E\,s(x_1)^2 - 2\,E\,s(x_1)\, N(x_1 - x_2; 0, \epsilon I)

    which is :math:`E_p (s - p_\epsilon)^2` up to a constant: a kernel density estimate with
    variance eps, distilled into s. Parameters as for `pairwise_gradient_loss`.
    """
    scalar = field.scalar(x, 0.0)
    return (scalar.square() - 2 * scalar * kernel_density(x, others, eps)).mean()


def sliced_gradient_loss(
    field: DensityField, x: Tensor, others: Tensor, directions: Tensor, eps: float
) -> Tensor:
    r"""Sliced gradient matching of arXiv 2410.01796, section 3.

    .. math:: E\,(v \cdot g(x_1))^2
              + E\,v^\top \nabla g(x_1) v\; N(v \cdot (x_1 - x_2); 0, \epsilon)

    Its minimiser is grad p in one column only. In more, the kernel of the projection makes it
    a mean of gradients of one-dimensional marginals, whatever the training: on a 2-D mixture
    it is 83% off. Parameters as for `pairwise_gradient_loss`; ``directions`` are the v, of
    shape (n_slices, D).
    """
    gradient, slopes = _gradient_and_slopes(field, x, directions)
    along = (gradient @ directions.T).T
    return (along.square() + slopes * sliced_kernel_density(x, others, directions, eps)).mean()


def sliced_identity_loss(
    field: DensityField, x: Tensor, others: Tensor, directions: Tensor, eps: float
) -> Tensor:
    r"""Sliced identity matching of arXiv 2410.01796, section 3.

    .. math:: E\,s(x_1)^2 - 2\,E\,s(x_1)\, N(w \cdot (x_1 - x_2); 0, \epsilon)

    Its minimiser is :math:`E_w\,p_w(w \cdot x)`, a mean of one-dimensional marginals and no
    density on the columns: it is p in one column only. Parameters as for
    `sliced_gradient_loss`; ``directions`` are the w.
    """
    scalar = field.scalar(x, 0.0)
    target = sliced_kernel_density(x, others, directions, eps).mean(0)
    return (scalar.square() - 2 * scalar * target).mean()


def slice_directions(
    kind: str, n_slices: int, n_columns: int, generator: torch.Generator
) -> Tensor:
    """Draw directions, (n_slices, D): uniform on the "sphere", "gaussian", or along "axes"."""
    shape, device = (n_slices, n_columns), generator.device
    if kind == "axes":
        columns = torch.randint(n_columns, (n_slices,), generator=generator, device=device)
        return torch.eye(n_columns, device=device)[columns]
    normal = torch.randn(shape, generator=generator, device=device)
    return normal if kind == "gaussian" else normal / normal.norm(dim=-1, keepdim=True)


def kernel_density(x: Tensor, others: Tensor, eps: float) -> Tensor:
    """Return the mean over the others of N(x - other; 0, eps I), shape (n,)."""
    log_kernel = -torch.cdist(x, others).square() / (2 * eps)
    return log_kernel.exp().mean(-1) * (2 * torch.pi * eps) ** (-x.shape[-1] / 2)


def sliced_kernel_density(x: Tensor, others: Tensor, directions: Tensor, eps: float) -> Tensor:
    """Return `kernel_density` of each projection, shape (n_slices, n)."""
    projections = (directions @ x.T).unsqueeze(-1), (directions @ others.T).unsqueeze(-1)
    return kernel_density(*projections, eps)


def likeliest_bandwidth(x: Tensor) -> float:
    """Return the eps that maximises the leave-one-out likelihood of the kernel density.

    ``x`` has shape (n, D) and about unit scale; the candidates are sqrt(eps) = 0.05 to 1.
    """
    squares = torch.cdist(x, x).square().fill_diagonal_(torch.inf)
    candidates = torch.logspace(-2.6, 0, 27, dtype=x.dtype, device=x.device)  # of eps
    scores = [
        (-squares / (2 * eps)).logsumexp(-1).mean() - x.shape[1] / 2 * eps.log()
        for eps in candidates
    ]
    return float(candidates[int(torch.stack(scores).argmax())])


def _gradient_and_slopes(
    field: DensityField, x: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """Return g(x), (n, D), and v . grad (v . g) for each direction v, (n_directions, n)."""
    n_columns = x.shape[1]
    many = len(directions) > n_columns  # then the whole Jacobian is cheaper
    basis = torch.eye(n_columns).to(x) if many else directions

    # Reverse mode is used, because forward mode has one level for all threads.
    trained = torch.is_grad_enabled() and any(p.requires_grad for p in field.parameters())
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        g = field.gradient(points, 0.0)
        each = basis.unsqueeze(1).expand(-1, *x.shape)
        (changes,) = torch.autograd.grad(
            g, points, each, create_graph=trained, is_grads_batched=True
        )
    g, changes = (g, changes) if trained else (g.detach(), changes.detach())
    if many:
        return g, torch.einsum("vk,kni,vi->vn", directions, changes, directions)
    return g, torch.einsum("vni,vi->vn", changes, directions)

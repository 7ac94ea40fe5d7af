"""A step of learning, beside the plain words for it: torch's graph, and a formula for each row."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from skbellman.returns.basis import GaussianBasis, cubic_weights
from skbellman.returns.batch import Batch
from skbellman.returns.bellman import project_backup, push_forward
from skbellman.returns.direct import DirectLearner, DirectReturnField
from skbellman.returns.fields import BasisReturnField
from skbellman.returns.frames import Features, FramedReturnField, Frames
from skbellman.returns.learners import FramedLearner, GreedyLearner
from skbellman.returns.optimiser import Adam, BlockwiseAdam
from skbellman.returns.perceptron import Pass, perceptron
from skbellman.returns.simplex import law_of_mean, nearest_law
from skbellman.returns.support import FixedSupport, Support

BASIS = GaussianBasis(-4.0, 4.0, 31)
N, N_ACTIONS, RATE, TARGET_RATE = 40, 3, 1e-2, 0.1


def batch(seed: int, policy: bool = False) -> Batch:
    """Return random steps; a third are the last."""
    draw = torch.Generator().manual_seed(seed)
    state, after = torch.randn(2, N, 4, generator=draw, dtype=torch.float64)
    shares = torch.rand(N, N_ACTIONS, generator=draw, dtype=torch.float64)
    return Batch(
        state,
        after,
        torch.randint(N_ACTIONS, (N,), generator=draw),
        torch.randn(N, generator=draw, dtype=torch.float64),
        torch.rand(N, generator=draw) > 0.3,
        policy=shares / shares.sum(1, keepdim=True) if policy else None,
    )


def field(hidden: tuple[int, ...] = (16, 16), in_frames: bool = False) -> BasisReturnField:
    torch.manual_seed(0)
    kind = BasisReturnField
    if in_frames:
        features = Features(4, 0, torch.Generator().manual_seed(0))
        kind = partial(FramedReturnField, frames=Frames(features, N_ACTIONS, (-9.0, 9.0), 1.0))
    made = kind(4, N_ACTIONS, hidden, BASIS).double()
    nn.init.normal_(made.last_layer.weight, std=0.1)
    return made


def plain_law_of_mean(weights: torch.Tensor) -> torch.Tensor:
    """Return the projection on the simplex found by bisection, and two tilts."""
    place = torch.linspace(-1, 1, weights.shape[1], dtype=weights.dtype)
    low, high = weights.amin(1, keepdim=True) - 1, weights.amax(1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        too_much = (weights - middle).clamp(min=0).sum(1, keepdim=True) > 1
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    law, mean = (weights - low).clamp(min=0), (weights @ place).clamp(-1, 1)
    for _ in range(2):
        offset = place - (law @ place)[:, None]
        tilt = (mean - law @ place) / (law * offset**2).sum(1).clamp(min=1e-12)
        law = (law * (1 + tilt[:, None] * offset)).clamp(min=0)
        law = law / law.sum(1, keepdim=True)
    return law


def plain_goal(own, target, steps: Batch, discount: float, greedy: bool):
    """Return the projected backup of a batch: coordinates if greedy, else weights."""
    if greedy:
        after = target(steps.next_state)
        best = target.means(steps.next_state).argmax(1)
        weights = plain_law_of_mean(BASIS.weights(after[torch.arange(N), best]))
        return project_backup(BASIS, steps.reward, discount, steps.follows, weights)
    shares = steps.policy
    if shares is None:  # the field chooses
        shares = torch.eye(N_ACTIONS).double()[own.means(steps.next_state).argmax(1)]
    laws = target.network(steps.next_state).view(N, N_ACTIONS, -1).softmax(-1)
    mixed = torch.einsum("na,nak->nk", shares, laws)
    return plain_push(steps.reward, discount * steps.follows.double(), mixed)


def plain_loss(own: BasisReturnField, steps: Batch, goal, cumulative_weight: float | None):
    """Return the squared distance to coordinates, or the cross-entropy to weights."""
    rows = torch.arange(N), steps.action
    if cumulative_weight is None:
        logits = own.network(steps.state).view(N, N_ACTIONS, -1)[rows]
        return -(goal * logits.log_softmax(-1)).sum(1).mean()
    gap = own(steps.state)[rows] - goal
    spread = cumulative_weight * BASIS.cumulative(gap).square().sum(1)
    return (gap.square().sum(1) + spread).mean()


def plain_push(reward, discount, weights):
    """Return weights whose atoms are interpolated row by row."""
    found = torch.zeros_like(weights)
    for row in range(len(reward)):
        atoms = reward[row] + discount[row] * BASIS.centres
        nodes, shares = cubic_weights((atoms - BASIS.low) / BASIS.spacing, BASIS.size)
        for k in range(BASIS.size):
            found[row].index_add_(0, nodes[k], weights[row, k] * shares[k])
    return found


class PlainBlockwise:
    """One second moment for each tensor, tensor by tensor."""

    def __init__(self, parameters, rate: float) -> None:
        self.parameters, self.rate, self.n = list(parameters), rate, 0
        self.means, self.squares = [0.0 for _ in self.parameters], [0.0 for _ in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        self.n += 1
        for k, parameter in enumerate(self.parameters):
            self.means[k] = 0.9 * self.means[k] + 0.1 * parameter.grad
            self.squares[k] = 0.999 * self.squares[k] + 0.001 * parameter.grad.square().mean()
            size = (self.squares[k] / (1 - 0.999**self.n)).sqrt()
            parameter -= self.rate * self.means[k] / (1 - 0.9**self.n) / (size + 1e-8)


@pytest.mark.parametrize("hidden", [(), (8,), (16, 16)])
@pytest.mark.parametrize("kind", ["greedy", "in frames", "in frames, greedy"])
def test_a_step_is_that_of_the_plain_words(kind, hidden):
    own = field(hidden, in_frames=kind != "greedy")
    other, slow = copy.deepcopy(own), copy.deepcopy(own).requires_grad_(False)
    weight = None
    if kind == "greedy":
        learner = GreedyLearner(own, Support(0.9, BASIS.size), 0.9, RATE, TARGET_RATE)
        object.__setattr__(learner.objective.backup, "support", FixedSupport())
        optimiser, weight = PlainBlockwise(other.parameters(), RATE), learner.cumulative_weight
    else:
        learner = FramedLearner(own, 0.9, RATE, TARGET_RATE)
        optimiser = torch.optim.Adam(other.parameters(), RATE)
    for seed in range(6):
        steps = batch(seed, policy=kind == "in frames")
        with torch.no_grad():
            goal = plain_goal(other, slow, steps, 0.9, kind == "greedy")
        loss = plain_loss(other, steps, goal, weight)
        other.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for p, q in zip(slow.parameters(), other.parameters(), strict=True):
                p += TARGET_RATE * (q - p)
        found = learner.step(steps)
        torch.testing.assert_close(found, loss.detach(), atol=1e-6, rtol=1e-6)
    for mine, plain in ((own, other), (learner.target, slow)):
        for p, q in zip(mine.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(p.detach(), q.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("hidden", [(), (8,), (16, 12)])
def test_gradients_are_those_of_torchs_graph(hidden):
    torch.manual_seed(0)
    network = perceptron(4, hidden, 6).double()
    inputs, slopes = torch.randn(N, 4).double(), torch.randn(N, 6).double()
    outputs = network(inputs)
    (outputs * slopes).sum().backward()
    expected = [p.grad.clone() for p in network.parameters()]
    for parameter in network.parameters():
        parameter.grad.fill_(7.0)
    taken = Pass(network, inputs)
    taken.set_gradients(slopes)
    torch.testing.assert_close(taken.outputs, outputs.detach())
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_law_of_the_mean_is_that_of_plain_words():
    torch.manual_seed(0)
    weights = torch.randn(200, 31).double() * torch.rand(200, 1) + 1 / 31
    torch.testing.assert_close(law_of_mean(weights), plain_law_of_mean(weights))
    assert (nearest_law(weights).sum(1) - 1).abs().max() < 1e-12


def test_atoms_are_spread_as_row_by_row():
    torch.manual_seed(0)
    reward, discount = 2 * torch.randn(20).double(), 1.2 * torch.rand(20).double()
    weights = torch.randn(20, BASIS.size).double()
    found = push_forward(BASIS, reward, discount, weights)
    torch.testing.assert_close(found, plain_push(reward, discount, weights))


@pytest.mark.parametrize(("reach", "tolerance"), [(0.3, 1e-3), (3.0, 5e-2)])
def test_a_backup_is_the_projection_of_its_atoms(reach, tolerance):
    """Within what a table of the kernel is off; its cut tails count beyond the ends alone."""
    torch.manual_seed(0)
    reward, follows = reach * torch.randn(20).double(), torch.rand(20) > 0.3
    weights = torch.softmax(3 * torch.randn(20, BASIS.size).double(), 1)
    found = project_backup(BASIS, reward, 0.9, follows, weights)
    positions = reward[:, None] + 0.9 * follows[:, None] * BASIS.centres
    torch.testing.assert_close(found, BASIS.project(positions, weights), atol=tolerance, rtol=0)


def test_adam_is_torchs():
    torch.manual_seed(0)
    own = [torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)]
    other = [p.detach().clone().requires_grad_() for p in own]
    mine, theirs = Adam(own, 1e-2), torch.optim.Adam(other, 1e-2)
    for _ in range(30):
        for p, q in zip(own, other, strict=True):
            p.grad.normal_()
            q.grad = p.grad.clone()
        mine.step()
        theirs.step()
    for p, q in zip(own, other, strict=True):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [Adam, BlockwiseAdam])
def test_what_is_forgotten_begins_anew_and_the_rest_goes_on(kind):
    torch.manual_seed(0)
    kept, forgotten, fresh = (torch.zeros(5, requires_grad=True) for _ in range(3))
    pair = kind([kept, forgotten], 0.1)
    for _ in range(5):
        pair.gradient.normal_()
        pair.step()
    alone = kind([fresh], 0.1)
    with torch.no_grad():
        fresh.copy_(forgotten)
    before = kept.detach().clone()
    pair.forget([forgotten])
    pair.gradient.zero_()
    forgotten.grad.copy_(torch.arange(5.0))
    fresh.grad.copy_(torch.arange(5.0))
    pair.step()
    alone.step()
    torch.testing.assert_close(forgotten, fresh)
    assert (kept != before).all()


def test_the_papers_form_has_the_gradients_of_its_loss():
    torch.manual_seed(0)
    own, steps = DirectReturnField(4, N_ACTIONS, (16,), -4.0, 4.0).double(), batch(0, policy=True)
    learner = DirectLearner(own, 0.9, 1e-3, 0.1)
    learner.optimiser.gradient.fill_(7.0)
    torch.manual_seed(1)
    learner.objective.set_gradients(own, learner.target, steps)
    torch.manual_seed(1)
    loss = learner.objective.loss(own, learner.target, steps)
    for parameter, expected in zip(
        own.parameters(), torch.autograd.grad(loss, list(own.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, expected)


def test_a_pickle_of_a_field_that_learned_has_its_numbers_once():
    """Its gradients lie in one vector, which is no part of it."""
    own = field(in_frames=True)
    before = len(pickle.dumps(own))
    FramedLearner(own, 0.9, RATE, TARGET_RATE).step(batch(0, policy=True))
    again = pickle.loads(pickle.dumps(own))
    assert len(pickle.dumps(own)) <= before + 100
    states = torch.randn(5, 4).double()
    torch.testing.assert_close(again(states), own(states))

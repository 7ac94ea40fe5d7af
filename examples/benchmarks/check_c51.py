"""That C51 of these benchmarks has the loss of torchrl's, on batches at random.

    pip install torchrl
    cd examples/benchmarks && python check_c51.py

The largest difference of the two over the batches is printed.
"""

from __future__ import annotations

import copy

import torch
from return_peers import Categorical
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torchrl.modules import DistributionalQValueActor
from torchrl.objectives import DistributionalDQNLoss

from skbellman.returns.batch import Batch

N, N_INPUTS, N_ACTIONS, SIZE, GAMMA, ENDS = 64, 4, 3, 11, 0.9, (-2.0, 3.0)


class LogProbabilities(nn.Module):
    """The peer's logarithms, with atoms before actions as torchrl has them."""

    def __init__(self, peer: Categorical) -> None:
        super().__init__()
        self.peer = peer

    def forward(self, states: Tensor) -> Tensor:
        return self.peer(states).log_softmax(-1).transpose(-1, -2)


def their_loss(peer: Categorical, target: Categorical, batch: Batch) -> Tensor:
    module = TensorDictModule(LogProbabilities(peer), ["observation"], ["action_value"])
    actor = DistributionalQValueActor(
        module, support=peer.atoms, action_space="one_hot", make_log_softmax=False
    )
    loss = DistributionalDQNLoss(actor, gamma=GAMMA, delay_value=True)
    slow = LogProbabilities(target).state_dict()
    values = loss.target_value_network_params
    for name, value in slow.items():
        values["module", "0", "module", *name.split(".")].data.copy_(value)
    ended = ~batch.follows.unsqueeze(-1)
    following = {
        "observation": batch.next_state, "reward": batch.reward.unsqueeze(-1),
        "done": ended, "terminated": ended,
    }  # fmt: skip
    table = {"observation": batch.state, "action": one_hot(batch.action, N_ACTIONS)}
    return loss(TensorDict({**table, "next": following}, batch_size=[N]))["loss"]


def our_loss(peer: Categorical, target: Categorical, batch: Batch) -> Tensor:
    best = one_hot(peer.best(batch.next_state), N_ACTIONS).float()
    places, shares = target.law(batch.next_state, best)
    places = batch.reward.unsqueeze(-1) + GAMMA * batch.follows.unsqueeze(-1) * places
    return peer.loss(peer(batch.state)[torch.arange(N), batch.action], places, shares)


def main() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        peer = Categorical(N_INPUTS, N_ACTIONS, SIZE, ENDS)
        target = copy.deepcopy(peer)
        for parameter in target.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        batch = Batch(
            torch.randn(N, N_INPUTS), torch.randn(N, N_INPUTS), torch.randint(N_ACTIONS, (N,)),
            torch.randn(N), torch.rand(N) < 0.8,
        )  # fmt: skip
        ours, theirs = (f(peer, target, batch).item() for f in (our_loss, their_loss))
        print(f"ours {ours:.6f}, torchrl {theirs:.6f}, difference {abs(ours - theirs):.1e}")


if __name__ == "__main__":
    main()

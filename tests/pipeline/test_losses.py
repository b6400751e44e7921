"""The loss that a block makes of a model's output, or that a training step is given, is judged with the model."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.torch_compat.modes import list_modes
from modelsummary_ipy.tracing.loss_recorder import LossRecorder
from modelsummary_ipy.tracing.watch import watch_calls

Losses = Callable[[nn.Module, Tensor], Tensor]


def make_net(width: int, last: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(
        OrderedDict(first=nn.Linear(20, 16), act=nn.ReLU(), second=nn.Linear(16, width), last=last or nn.Identity())
    )


def find_warnings(net: nn.Module, x: Tensor, lose: Losses) -> list[str]:
    with ModelSummary.watch(net) as calls:
        lose(net, x)
    warnings.simplefilter("error")  # torch's come once, from the block
    assert [flag.row for flag in calls[0].flags] == [0] * len(calls[0].flags)
    return [flag.message for flag in calls[0].flags]


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.rnn = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 50)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(ids))[0])


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.policy, self.value = nn.Linear(20, 16), nn.Linear(16, 2), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.body(x))
        return self.policy(hidden), self.value(hidden)


def lose_probabilities(net: nn.Module, x: Tensor) -> Tensor:
    loss = nn.CrossEntropyLoss()(net(x), torch.zeros(8, dtype=torch.int64))
    loss.backward()
    return loss


def lose_squared(net: nn.Module, x: Tensor) -> Tensor:
    return F.mse_loss(net(x), torch.zeros(8))


def lose_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    return ((net(x) - torch.zeros(8)) ** 2).mean()


def lose_chosen(net: nn.Module, x: Tensor) -> Tensor:
    chosen = net(x).gather(1, torch.zeros(8, 1, dtype=torch.int64))
    return F.smooth_l1_loss(chosen, torch.zeros(8))


def lose_advantage(net: nn.Module, x: Tensor) -> Tensor:
    logits, value = net(x)
    advantage = torch.zeros(8) - value.detach()
    return -(F.log_softmax(logits, -1)[:, 0] * advantage).mean() + F.mse_loss(value.squeeze(-1), torch.zeros(8))


def lose_refilled(net: nn.Module, x: Tensor) -> Tensor:
    return F.cross_entropy(net(x).view(x.size(0), 50, x.size(1)), torch.zeros(4, 13, dtype=torch.int64))


def lose_read(net: nn.Module, x: Tensor) -> Tensor:
    loss = F.cross_entropy(net(x).view(-1, 50), x.view(-1))
    loss.backward()
    return loss


def lose_largest(net: nn.Module, x: Tensor) -> Tensor:
    return F.mse_loss(net(x).argmax(1).float(), torch.zeros(8))


IDS = torch.zeros(4, 13, dtype=torch.int64)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("net", "x", "lose", "message"),
    [
        (make_net(3, nn.Softmax(1)), torch.zeros(8, 20), lose_probabilities,
         "loss = nn.CrossEntropyLoss()(net(x), torch.zeros(8, dtype=torch.int64)): cross_entropy applies log_softmax "
         "itself and reads probabilities of (8, 3) from last"),
        (make_net(1), torch.zeros(8, 20), lose_squared,
         "return F.mse_loss(net(x), torch.zeros(8)): mse_loss of (8, 1) and (8,)"),
        (make_net(1), torch.zeros(8, 20), lose_by_hand, "sub of (8, 1) and (8,)"),
        (make_net(3), torch.zeros(8, 20), lose_chosen, "smooth_l1_loss of (8, 1) and (8,)"),
        (ActorCritic(), torch.zeros(8, 20), lose_advantage,
         "advantage = torch.zeros(8) - value.detach(): sub of (8, 1) and (8,)"),
        (Sequences(), IDS, lose_refilled, "view made (4, 50, 13) of (4, 13, 50)"),
        (make_net(3), torch.zeros(8, 20), lose_largest, "argmax lets none through"),
        (Sequences(), IDS, lose_read, "the labels are the (4, 13) that embed reads"),
    ],
)  # fmt: skip
def test_a_loss_that_is_not_what_was_meant_is_flagged_on_the_root(
    net: nn.Module, x: Tensor, lose: Losses, message: str
) -> None:
    (found,) = find_warnings(net, x, lose)
    assert message in found


def lose_right(net: nn.Module, x: Tensor) -> Tensor:
    loss = F.cross_entropy(net(x), torch.zeros(8, dtype=torch.int64), label_smoothing=0.1)
    loss.backward()
    return loss


def lose_next(net: nn.Module, x: Tensor) -> Tensor:
    return F.cross_entropy(net(x[:, :-1]).reshape(-1, 50), x[:, 1:].reshape(-1))


def lose_shifted(net: nn.Module, x: Tensor) -> Tensor:
    made = net(x)
    assert (x == 0).float().mean() == 1  # a number of the labels alone is no loss
    return F.cross_entropy(made[:, :-1].reshape(-1, 50), x[:, 1:].reshape(-1))


def lose_copy(net: nn.Module, x: Tensor) -> Tensor:
    return F.mse_loss(net(x), x)


def lose_pairs(net: nn.Module, x: Tensor) -> Tensor:
    one, other = net(x), net(x + 1)
    return (F.pairwise_distance(one, other) ** 2 * torch.zeros(8)).mean()


def lose_within_batch(net: nn.Module, x: Tensor) -> Tensor:
    made = F.normalize(net(x), dim=1)
    alike = (made @ made.T / 0.5).masked_fill(torch.eye(8, dtype=torch.bool), float("-inf"))
    return F.cross_entropy(alike, torch.arange(len(made)).roll(4))


def lose_taught(net: nn.Module, x: Tensor) -> Tensor:
    made = net(x)
    with torch.no_grad():
        taught = make_net(3)(x)
    hard = F.cross_entropy(made, torch.zeros(8, dtype=torch.int64))
    return F.kl_div(F.log_softmax(made / 2, 1), F.softmax(taught / 2, 1), reduction="batchmean") * 4 + hard


def score(net: nn.Module, x: Tensor) -> Tensor:
    return (net(x).argmax(1) == torch.zeros(8)).float().mean()


@pytest.mark.parametrize(
    ("net", "x", "lose"),
    [
        (make_net(3), torch.zeros(8, 20), lose_right),
        (Sequences(), IDS, lose_next),
        (Sequences(), IDS, lose_shifted),
        (make_net(20), torch.zeros(8, 20), lose_copy),
        (make_net(5), torch.zeros(8, 20), lose_pairs),
        (make_net(5), torch.zeros(8, 20), lose_within_batch),
        (make_net(3), torch.zeros(8, 20), lose_taught),
        (make_net(3), torch.zeros(8, 20), score),
    ],
)
def test_a_right_loss_has_no_flag(net: nn.Module, x: Tensor, lose: Losses) -> None:
    assert find_warnings(net, x, lose) == []


def test_a_loss_given_for_the_training_step_is_judged() -> None:
    made = ModelSummary(make_net(3, nn.Softmax(1)), (8, 20), loss=nn.CrossEntropyLoss())
    assert [flag.message for flag in made.flags] == [
        "the loss: CrossEntropyLoss applies log_softmax itself and reads probabilities of (8, 3) from last"
    ]
    assert ModelSummary(make_net(3), (8, 20), loss=nn.CrossEntropyLoss()).flags == ()


def test_what_is_computed_stays_and_no_tensor_is_kept() -> None:
    torch.manual_seed(0)
    net, x, y = make_net(3), torch.randn(8, 20), torch.zeros(8, dtype=torch.int64)
    alone = F.cross_entropy(net(x), y)
    with watch_calls(net) as seen:
        output = net(x)
        loss = F.cross_entropy(output, y)
    assert torch.equal(alone, loss)
    path, gone = seen[0].path, [weakref.ref(output), weakref.ref(loss)]
    assert path is not None
    assert path.loss is not None
    del output, loss, alone
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_a_forward_runs_without_the_mode_that_writes_down_the_loss() -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            inside.append(list_modes()[0])
            return x

    inside: list[Any] = []
    net, before = Looks(), list_modes()[0]
    with watch_calls(net):
        net(torch.zeros(2))
        (recorder,) = [mode for mode in list_modes()[0] if mode not in before]
    assert isinstance(recorder, LossRecorder)
    assert inside == [before]
    assert list_modes()[0] == before


def test_a_mode_that_the_block_enters_and_keeps_stays() -> None:
    class Kept(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    net, kept, before = nn.Linear(2, 2), Kept(), list_modes()[0]
    with watch_calls(net):
        kept.__enter__()
        net(torch.zeros(1, 2))
    assert list_modes()[0] == [*before, kept]
    kept.__exit__(None, None, None)
    assert list_modes()[0] == before


def test_a_warning_of_torch_names_the_line_that_it_names_without_us() -> None:
    net, x, y = make_net(1), torch.zeros(8, 20), torch.zeros(8)
    places = []
    for watched in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with watch_calls(net) if watched else nullcontext():
                output = net(x)
                nn.MSELoss()(output, y)
                F.mse_loss(output, y)
        places.append([(warning.filename, warning.lineno) for warning in caught])
    assert places[0] == places[1]
    assert len(places[0]) == 2


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_that_fails_has_no_frame_of_ours_below_its_line() -> None:
    net = make_net(3)

    def find_frames() -> list[str]:
        with pytest.raises(RuntimeError) as caught:
            F.l1_loss(net(torch.zeros(8, 20)), torch.zeros(8, 2))
        return [entry.name for entry in caught.traceback]

    alone = find_frames()
    with watch_calls(net):
        watched = find_frames()
    extra = [name for name in watched if name not in alone]
    assert extra == ["handle_torch_function", "__torch_function__"]
    assert watched[-1] == alone[-1]

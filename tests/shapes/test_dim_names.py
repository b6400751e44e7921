"""Names for the dims of an input: the user's, else by rank, dtype and the layer that reads them first."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.summary import ModelSummary
from tests.shapes.sized import Net


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.embed(input_ids) * attention_mask[..., None]


def name(model: nn.Module, inputs: Any) -> tuple[tuple[str, ...], ...]:
    ms = ModelSummary(model.eval(), inputs)
    assert ms.error is None
    return tuple(fact.dims for fact in ms.story.trace.inputs)


@pytest.mark.parametrize(
    ("model", "size", "dims"),
    [
        (nn.Conv2d(3, 4, 3), (2, 3, 16, 20), ("B", "C", "H", "W")),
        (nn.Conv1d(3, 4, 3), (2, 3, 40), ("B", "C", "L")),
        (nn.Conv3d(3, 4, 3), (2, 3, 8, 16, 16), ("B", "C", "D", "H", "W")),
        (nn.Conv2d(3, 4, 3), (3, 16, 20), ("C", "H", "W")),
        (nn.Linear(5, 2), (7, 5), ("B", "F")),
        (nn.Linear(5, 2), (5,), ("F",)),
        (nn.BatchNorm1d(5), (7, 5), ("B", "F")),
        (nn.Linear(5, 2), (7, 6, 5), ("B", "T", "F")),
        (nn.Embedding(9, 4), (7, 6), ("B", "T")),
        (nn.LSTM(4, 5, batch_first=True), (7, 6, 4), ("B", "T", "F")),
        (nn.Identity(), (7, 6, 4), ("B", "T", "F")),
        (nn.Identity(), (7, 32, 32, 3), ("B", "H", "W", "C")),
        (nn.Identity(), (7, 8, 3, 32, 32), ("B", "T", "C", "H", "W")),
    ],
)
def test_names_follow_rank_dtype_and_the_first_layer(
    model: nn.Module, size: tuple[int, ...], dims: tuple[str, ...]
) -> None:
    assert name(model, size) == (dims,)


def test_the_users_names_are_kept_and_what_has_none_is_named_as_ever() -> None:
    assert name(nn.Conv2d(3, 4, 3), Size("N=2 3 rows=16 cols=20")) == (("N", "C", "rows", "cols"),)
    assert name(nn.Conv2d(3, 4, 3), Size("N=2 3 16 20")) == (("N", "C", "H", "W"),)


def test_a_name_that_the_user_gave_in_one_input_holds_in_all() -> None:
    model = Net(lambda a, x, y: a(x).sum(1) + a(y).sum(1), nn.Embedding(9, 4))
    assert name(model, [Size((3, 7), dtype="int64"), Size("bs=3 seq=7:int64")]) == (("bs", "seq"), ("bs", "seq"))
    assert name(model, [Size((3, 5), dtype="int64"), Size("bs=3 seq=7:int64")]) == (("bs", "T"), ("bs", "seq"))


def test_rules_find_the_batch_under_any_name() -> None:
    model = Net(lambda f, x: f(x).flatten(), nn.Linear(4, 3))
    ms = ModelSummary(model, Size("samples=5 4"))
    assert ms.story.batch[0] == ((18,),)
    assert ms.formulas[0] == (("3·samples",),)
    plain = ModelSummary(model, (5, 4))
    assert [flag.rule for flag in ms.flags] == [flag.rule for flag in plain.flags] != []


def test_channels_that_are_moved_before_the_convolution_are_found_where_they_were() -> None:
    model = Net(lambda conv, x: conv(x.permute(0, 3, 1, 2)), nn.Conv2d(16, 4, 3))
    assert name(model, (2, 20, 24, 16)) == (("B", "H", "W", "C"),)


def test_a_waveform_that_gets_its_channel_in_the_forward_is_a_length() -> None:
    assert name(Net(lambda conv, x: conv(x[:, None]), nn.Conv1d(1, 4, 3)), (2, 400)) == (("B", "L"),)
    assert name(Net(lambda conv, x: conv(x.unsqueeze(1)), nn.Conv1d(1, 4, 3)), (2, 400)) == (("B", "L"),)


@pytest.mark.parametrize(
    "layer", [nn.LSTM(4, 5), nn.GRU(4, 5), nn.TransformerEncoderLayer(4, 2, 8)], ids=lambda layer: type(layer).__name__
)
def test_a_sequence_first_layer_makes_the_input_sequence_first(layer: nn.Module) -> None:
    assert name(Net(lambda layer, x: layer(x), layer), (10, 3, 4)) == (("T", "B", "F"),)


def test_what_picks_the_last_step_of_dim_1_says_that_the_input_is_batch_first() -> None:
    model = Net(lambda rnn, x: rnn(x)[0][:, -1], nn.LSTM(4, 5))
    assert name(model, (10, 3, 4)) == (("B", "T", "F"),)
    model = Net(lambda rnn, x: rnn(x)[0].mean(1), nn.LSTM(4, 5))
    assert name(model, (10, 3, 4)) == (("B", "T", "F"),)


def test_what_picks_the_last_step_of_dim_0_leaves_it_sequence_first() -> None:
    assert name(Net(lambda rnn, x: rnn(x)[0][-1], nn.LSTM(4, 5)), (10, 3, 4)) == (("T", "B", "F"),)


def test_a_batch_first_input_that_is_transposed_for_a_sequence_first_layer_stays_batch_first() -> None:
    model = Net(lambda rnn, x: rnn(x.transpose(0, 1))[0], nn.LSTM(4, 5))
    assert name(model, (3, 10, 4)) == (("B", "T", "F"),)


@pytest.mark.parametrize(
    "after", [nn.TransformerEncoderLayer(6, 2, 8), nn.Dropout(0.1)], ids=["sequence-first", "none"]
)
def test_a_linear_layer_behind_a_permute_leaves_the_batch_where_it_was(after: nn.Module) -> None:
    """Time series of (B, features, T), moved to the front for a sequence-first encoder."""
    model = Net(lambda read, after, x: after(read(x.permute(2, 0, 1)).relu()), nn.Linear(4, 6), after)
    assert name(model, (3, 4, 10)) == (("B", "F", "T"),)


def test_a_mask_is_named_after_the_dims_that_it_masks() -> None:
    assert name(Masked(), {"input_ids": (3, 7), "attention_mask": (3, 7)}) == (("B", "T"), ("B", "T"))


def test_equal_names_have_equal_sizes_and_others_are_numbered() -> None:
    model = Net(lambda a, x, y: a(x).sum(1) + a(y).sum(1), nn.Embedding(9, 4))
    ids = [Size((3, 7), dtype="int64"), Size((3, 5), dtype="int64")]
    assert name(model, ids) == (("B", "T"), ("B", "T2"))
    assert name(model, [ids[0], ids[0]]) == (("B", "T"), ("B", "T"))


def test_live_data_is_named_as_sizes_are() -> None:
    assert name(nn.Conv2d(3, 4, 3), torch.zeros(2, 3, 16, 20)) == (("B", "C", "H", "W"),)
    assert name(nn.Embedding(9, 4), torch.zeros(7, 6, dtype=torch.int64)) == (("B", "T"),)


class Nodes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor, adjacent: Tensor) -> Tensor:
        return adjacent @ self.fc(x)


class StateAndSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(14, 4)

    def forward(self, state: Tensor, steps: Tensor) -> Tensor:
        return self.fc(torch.cat([state.expand(len(steps), -1, -1), steps], -1))


@pytest.mark.parametrize(
    ("model", "sizes", "dims"),
    [
        (Nodes(), [(7, 6), (7, 7)], (("B", "F"), ("B", "B"))),
        (StateAndSteps(), [(5, 6), (9, 5, 8)], (("B", "F"), ("T", "B", "F2"))),
    ],
)
def test_a_batch_that_other_inputs_have_too_moves_with_them(
    model: nn.Module, sizes: list[tuple[int, ...]], dims: tuple[tuple[str, ...], ...]
) -> None:
    ms = ModelSummary(model, sizes)
    assert tuple(fact.dims for fact in ms.story.trace.inputs) == dims
    assert ms.flags == ()
    assert not any(text.startswith("B") for text in ms.constraints)
    for batch in (3, 11):  # for real
        model(*[torch.zeros([batch if name == "B" else n for n, name in zip(size, leaf, strict=True)])
                for size, leaf in zip(sizes, dims, strict=True)])  # fmt: skip


class Edges(nn.Module):
    """Adds up nodes along edges."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(16, 8)

    def forward(self, nodes: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        read = self.read(nodes)
        return torch.zeros_like(read).index_add(0, target, read[source])


def test_the_first_dim_of_another_input_is_not_taken_for_the_batch_that_the_user_named() -> None:
    named = ModelSummary(Edges(), ["N=10,16", "2,40"])
    assert [fact.dims for fact in named.story.trace.inputs] == [("N", "F"), ("B2", "T")]
    assert named.constraints == ModelSummary(Edges(), ["10,16", "2,40"]).constraints == ("B2 = 2", "F = 16")
    assert named.formulas[0] == (("N", "8"),)

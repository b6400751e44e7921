"""Tables that computed positions are looked up in: where they end is said, and is where a real run fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.size import Size

_Places = Callable[[Tensor], Tensor]


class Table(nn.Module):
    """Tokens with positions of a table, which are counted and picked in one way or another."""

    def __init__(self, rows: int, places: _Places, pick: Callable[[Tensor, Tensor], Tensor] = F.embedding) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 8)
        self.table = nn.Parameter(torch.randn(rows, 8))
        self.places, self.pick = places, pick

    def forward(self, ids: Tensor) -> Tensor:
        return self.tokens(ids) + self.pick(self.places(ids), self.table)


def steps(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1])


def padded(ids: Tensor) -> Tensor:
    """Count tokens from 2 on, as RoBERTa does; padding is 1."""
    mask = ids.ne(1).int()
    return (torch.cumsum(mask, 1).type_as(mask) * mask).long() + 1


def put(ids: Tensor) -> Tensor:
    """The same, written in place."""
    places = torch.cumsum((~ids.eq(0)).long(), -1)
    places -= 1
    return places.masked_fill_(ids == 0, 1)


def distances(ids: Tensor) -> Tensor:
    return (steps(ids)[None] - steps(ids)[:, None]).abs()[0]


ENDS: dict[str, tuple[int, _Places, str]] = {
    "steps": (40, steps, "T ≤ {}"),
    "from an offset": (40, lambda ids: steps(ids) + 2, "T ≤ {}"),
    "backwards": (40, lambda ids: torch.arange(ids.shape[1] - 1, -1, -1), "T ≤ {}"),
    "every other one": (40, lambda ids: 2 * steps(ids) + 1, "T ≤ {}"),
    "blocks of four": (9, lambda ids: steps(ids) // 4 + 1, "T ≤ {}"),
    "blocks of real numbers": (9, lambda ids: (steps(ids).float() / 4).floor().long(), "T ≤ {}"),
    "logarithms": (6, lambda ids: torch.log2(distances(ids).float() + 1).long(), "T ≤ {}"),
    "in two pieces": (40, lambda ids: torch.where(steps(ids) < 10, steps(ids), steps(ids) - 5), "T ≤ {}"),
    "cut too late": (40, lambda ids: steps(ids).clamp(max=60), "T ≤ {}"),
    "the length": (40, lambda ids: torch.full_like(ids, ids.shape[1]), "T ≤ {}"),
    "of a mask of ones": (40, lambda ids: torch.ones_like(ids).cumsum(-1) - 1, "T ≤ {}"),
    "of tokens": (42, padded, "T ≤ {} where ids holds no 1"),
    "of tokens, in place": (40, put, "T ≤ {} where ids holds no 0"),
}
PICKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "by a subscript": lambda places, table: table[places],
    "by index_select": lambda places, table: table.index_select(0, places.flatten()).view(*places.shape, 8),
    "by gather": lambda places, table: table.gather(0, places.reshape(-1, 1).expand(-1, 8)).view(*places.shape, 8),
}
PICKS["by scatter"] = lambda places, table: (
    torch.zeros(places.numel(), len(table)).scatter(1, places.view(-1, 1), 1.0).view(*places.shape, -1) @ table
)
CASES = {
    **{name: (rows, places, said, F.embedding) for name, (rows, places, said) in ENDS.items()},
    **{f"steps {name}": (40, steps, "T ≤ {}", pick) for name, pick in PICKS.items()},
    **{f"tokens {name}": (42, padded, ENDS["of tokens"][2], pick) for name, pick in PICKS.items()},
}


def runs(model: nn.Module, length: int) -> bool:
    try:
        model(torch.randint(2, 50, (2, length)))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_the_end_of_a_table_is_said_and_no_trace_passes_it(name: str) -> None:
    rows, places, said, pick = CASES[name]
    model = Table(rows, places, pick)
    last = max(length for length in range(6, 130) if runs(model, length))
    assert runs(model, last)

    assert ModelSummary(model, Size((2, 12), dtype="int64")).constraints == (said.format(last),)
    assert ModelSummary(model, Size((2, last), dtype="int64")).error is None
    error = ModelSummary(model, Size((2, last + 1), dtype="int64")).error
    assert error is not None
    assert ("where ids holds no" in error.reason) == ("holds no" in said)


@pytest.mark.parametrize(
    "places",
    [
        lambda ids: steps(ids).clamp(max=30),
        lambda ids: steps(ids) % 40,
        lambda ids: torch.linspace(0, 39, ids.shape[1]).long(),
        lambda ids: (ids == 7).long().cumsum(-1),
    ],
    ids=["cut", "in turn", "spread", "of separators"],
)
def test_places_that_stay_in_a_table_have_no_end(places: _Places) -> None:
    model = Table(40, places)
    assert ModelSummary(model, Size((2, 12), dtype="int64")).constraints == ()
    assert ModelSummary(model, Size((2, 300), dtype="int64")).error is None


def test_padding_that_the_user_gave_is_not_counted() -> None:
    model, ids = Table(20, padded), torch.randint(2, 50, (2, 30))
    assert ModelSummary(model, ids).error is not None
    ids[:, 15:] = 1
    model(ids)
    assert ModelSummary(model, ids).error is None


def test_what_is_written_over_counted_places_is_not_known() -> None:
    """Values that are not known are written into known positions."""

    def places(ids: Tensor) -> Tensor:
        counted = padded(ids)
        row = counted[0]
        counted.copy_(ids % 10)
        return row

    assert ModelSummary(Table(20, places), Size((2, 30), dtype="int64")).error is None


def test_more_places_than_are_kept_are_known_by_their_largest() -> None:
    ids = torch.randint(0, 50, (70, 1000))
    assert ModelSummary(nn.Sequential(nn.Embedding(50, 4)), ids).error is None
    ids[3, 4] = 50
    assert ModelSummary(nn.Sequential(nn.Embedding(50, 4)), ids).error is not None
    assert ModelSummary(Table(100_000, steps), Size((1, 100_000), dtype="int64")).error is None
    assert ModelSummary(Table(100_000, steps), Size((1, 100_001), dtype="int64")).error is not None


def test_classes_of_one_hot_are_counted() -> None:
    model = Table(40, steps, lambda places, table: F.one_hot(places, 40).float() @ table)
    assert ModelSummary(model, Size((2, 40), dtype="int64")).error is None
    error = ModelSummary(model, Size((2, 41), dtype="int64")).error
    assert error is not None
    assert "Class values must be smaller than num_classes: 40 of 40" in error.message

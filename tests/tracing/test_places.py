"""Places on an axis that lookups and writes are given: beyond its end they fail as they do for real."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.summary import ModelSummary


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 4)
        self.pos = nn.Embedding(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        where = torch.arange(2, ids.shape[1] + 2).unsqueeze(0).expand(ids.shape[0], -1)
        return self.tokens(ids) + self.pos(where)


def test_positions_that_are_counted_beyond_the_table_fail_where_they_are_looked_up() -> None:
    assert ModelSummary(Positions(), (2, 14)).error is None
    error = ModelSummary(Positions(), (2, 15)).error
    assert error is not None
    assert error.path == "pos"
    with pytest.raises(IndexError):
        Positions()(torch.zeros(2, 15, dtype=torch.int64))
    assert error.reason.startswith("input has 15 positions, counted from 2, 'pos' has 16")
    assert error.sizes == ("(2, 14)",)
    assert error.fix == "self.pos = nn.Embedding(17, 4)"


def test_ids_that_the_user_gave_are_compared_with_the_table() -> None:
    ids = torch.zeros(2, 5, dtype=torch.int64)
    assert ModelSummary(Positions(), ids).error is None
    ids[1, 2] = 50
    error = ModelSummary(Positions(), ids).error
    assert error is not None
    assert error.path == "tokens"
    assert error.reason == "the table has rows 0 … 49, got 50"
    assert error.fix == "self.tokens = nn.Embedding(51, 4)"


def test_unknown_indices_are_left_alone() -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.table(x.argmax(-1))

    assert ModelSummary(Computed(), (2, 9)).error is None


class Places(nn.Module):
    """Reads or writes rows of what a layer made, at places that are given."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.read = kind, nn.Linear(8, 8)

    def forward(self, table: Tensor, given: Tensor, x: Tensor) -> Tensor:
        table, places = self.read(table), given[0]
        if self.kind == "subscript":
            return table[places] + x
        if self.kind == "index_select":
            return table.index_select(0, places) + x
        if self.kind == "index_put":
            return table.index_put((places,), x)
        if self.kind == "index_fill":
            return table.index_fill(0, places, 0.0)
        if self.kind in ("index_add", "index_copy"):
            made: Tensor = getattr(table, self.kind)(0, places, x)
            return made
        places = places[:, None].expand(-1, 8)
        if self.kind == "gather":
            return table.gather(0, places) + x
        if self.kind == "scatter_reduce":
            return table.scatter_reduce(0, places, x, "sum")
        return table.scatter_add(0, places, x) if self.kind == "scatter_add" else table.scatter(0, places, x)


_KINDS = (
    "subscript", "index_select", "index_put", "index_fill", "index_add", "index_copy", "gather", "scatter_reduce",
    "scatter_add", "scatter",
)  # fmt: skip


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("last", [4, 5, 9, -1])
def test_places_of_the_users_beyond_an_end_fail_as_they_do_for_real(kind: str, last: int) -> None:
    model, given = Places(kind), (torch.rand(5, 8), torch.tensor([[0, 1, last], [0, 0, 40]]), torch.rand(3, 8))
    error = ModelSummary(model, list(given)).error
    try:
        model(*given)
    except (IndexError, RuntimeError):
        assert error is not None
        assert f"{last}" in error.reason
        # No other places are made up: the table is longer, or nothing is said.
        assert error.sizes in ((), (f"({last + 1}, 8) (2, 3):int64 (3, 8):float32",))
        if error.sizes:
            model(torch.rand(last + 1, 8), *given[1:])
    else:
        assert error is None


class Puts(nn.Module):
    """Writes a value to places of a map."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, places: Tensor, value: Tensor) -> Tensor:
        x = x.clone()
        if self.kind == "rows":
            x[places] = value
        elif self.kind == "columns":
            x[:, places] = value
        elif self.kind == "pairs":
            x[places, places] = value
        elif self.kind == "squares":
            x[places[:, None], places] = value
        else:
            x = x.index_put((places,), value)
        return x


@pytest.mark.parametrize("kind", ["rows", "columns", "pairs", "squares", "put"])
@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (8,), (3,), (1,), (3, 1), (2, 8), (3, 3), ()])
def test_a_value_that_does_not_fit_its_places_fails_as_it_does_for_real(kind: str, shape: tuple[int, ...]) -> None:
    model, given = Puts(kind), (torch.rand(8, 8), torch.tensor([0, 1, 2]), torch.rand(shape))
    error = ModelSummary(model, list(given)).error
    try:
        model(*given)
    except RuntimeError:
        assert error is not None
    else:
        assert error is None

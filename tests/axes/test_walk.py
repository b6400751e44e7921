"""The walk over a trace's operations: every entry against what torch gives, and what a contradiction does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelsummary_ipy import ModelSummary, Size
from modelsummary_ipy.axes import registry
from modelsummary_ipy.axes.align_events import align_events, find_repeats
from modelsummary_ipy.axes.expr import Expr, symbol
from modelsummary_ipy.axes.integers import Integers
from modelsummary_ipy.axes.meaning import input_axis
from modelsummary_ipy.axes.walk import Walk
from modelsummary_ipy.records.op_events import OpEvent, OpEvents, Repeat, TensorRef
from modelsummary_ipy.shapes.expr_text import evaluate, write


def walk(*events: OpEvent, shape: tuple[int, ...] = (7, 24), names: str = "B T") -> Walk:
    """Walk over operations on one input, each of whose dims has a name."""
    ref = TensorRef(0, shape, "float32")
    sizes = dict(zip(names.split(), shape, strict=True))
    others = {name: size + 11 for name, size in sizes.items()}
    given = [symbol(name) for name in names.split()]
    moved = [event._replace(args=move(event.args, sizes, others), outputs=tuple(
        out._replace(shape=tuple(others.get(find(sizes, n), n) for n in out.shape)) for out in event.outputs
    )) for event in events]  # fmt: skip
    found = Walk(OpEvents(list(events), inputs=[ref]), [moved], [given], Integers([sizes, others]))
    found.run()
    return found


def find(sizes: dict[str, int], size: int) -> str:
    return next((name for name, known in sizes.items() if known == size), "")


def move(args: Any, sizes: dict[str, int], others: dict[str, int]) -> dict[str, Any]:
    return {
        name: [others.get(find(sizes, n), n) for n in value] if isinstance(value, list) else value
        for name, value in args.items()
    }


X = TensorRef(0, (7, 24), "float32")


def test_an_operation_without_an_entry_is_opaque_and_named_by_its_values() -> None:
    found = walk(OpEvent("mylib.unknown", {"x": X}, (TensorRef(1, (24, 7), "float32"),), 0)).found
    assert found.axes[1] == [symbol("T"), symbol("B")]
    assert found.opaque == {"mylib.unknown": 1}


@pytest.mark.parametrize(("given", "steps"), [(0, 1), (1, 2)])
def test_what_repeats_operations_is_walked_where_it_reads_other_axes(
    given: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[registry.Op] = []

    def relu(op: registry.Op) -> Any:
        read.append(op)
        return [op.axes("self")]

    monkeypatch.setitem(registry._entries, "aten.relu", relu)
    refs = [TensorRef(number, (7, 7), "float32") for number in range(4)]
    events = [OpEvent("aten.relu", {"self": refs[place]}, (refs[place + 2],), 0) for place in (0, given)]
    ops = OpEvents(events, inputs=[refs[0], refs[1]], repeats={1: Repeat(0, 1, ((0, given),), ((2, given + 2),))})
    axes = [[symbol("B"), symbol("T")], [symbol("T"), symbol("B")]]
    aligned = [align_events(ops, ops, {0: 0})]
    found = Walk(ops, aligned, axes, Integers([{"B": 7, "T": 7}]), find_repeats(ops, [ops], aligned)).run()
    assert (found.axes[2], found.axes[given + 2], len(read)) == (axes[0], axes[given], steps)
    assert not find_repeats(ops, [OpEvents(events)], aligned), "the other trace ran it"


def test_an_entry_that_contradicts_torch_is_reported_and_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._entries, "aten.relu", lambda op: [op.axes("self")[::-1]])
    found = walk(OpEvent("aten.relu", {"self": X}, (TensorRef(1, (7, 24), "float32"),), 0)).found
    assert found.axes[1] == [symbol("B"), symbol("T")]
    ((index, made, given),) = found.wrong
    assert (index, made, given[0].shape) == (0, [[symbol("T"), symbol("B")]], (7, 24))
    line = "the entry of aten::relu in call 0: of (7, 24) it gives [(24, 7)], torch makes (7, 24)"
    assert found.contradicted == {"aten.relu": line}


def test_the_owner_of_an_integer_is_found_by_its_values() -> None:
    event = OpEvent("aten.view", {"self": X, "size": [24, 7]}, (TensorRef(1, (24, 7), "float32"),), 0)
    assert walk(event).found.axes[1] == [symbol("T"), symbol("B")]


def test_what_is_left_of_a_view_is_divided_by_structure() -> None:
    event = OpEvent("aten.view", {"self": X, "size": [-1, 4]}, (TensorRef(1, (42, 4), "float32"),), 0)
    ref = TensorRef(0, (7, 24), "float32")
    samples = [{"B": 7, "T": 24}, {"B": 9, "T": 36}]
    other = event._replace(outputs=(TensorRef(1, (81, 4), "float32"),))
    walked = Walk(OpEvents([event], inputs=[ref]), [[other]], [[symbol("B"), symbol("T")]], Integers(samples)).run()
    size = walked.axes[1][0]
    assert isinstance(size, Expr)
    assert [size.value({"B": 5, "T": t}) for t in (8, 40)] == [10, 50]


class PaddedPatches(nn.Module):
    """Pads to whole patches only where they are not whole, and adds positions that it resizes only at other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.places = nn.Parameter(torch.zeros(1, 8, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        if width % 4:
            x = F.pad(x, (0, 4 - width % 4))
        if height % 4:
            x = F.pad(x, (0, 0, 0, 4 - height % 4))
        x = self.patch(x)
        places = self.places
        if x.shape[-2:] != places.shape[-2:]:
            places = F.interpolate(places, size=x.shape[-2:], mode="bilinear")
        x = x + places
        return x.permute(0, 2, 3, 1).reshape(-1, 8)


def test_what_comes_another_way_at_other_sizes_is_named_where_it_is_read() -> None:
    model = PaddedPatches()
    ms = ModelSummary(model, (2, 3, 32, 32))
    assert ms.formulas[ms["patch"].index] == (("B", "8", "⌈H/4⌉", "⌈W/4⌉"),)
    assert ms.formulas[0] == (("B·⌈H/4⌉·⌈W/4⌉", "8"),)
    assert model(torch.zeros(5, 3, 30, 45)).shape == (5 * 8 * 12, 8)
    assert None not in [leaf for leaves in ms.formulas.values() for leaf in leaves]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((35, 17, 51), "2·T + 1"),
        ((-34, -16, -50), "-2·T"),
        ((16, 7, 24), "T - 1"),
        ((17, 7, 25), "2·⌈T/2⌉ - 1"),
        ((18, 8, 26), "2·⌈T/2⌉"),
        ((23, 8, 15), None),
    ],
)
def test_an_integer_is_an_expression_that_has_all_its_values(values: tuple[int, ...], text: str | None) -> None:
    found = Integers([{"B": 19, "T": 17}, {"B": 3, "T": 8}, {"B": 22, "T": 25}]).find(values)
    assert (None if found is None else write(found, ["B", "T"])) == text  # type: ignore[arg-type]  # no number is drawn


def test_traces_of_one_size_tell_of_a_step_beside_two_others() -> None:
    found = Integers([{"B": 19, "W": 10}, {"B": 3, "W": 7}, {"B": 22, "W": 16}, {"B": 20, "W": 10}]).find((4, 0, 5, 4))
    assert isinstance(found, Expr)
    assert write(found, ["B", "W"]) == "7·⌈W/7⌉ - W"


def test_a_side_padded_to_even_is_not_taken_for_one_padded_to_eight() -> None:
    found = Integers([{"B": 19, "W": 39}, {"B": 3, "W": 56}, {"B": 22, "W": 47}]).find((1, 0, 1))
    assert isinstance(found, Expr)
    assert write(found, ["B", "W"]) == "2·⌈W/2⌉ - W"


def test_the_name_of_what_is_joined_again_and_again_stays_short() -> None:
    axis = input_axis("T", 1)
    for _ in range(40):
        axis = axis + axis
    assert axis.size == 2**40
    assert len(axis.factors[0].name) <= 2 * 400 + 3


class Windows(nn.Module):
    """A map padded to windows of 7, of which the user's size has one: there the reshape needs no copy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        x = F.pad(x, (0, -w % 7, 0, -h % 7)).view(b, c, -(-h // 7), 7, -(-w // 7), 7)
        windows = x.permute(0, 2, 4, 3, 5, 1).reshape(-1, 49, c)
        return windows.mean(1).reshape(b * -(-h // 7) * -(-w // 7), c)


def test_a_reshape_that_copies_at_other_sizes_alone_has_its_formula() -> None:
    ms = ModelSummary(Windows(), (2, 8, 7, 7))
    assert None not in [leaf for leaves in ms.formulas.values() for leaf in leaves]
    assert ms.formulas[0] == (("B·⌈H/7⌉·⌈W/7⌉", "C"),)
    assert Windows()(torch.zeros(3, 8, 15, 20)).shape == (3 * 3 * 3, 8)


class Positions(nn.Module):
    """Learned positions that are looked up by ``arange``."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 8), nn.Embedding(33, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(2, ids.shape[1] + 2)
        return self.tokens(ids) + self.positions(places)[None]


def test_positions_beyond_their_table_are_a_limit() -> None:
    model = Positions()
    assert ModelSummary(model, Size((2, 10), dtype="int64")).constraints == ("T ≤ 31",)
    model(torch.zeros(2, 31, dtype=torch.int64))
    with pytest.raises(IndexError):
        model(torch.zeros(2, 32, dtype=torch.int64))


class Crop(nn.Module):
    """Two layers that fit at sizes from 62 to 65 only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 2, 4, stride=4), nn.Linear(2 * 15 * 15, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).flatten(1))


def test_a_range_is_written_as_a_range() -> None:
    model = Crop()
    assert ModelSummary(model, (2, 1, 61, 61)).constraints == ("60 ≤ H, W ≤ 63 or few others", "C = 1")
    for size, works in ((60, True), (63, True), (59, False), (64, False)):
        for shape in ((2, 1, size, 61), (2, 1, 61, size)):
            if works:
                model(torch.zeros(shape))
            else:
                with pytest.raises(RuntimeError):
                    model(torch.zeros(shape))


class Part(nn.Module):
    """Takes a part of a sequence."""

    def __init__(self, part: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.part, self.layer = part, nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(self.layer(x))


PLACES = torch.zeros(40, 8)


@pytest.mark.parametrize(
    ("part", "formula"),
    [
        (lambda x: x[:, -16:], "min(T, 16)"),
        (lambda x: x[:, :16], "min(T, 16)"),
        (lambda x: x[..., :16, None, :4], "min(T, 16)"),
        (lambda x: x[:, 4:], "max(T - 4, 0)"),
        (lambda x: x[:, 3:-4], "max(T - 7, 0)"),
        (lambda x: x[:, -9:-2], "min(T, 9) - min(T, 2)"),
        (lambda x: x[:, :16:3], "⌈min(T, 16)/3⌉"),
        (lambda x: x[:, 1:], "T - 1"),
        (lambda x: x[:, :1], "1"),
        (lambda x: x.split(16, 1)[0], "min(T, 16)"),
        (lambda x: PLACES[: x.shape[1]].expand(len(x), -1, -1), "min(T, 40)"),
        (lambda x: PLACES[: x.shape[1]] + x, "T"),
        (lambda x: x[:, torch.arange(x.shape[1])], "T"),
        (lambda x: x[:, 3:].unfold(1, 2, 1), "T - 4"),
    ],
)
@pytest.mark.parametrize("length", [7, 20])
def test_a_part_of_an_axis_ends_where_the_axis_does(
    part: Callable[[torch.Tensor], torch.Tensor], formula: str, length: int
) -> None:
    """Right at lengths that were never traced, on both sides of every number in the code."""
    model = Part(part)
    (found,) = ModelSummary(model, (2, length, 8)).formulas[0]
    assert found is not None
    assert found[1] == formula
    for other in (*range(1, 12), 15, 16, 17, 19, 33, 40, 41, 90):
        try:
            made = model(torch.zeros(3, other, 8)).shape
        except RuntimeError:
            continue
        assert made == tuple(evaluate(dim, {"B": 3, "T": other}) for dim in found)


class Clipped(nn.Module):
    """Its code takes the smaller of a size and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.longest = nn.Linear(8, 8), 50


class TakesLast(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = min(x.shape[1], self.longest)
        return self.layer(x[:, -count:])


class CutsLong(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > self.longest:
            x = x[:, -self.longest :]
        return self.layer(x)


class PadsShort(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = max(x.shape[1], 30)
        return self.layer(F.pad(x, (0, 0, 0, count - x.shape[1])))


class KeepsBest(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).topk(min(20, x.shape[1]), 1)[0]


class ThinsLong(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, ::2] if x.shape[1] > 100 else x)


class PoolsTenths(Clipped):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool1d(self.layer(x).transpose(1, 2), max(1, x.shape[1] // 10))


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        (TakesLast, "min(T, 50)"),
        (CutsLong, "min(T, 50)"),
        (PadsShort, "max(T, 30)"),
        (KeepsBest, "min(T, 20)"),
        (ThinsLong, None),
        (PoolsTenths, None),
    ],
)
@pytest.mark.parametrize("length", [6, 70])
def test_what_the_code_does_to_longer_inputs_alone_is_in_the_formula(
    kind: type[Clipped], formula: str | None, length: int
) -> None:
    """No formula where none is right at all lengths; right at lengths that were never traced where there is one."""
    model = kind()
    (found,) = ModelSummary(model, (2, length, 8)).formulas[0]
    assert (found and found[1]) == formula
    for other in (1, 5, 19, 20, 21, 29, 31, 49, 50, 51, 90, 400) if found else ():
        made = model(torch.zeros(3, other, 8)).shape
        assert made == tuple(evaluate(dim, {"B": 3, "T": other}) for dim in found)


class Sides(nn.Module):
    """A map of at most 96 by 96."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        return F.adaptive_avg_pool2d(self.conv(x), (min(height, 96), min(width, 96)))


@pytest.mark.parametrize("side", [32, 128])
def test_sides_that_are_clipped_alike_are_told_apart(side: int) -> None:
    assert ModelSummary(Sides(), (2, 3, side, side)).formulas[0] == (("B", "4", "min(H, 96)", "min(W, 96)"),)


class Skip(nn.Module):
    """A map that is pooled, enlarged, and padded to the size it had."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 3, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.up(F.max_pool2d(x, 2))
        rows, columns = (x.shape[dim] - y.shape[dim] for dim in (2, 3))
        y = F.pad(y, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return torch.cat([y, x], 1)


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stft(x, 64, 16, window=torch.ones(64), return_complex=True).abs()


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.conv = nn.Linear(8, 6), nn.Conv2d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.layer(x).permute(0, 3, 1, 2))


class Twos(nn.Module):
    """Steps of two; longer inputs are more operations."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(16, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(x[:, : x.shape[1] // 2 * 2].reshape(len(x), -1, 16))[0]


class MergesOdd(nn.Module):
    """Patches merged two by two; sides that are odd are padded."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        return torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)


@pytest.mark.parametrize(
    ("kind", "size", "formula", "others"),
    [
        (MergesOdd, (1, 21, 30, 4), ("B", "⌈H/2⌉", "⌈W/2⌉", "4·C"), [(2, 48, 9, 4), (1, 51, 81, 4), (1, 8, 8, 4)]),
        (Skip, (1, 3, 70, 90), ("B", "6", "H", "W"), [(2, 3, 3, 90), (1, 3, 64, 71)]),
        (Spectrum, (2, 1600), ("B", "33", "⌊F/16⌋ + 1"), [(3, 100), (2, 333)]),
        (ChannelsLast, (2, 24, 24, 8), ("B", "4", "C - 2", "H - 2"), [(2, 5, 24, 8), (3, 24, 9, 8)]),
        (Twos, (2, 30, 8), ("B", "⌊T/2⌋·F/8", "5"), [(2, 7, 8), (4, 12, 16)]),
    ],
)
def test_sizes_that_code_computes_are_right_at_sizes_never_traced(
    kind: type[nn.Module], size: tuple[int, ...], formula: tuple[str, ...], others: list[tuple[int, ...]]
) -> None:
    model = kind()
    ms = ModelSummary(model, size)
    assert ms.formulas[0] == (formula,)
    names = ms.pipeline.batch.names.dims[0]
    for other in others:
        sizes = dict(zip(names, other, strict=True))
        assert model(torch.zeros(other)).shape == tuple(evaluate(dim, sizes) for dim in formula)

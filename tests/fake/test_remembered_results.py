"""Results that are remembered, or evident from sizes, are what torch makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from modelsummary_ipy.fake.fake_tensors import make_fake
from modelsummary_ipy.fake.fast_fake_mode import FastFakeMode, make_fake_mode
from modelsummary_ipy.torch_compat.fakes import FAKE_ONLY_ERRORS, FakeTensorMode

LAST = torch.channels_last
Draw = Callable[[st.SearchStrategy[Any]], Any]

OPERATIONS: dict[str, Callable[[Tensor], Any]] = {
    "linear": lambda x: F.linear(x, x.new_empty(5, 8)),
    "conv": lambda x: F.conv1d(x, x.new_empty(6, 4, 3), stride=2),
    "view": lambda x: x.view(2, 32),
    "view that is none": lambda x: torch.ops.aten._unsafe_view(x, [8, 8]),
    "transpose": lambda x: x.transpose(1, 2),
    "slice": lambda x: x[:, 1:, ::2],
    "expand": lambda x: x[:, :1].expand(2, 9, 8),
    "in place": lambda x: x.relu_(),
    "several": lambda x: x.chunk(2, 1),
    "parts of two sizes": lambda x: x.split([1, 3], 1),
    "parts that are none": lambda x: tuple(torch.ops.aten.unsafe_split(x, 3, 1)),
    "steps": lambda x: x.unbind(1),
    "pool": lambda x: F.max_pool1d(x, 2, return_indices=True),
    "reduction": lambda x: x.mean(1),
    "dtype": lambda x: x.to(torch.bfloat16),
    "norm": lambda x: F.layer_norm(x, (8,)),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "flipped": lambda x: x.flip(0),
    "permuted": lambda x: x.permute(2, 0, 1) + 1,
}


def describe(result: Any, source: Tensor) -> list[tuple[Any, ...]]:
    tensors = result if isinstance(result, (tuple, list)) else (result,)
    address = source.untyped_storage()._cdata
    return [
        (t.shape, t.stride(), t.dtype, t.device, t.storage_offset(), t.untyped_storage()._cdata == address, t is source)
        for t in tensors
    ]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_remembered_result_is_what_torch_computes(name: str) -> None:
    operation = OPERATIONS[name]
    real = torch.zeros(2, 4, 8)
    with torch.no_grad():
        with FakeTensorMode() as stock:
            theirs = stock.from_tensor(real)
            expected = describe(operation(theirs), theirs)
        for _ in range(3):  # in modes of their own: what was remembered in one serves the next
            with make_fake_mode() as mode:
                ours = make_fake(real, mode)
                assert describe(operation(ours), ours) == expected


@pytest.mark.parametrize("operation", ["linear", "view that is none", "view", "steps", "parts that are none"])
def test_a_remembered_result_has_the_history_of_one_that_torch_makes(operation: str) -> None:
    def tell(make: Callable[[], Tensor]) -> tuple[Any, ...]:
        source = make()
        result = OPERATIONS[operation](source)
        result = result[1] if isinstance(result, tuple) else result
        return result._is_view(), result._base is source, result.requires_grad, type(result.grad_fn).__name__

    expected = tell(lambda: torch.zeros(2, 4, 8, requires_grad=True))
    for _ in range(2):
        with make_fake_mode() as mode:
            assert tell(lambda: make_fake(torch.zeros(2, 4, 8, requires_grad=True), mode)) == expected


def test_a_layer_without_bias_is_remembered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its product is reshaped by an operation whose schema hides that it is a view: 960 of them in a Llama of 70B."""
    asked: list[str] = []
    whole = FastFakeMode._dispatch_whole

    def record(self: FastFakeMode, func: Any, *rest: Any) -> Any:
        asked.append(str(func))
        return whole(self, func, *rest)

    monkeypatch.setattr(FastFakeMode, "_dispatch_whole", record)
    real = torch.zeros(3, 5, 7)
    for _ in range(2):
        asked.clear()
        with torch.no_grad(), make_fake_mode() as mode:
            assert F.linear(make_fake(real, mode), make_fake(torch.zeros(9, 7), mode)).shape == (3, 5, 9)
    assert asked == []


PLACES: dict[str, Callable[[Tensor], Any]] = {
    "slice": lambda x: x[:, 1:],
    "row": lambda x: x[1],
    "turned": lambda x: x.transpose(0, 1),
    "wide": lambda x: x[:, None].expand(2, 3, 8),
    "as numbers of half the size": lambda x: x.view(torch.float16),
    "as complex": lambda x: torch.view_as_complex(x.view(2, 4, 2)),
    "strided": lambda x: torch.as_strided(x, (2, 2), (2, 1)),
    "strided from": lambda x: torch.as_strided(x, (2, 2), (2, 1), 4),
    "fresh": lambda x: x + 1,
}


@pytest.mark.parametrize("name", PLACES)
def test_a_remembered_view_begins_where_its_tensor_does(name: str) -> None:
    operation, real = PLACES[name], torch.zeros(5, 2, 8)
    with torch.no_grad(), FakeTensorMode() as stock, make_fake_mode() as mode:
        ours, theirs = make_fake(real, mode), stock.from_tensor(real)
        for step in range(5):  # the steps of a scan
            with stock:
                expected = describe(operation(theirs[step]), theirs)
            with mode:
                assert describe(operation(ours[step]), ours) == expected


def test_a_view_of_a_later_step_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    whole = FastFakeMode._dispatch_whole
    monkeypatch.setattr(
        FastFakeMode, "_dispatch_whole", lambda self, func, *rest: asked.append(func) or whole(self, func, *rest)
    )
    with torch.no_grad(), make_fake_mode() as mode:
        steps = make_fake(torch.zeros(5, 3, 7, 11), mode)
        for step in range(5):
            steps[step].transpose(0, 1).unsqueeze(1)
    assert asked.count(torch.ops.aten.transpose.int) <= 1
    assert asked.count(torch.ops.aten.unsqueeze.default) <= 1


def test_what_joins_a_cache_that_is_still_empty_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    whole = FastFakeMode._dispatch_whole
    monkeypatch.setattr(
        FastFakeMode, "_dispatch_whole", lambda self, func, *rest: asked.append(func) or whole(self, func, *rest)
    )
    real = torch.zeros(2, 3, 5, 7).transpose(1, 2)
    made = []
    for mode in (FakeTensorMode(), make_fake_mode()):
        with torch.no_grad(), mode:
            state = mode.from_tensor(real)
            made.append(describe(torch.cat([torch.tensor([]), state], -2), state))
            assert torch.cat([torch.tensor([]), torch.tensor([4.0])]).tolist() == [4.0], "values that are known stay so"
    assert made[0] == made[1]
    assert torch.ops.aten.cat.default not in asked


def _draw_size(draw: Draw, least: int = 0, most: int = 4) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3, 5]), min_size=least, max_size=most)))


def _draw_tensor(draw: Draw, size: Sequence[int]) -> Tensor:
    """Draw a tensor of a size: dense, in another order in memory, a part of a larger one, or of another dtype."""
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.int64]))
    way = draw(st.sampled_from(["dense", "dense", "dense", "dense", "turned", "swapped", "part", "inner", "last"]))
    if way == "turned" and len(size) > 1:
        return torch.zeros(*reversed(size), dtype=dtype).permute(*reversed(range(len(size))))
    if way == "swapped" and len(size) > 1:
        return torch.zeros(size[1], size[0], *size[2:], dtype=dtype).transpose(0, 1)
    if way == "inner" and size:
        return torch.zeros(*size[:-1], size[-1] + 2, dtype=dtype)[..., : size[-1]]
    if way == "part" and size:
        return torch.zeros(size[0] + 1, *size[1:], dtype=dtype)[1:]
    if way == "last" and len(size) == 4:
        return torch.zeros(*size, dtype=dtype).to(memory_format=LAST)
    return torch.zeros(size, dtype=dtype)


def _draw_call(draw: Draw, name: str) -> tuple[Any, ...]:
    size = _draw_size(draw)
    data = _draw_tensor(draw, size)
    dim = st.integers(-len(size) - 1, len(size))
    if name == "convolution":
        inner, groups, is_transposed = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3])), draw(st.booleans())

        def draw_each(least: int, *more: int) -> list[int]:
            return draw(st.lists(st.sampled_from([least, least, *more]), min_size=inner, max_size=inner))

        read, made = (groups * draw(st.sampled_from([1, 2, 3])) for _ in range(2))
        pair = (read, made // groups) if is_transposed else (made, read // groups)
        weight = _draw_tensor(draw, [*pair, *draw_each(1, 2, 3)])
        bias = draw(st.sampled_from([None, _draw_tensor(draw, [draw(st.sampled_from([made, made, 2]))])]))
        size = [draw(st.integers(1, 3)), draw(st.sampled_from([read, read, read, 4])), *draw_each(5, 1, 2, 7)]
        numbers = draw_each(1, 2, 3), draw_each(0, 1, 2), draw_each(1, 2)
        data, bias = _draw_tensor(draw, size).to(weight.dtype), None if bias is None else bias.to(weight.dtype)
        return data, weight, bias, *numbers, is_transposed, draw_each(0, 0, 1), groups
    if name in ("add", "sub", "mul", "div"):
        other = [draw(st.sampled_from([side, side, 1])) for side in size[draw(st.integers(0, len(size))) :]]
        return data, draw(st.sampled_from([2, 0.5, True, _draw_tensor(draw, other)]))
    if name in ("mm", "bmm", "addmm"):
        ranks = (2, 3, 3, 3, 4) if name == "bmm" else (2, 2, 2, 3)
        rows, inner, columns, *batch = (draw(st.integers(1, 4)) for _ in range(1 + draw(st.sampled_from(ranks))))
        one, other = _draw_tensor(draw, [*batch, rows, inner]), _draw_tensor(draw, [*batch, inner, columns])
        return (_draw_tensor(draw, [columns]), one, other) if name == "addmm" else (one, other)
    if name == "embedding":
        return _draw_tensor(draw, [3, draw(st.integers(1, 4))]), data
    if name == "index":
        positions = _draw_tensor(draw, draw(st.sampled_from([size[:1], [2, 3], [0], []])))
        integers = positions.to(draw(st.sampled_from([torch.int64, torch.int64, torch.int32])))
        more = draw(st.sampled_from([[], [], [], [None], [torch.zeros(1, dtype=torch.int64)]]))
        return data, draw(st.permutations([integers, *more]))
    if name == "cat":
        none = [_draw_tensor(draw, (0,))] * draw(st.integers(0, 1))  # a cache that is still empty
        return none + [_draw_tensor(draw, size) for _ in range(draw(st.integers(1, 3)))], draw(dim)
    if name in ("view", "_unsafe_view"):
        flat = [-1] if draw(st.booleans()) else [data.numel(), 1]
        return data, draw(
            st.sampled_from([flat, [1, *size], [*size[:-2], -1], [*reversed(size)], [1, -1, 1], [7], [-1, -1]])
        )
    if name.endswith("_backward"):
        return data, _draw_tensor(draw, draw(st.sampled_from([size, size, _draw_size(draw)]))), *[0] * ("thr" in name)
    if name == "select":
        return data, draw(dim), draw(st.integers(-3, 3))
    calls: dict[str, Callable[[], tuple[Any, ...]]] = {
        "transpose": lambda: (data, draw(dim), draw(dim)),
        "unsqueeze": lambda: (data, draw(dim)),
        "squeeze": lambda: (data, draw(dim)),
        "pow": lambda: (data, 2),
        **dict.fromkeys(("eq", "le"), lambda: (data, draw(st.sampled_from([0, 2.5, True])))),
        "masked_fill": lambda: (
            data,
            _draw_tensor(draw, draw(st.sampled_from([size, size, size[1:]]))).bool(),
            -1.0,
        ),
        "roll": lambda: (data, [1, -2][: draw(window)], draw(st.lists(dim, max_size=2))),
        "slice": lambda: (data, draw(dim), draw(at), draw(at), draw(st.sampled_from([1, 1, 2, 0]))),
        "expand": lambda: (
            data,
            [3, *(draw(st.sampled_from([-1, side, 4])) for side in size)][draw(st.integers(0, 1)) :],
        ),
        "permute": lambda: (data, draw(st.permutations([*range(len(size))]))),
        "split": lambda: (data, draw(st.integers(0, 3)), draw(dim)),
        "split_with_sizes": lambda: (data, [draw(st.integers(0, 3)), draw(st.integers(0, 3))], draw(dim)),
        "unbind": lambda: (data, draw(dim)),
        "gather": lambda: (data, draw(dim), _draw_tensor(draw, draw(st.sampled_from([size, _draw_size(draw)])))),
        "constant_pad_nd": lambda: (data, draw(st.lists(st.integers(-1, 2), max_size=5)), 0.0),
        "_softmax": lambda: (data, draw(dim), False),
        "_log_softmax": lambda: (data, draw(dim), draw(st.booleans())),
        "mean": lambda: (data, draw(st.lists(dim, max_size=2)), draw(st.booleans())),
        "sum": lambda: (data, draw(st.lists(dim, max_size=2)), draw(st.booleans())),
        "upsample_nearest2d": lambda: (data, [draw(st.integers(0, 4)), 3]),
        "_adaptive_avg_pool2d": lambda: (data, [draw(st.integers(0, 4)), 3]),
        "avg_pool2d": lambda: (
            data,
            [draw(window), 2],
            [draw(window), 1],
            draw(st.integers(0, 1)),
            draw(st.booleans()),
        ),
        "rsub": lambda: (data, 2),
        "max_pool2d_with_indices": lambda: (
            data,
            draw(st.sampled_from([[2, 3], [1], [3, 2]])),
            draw(st.sampled_from([[], [2], [1, 2], [3, 0]])),
            draw(st.integers(0, 1)),
            draw(window),
            draw(st.booleans()),
        ),
        "add_": lambda: (data, draw(st.sampled_from([2, 0.5, _draw_tensor(draw, size), _draw_tensor(draw, size[1:])]))),
        "native_layer_norm": lambda: (data, size[-2:], *_draw_params(draw, size[-2:], 2, data.dtype), 1e-5),
        "native_batch_norm": lambda: (
            *(data, *_draw_params(draw, size[1:2], 4, data.dtype)),
            *(draw(st.booleans()), 0.1, 1e-5),
        ),
        "_scaled_dot_product_flash_attention_for_cpu": lambda: (
            *(_draw_tensor(draw, size if len(size) == 4 else (2, 3, draw(window), 4)) for _ in range(3)),
            0.0,
            draw(st.booleans()),
        ),
    }
    at, window = st.sampled_from([None, 0, 1, 3, -2]), st.integers(1, 3)
    return calls.get(name, lambda: (data,))()


def _draw_params(draw: Draw, size: Sequence[int], many: int, dtype: torch.dtype) -> list[Tensor | None]:
    """Draw what a norm is given beside its data: of its size mostly, or nothing."""
    kinds = [None, *[torch.zeros(size, dtype=dtype)] * 3, torch.zeros(2, dtype=dtype)]
    return [draw(st.sampled_from(kinds)) for _ in range(many)]


EVIDENT = [
    "relu", "gelu", "pow", "add", "mul", "div", "mm", "bmm", "addmm", "embedding", "index", "cat", "view",
    "sub", "rsub", "eq", "le", "masked_fill", "roll", "relu_", "sigmoid_",
    "convolution", "_unsafe_view", "threshold_backward", "gelu_backward", "tanh_backward", "max_pool2d_with_indices",
    "native_layer_norm", "native_batch_norm",
]  # fmt: skip
#: What torch's kernels for sizes are asked, past what torch does before.
OF_KERNELS = [
    "unsqueeze", "transpose", "select", "slice", "expand", "t", "alias", "permute", "detach", "squeeze", "split",
    "split_with_sizes", "unbind", "clone", "gather", "constant_pad_nd", "_softmax", "_log_softmax", "mean", "sum",
    "upsample_nearest2d", "_adaptive_avg_pool2d", "avg_pool2d", "silu", "add_",
    "_scaled_dot_product_flash_attention_for_cpu",
]  # fmt: skip


@pytest.mark.parametrize("name", EVIDENT)
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_an_evident_result_is_what_torch_makes(name: str, data: st.DataObject) -> None:
    """Size, strides, dtype and offset of it, of dense tensors and others, and whether it fails."""
    _compare_with_torch(name, data)


@pytest.mark.parametrize("name", OF_KERNELS)
@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_what_a_kernel_for_sizes_makes_is_what_torch_makes(name: str, data: st.DataObject) -> None:
    _compare_with_torch(name, data)


def _compare_with_torch(name: str, data: st.DataObject) -> None:
    args = _draw_call(data.draw, name)
    operation = getattr(torch.ops.aten, name)

    def ask(mode: FakeTensorMode) -> Any:
        fakes: list[Any] = []
        for value in args:
            is_list = name in ("cat", "index") and isinstance(value, list)
            make = mode.from_tensor
            many = [None if one is None else make(one) for one in value] if is_list else value
            fakes.append(make(value) if isinstance(value, Tensor) else many)
        try:
            with torch.no_grad(), mode:
                made = operation(*fakes)
        except Exception as error:  # noqa: BLE001  # whatever it raises, ours raises too
            return type(error)
        return describe(made, fakes[0][0] if name == "cat" else fakes[0])

    ours = make_fake_mode()
    expected = ask(FakeTensorMode())
    assert ask(ours) == expected
    assert ask(ours) == expected  # remembered


def test_a_map_sampled_at_a_grid_is_not_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an optical flow the first grid has known values."""
    asked: list[Any] = []
    whole = FastFakeMode._dispatch_whole
    monkeypatch.setattr(
        FastFakeMode, "_dispatch_whole", lambda self, func, *rest: asked.append(func) or whole(self, func, *rest)
    )
    with torch.no_grad(), make_fake_mode() as mode:
        data, grid = make_fake(torch.zeros(3, 5, 9, 13), mode), make_fake(torch.zeros(3, 11, 17, 2), mode)
        F.grid_sample(data, grid, align_corners=False)
        known = torch.linspace(-1, 1, 36).view(3, 2, 3, 2)
        assert known[0, 0, 0, 0].item() == -1
        made = F.grid_sample(data, known, align_corners=False)
    assert describe(made, data) == [((3, 5, 2, 3), (30, 6, 3, 1), torch.float32, torch.device("cpu"), 0, False, False)]
    assert torch.ops.aten.grid_sampler_2d.default not in asked


@pytest.mark.parametrize(
    ("operation", "ask"),
    [
        ("where", lambda x: torch.where(torch.arange(6) < 4, x, -1.0)),
        ("fill_", lambda x: (x[1:3].fill_(torch.tensor(2)), x)[1]),
        ("masked_fill", lambda x: x.masked_fill(torch.arange(6) < 4, 0.5)),
    ],
)
def test_what_values_do_not_change_is_remembered_without_them(
    operation: str, ask: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask is known, and what it hides is not: then the result is as large, and unknown, whatever the mask is."""
    asked: list[str] = []
    whole = FastFakeMode._dispatch_whole
    monkeypatch.setattr(
        FastFakeMode, "_dispatch_whole", lambda self, func, *rest: asked.append(func.name()) or whole(self, func, *rest)
    )
    made = []
    for _ in range(3):
        with torch.no_grad(), make_fake_mode() as mode:
            x = make_fake(torch.zeros(7, 6), mode)
            made.append(describe(ask(x), x))
            with pytest.raises(FAKE_ONLY_ERRORS):
                ask(x).sum().item()
    with torch.no_grad(), FakeTensorMode() as stock:
        x = stock.from_tensor(torch.zeros(7, 6))
        expected = describe(ask(x), x)
    assert made == [expected] * 3
    assert sum(name.startswith(f"aten::{operation}") for name in asked) <= 1

"""How fakes are made, what they know and what is remembered of them: a change of torch shows here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from modelsummary_ipy.fake.fake_mode import build_fake
from modelsummary_ipy.fake.fake_tensors import make_fake
from modelsummary_ipy.fake.fast_fake_mode import FastFakeMode, make_fake_mode
from modelsummary_ipy.torch_compat.fakes import FAKE_ONLY_ERRORS, FakeTensor, FakeTensorMode
from modelsummary_ipy.tracing.module_calls import observe_calls
from tests.reference import HAS_GROUPED_PRODUCTS

CPU = torch.device("cpu")

Draw = Callable[[st.SearchStrategy[Any]], Any]
LAST, LAST_3D = torch.channels_last, torch.channels_last_3d


def empty(*size: int) -> Tensor:
    return torch.empty(size, device="meta")


def facts(tensor: Tensor) -> tuple[Any, ...]:
    return (
        *(type(tensor), tensor.size(), tensor.stride(), tensor.storage_offset(), tensor.dtype, tensor.device),
        *(tensor.requires_grad, tensor.is_leaf, str(torch._C._dispatch_keys(tensor))),
    )


# -- fakes that are made without torch's constructor -------------------------------------------------------------------


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_fake_made_from_a_template_is_as_the_constructor_makes_it(device: str, requires_grad: bool) -> None:
    mode, where = make_fake_mode(), torch.device(device)
    build_fake(mode, empty(1), where)  # the template
    ours = build_fake(mode, empty(2, 3), where, requires_grad)
    theirs: Any = FakeTensor(mode, empty(2, 3), where).requires_grad_(requires_grad)
    assert facts(ours) == facts(theirs)
    assert ours.__dict__.keys() == theirs.__dict__.keys()
    same = {name for name in theirs.__dict__ if ours.__dict__[name] is theirs.__dict__[name]}
    assert {"fake_mode", "constant"} <= same


def test_the_fake_of_a_parameter_is_a_parameter() -> None:
    fake = make_fake(nn.Parameter(torch.ones(2, 3)), make_fake_mode())
    assert isinstance(fake, FakeTensor)
    assert isinstance(fake, nn.Parameter)
    assert fake.requires_grad
    assert fake.is_leaf


def test_the_fake_of_a_result_may_be_written_to_as_the_result_may() -> None:
    mode = make_fake_mode()
    leaf, result = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2)) * 2
    with mode:
        make_fake(result, mode).add_(1)
        with pytest.raises(RuntimeError, match="leaf Variable"):
            make_fake(leaf, mode).add_(1)


def test_a_lazy_parameter_becomes_a_fake_in_place() -> None:
    mode = make_fake_mode()
    lazy = make_fake(nn.LazyLinear(3).weight, mode)
    with mode:
        lazy.materialize((3, 4))
    assert isinstance(lazy, FakeTensor)
    assert lazy.shape == (3, 4)
    assert lazy.fake_device == CPU


def test_memory_of_a_fake_is_never_read() -> None:
    with pytest.raises(RuntimeError):
        build_fake(make_fake_mode(), empty(2), CPU).numpy()


# -- values that are known ---------------------------------------------------------------------------------------------


def in_mode(ask: Callable[[], Any]) -> Any:
    with make_fake_mode():
        return ask()


@pytest.mark.parametrize(
    ("ask", "value"),
    [
        (lambda: bool(torch.ones(2, 3, dtype=torch.bool).all()), True),
        (lambda: int(torch.zeros(3, dtype=torch.int64).sum()), 0),
        (lambda: torch.arange(3).tolist(), [0, 1, 2]),
        (lambda: torch.arange(2, 8, 3).tolist(), [2, 5]),
        (lambda: torch.full((2,), 7, dtype=torch.int64).tolist(), [7, 7]),
        (lambda: bool((torch.arange(4).diff() == 1).all()), True),
        (lambda: torch.tensor([2, 3]).tolist(), [2, 3]),
    ],
)
def test_counts_and_masks_of_one_value_know_it(ask: Callable[[], Any], value: Any) -> None:
    assert in_mode(ask) == value
    assert ask() == value


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty_like(torch.ones(3, dtype=torch.int64)).tolist(),
        lambda: torch.ones(3, dtype=torch.int64).new_empty(3).tolist(),
        lambda: torch.randint(9, (3,)).tolist(),
        lambda: torch.randn(3).sum().item(),
        lambda: (x := torch.zeros(4, dtype=torch.int64), x.view(2, 2), x.random_(9))[1].tolist(),
        lambda: (x := torch.zeros(4, dtype=torch.int64), x[1:].random_(9))[0].tolist(),
        lambda: (x := torch.zeros(4, dtype=torch.int64), x[1:].copy_(torch.randint(9, (3,))))[0].tolist(),
    ],
)
def test_an_unknown_value_is_never_made_up(ask: Callable[[], Any]) -> None:
    with pytest.raises(FAKE_ONLY_ERRORS):
        in_mode(ask)


def test_a_known_value_that_is_written_to_is_known_as_it_is_then() -> None:
    def ask() -> list[int]:
        x = torch.zeros(3, dtype=torch.int64)
        x[1:] += 2
        return x.tolist()

    assert in_mode(ask) == ask() == [0, 2, 2]


# -- results that are remembered ---------------------------------------------------------------------------------------

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
    asked: list[Any] = []
    whole = FastFakeMode._dispatch_whole
    monkeypatch.setattr(
        FastFakeMode, "_dispatch_whole", lambda self, func, *rest: asked.append(func) or whole(self, func, *rest)
    )
    with torch.no_grad(), make_fake_mode() as mode:
        data, grid = make_fake(torch.zeros(3, 5, 9, 13), mode), make_fake(torch.zeros(3, 11, 17, 2), mode)
        F.grid_sample(data, grid, align_corners=False)
    assert torch.ops.aten.grid_sampler_2d.default not in asked


# -- calls that are observed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "build",
    [
        lambda dtype: torch.ones(3, 4, 7, dtype=dtype),
        lambda dtype: torch.ones(3, 4, 7, 5, dtype=dtype),
        lambda dtype: torch.ones(1, 4, 1, 5, dtype=dtype),
        lambda dtype: torch.ones(3, 4, 2, 3, 5, dtype=dtype),
        lambda dtype: torch.ones(3, 4, 7, 5, dtype=dtype).to(memory_format=torch.channels_last),
        lambda dtype: torch.ones(3, 4, 2, 3, 5, dtype=dtype).to(memory_format=torch.channels_last_3d),
        lambda dtype: torch.ones(3, 4, 9, 5, dtype=dtype)[:, :, 2:],
        lambda dtype: torch.ones(3, 4, dtype=dtype),
    ],
    ids=["3d", "4d", "ones", "5d", "channels last", "channels last 3d", "a part", "2d"],
)
def test_a_norm_of_channels_makes_what_torch_makes(
    build: Callable[[torch.dtype], Tensor], dtype: torch.dtype, training: bool
) -> None:
    data = build(dtype)
    weights = [torch.ones(4, dtype=dtype) for _ in range(4)]

    def ask(mode: FakeTensorMode) -> list[tuple[Any, ...]]:
        fakes = [mode.from_tensor(tensor) for tensor in (data, *weights)]
        with mode:
            made = torch.ops.aten.native_batch_norm(*fakes, training, 0.1, 1e-5)
        return [(tuple(part.shape), part.stride(), part.dtype, part.device) for part in made]

    ours = make_fake_mode()
    theirs = ask(FakeTensorMode())
    assert ask(ours) == theirs
    assert ask(ours) == theirs  # remembered


ATEN = torch.ops.aten


def ones(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(size, dtype=dtype)


@pytest.mark.parametrize(
    ("ask", "given"),
    [
        (lambda x, w, b: ATEN.native_layer_norm(x, [8], w, b, 1e-5), (ones(3, 5, 8), ones(8), ones(8))),
        (lambda x: ATEN.native_layer_norm(x, [8], None, None, 1e-5), (ones(1, 1, 8),)),
        (lambda x: ATEN.native_layer_norm(x, [5, 8], None, None, 1e-5), (ones(3, 2, 5, 8),)),
        (lambda x: ATEN.native_layer_norm(x, [8], None, None, 1e-5), (ones(8),)),
        (lambda x: ATEN.native_layer_norm(x, [8], None, None, 1e-5), (ones(3, 8, dtype=torch.bfloat16),)),
        (lambda x: ATEN.native_layer_norm(x, [8], None, None, 1e-5), (ones(5, 3, 8).transpose(0, 1),)),
        (lambda x: ATEN.native_layer_norm(x, [8], None, None, 1e-5), (ones(4, 6, 8)[:, 2:4],)),
        (lambda x, w, b: ATEN.native_group_norm(x, w, b, 3, 4, 35, 2, 1e-5), (ones(3, 4, 7, 5), ones(4), ones(4))),
        (lambda x: ATEN.native_group_norm(x, None, None, 1, 4, 7, 4, 1e-5), (ones(1, 4, 7),)),
        (lambda x: ATEN.native_group_norm(x, None, None, 3, 4, 1, 2, 1e-5), (ones(3, 4),)),
        (lambda x: ATEN.native_group_norm(x, None, None, 3, 4, 30, 1, 1e-5), (ones(3, 4, 2, 3, 5).double(),)),
        (lambda x: ATEN.native_group_norm(x, None, None, 3, 4, 4, 2, 1e-5), (ones(3, 4, 2, 2).to(memory_format=LAST),)),
        (lambda x: ATEN.native_group_norm(x, None, None, 3, 4, 35, 2, 1e-5), (ones(3, 4, 7, 5).bfloat16(),)),
        (lambda x: ATEN.upsample_bilinear2d(x, [9, 4], False), (ones(2, 3, 5, 6),)),
        (lambda x: ATEN.upsample_bilinear2d(x, [9, 4], True, 2.0, 1.0), (ones(1, 1, 5, 6, dtype=torch.bfloat16),)),
        (lambda x: ATEN.upsample_bilinear2d(x, [9, 4], False), (ones(2, 3, 5, 6).to(memory_format=LAST),)),
        (lambda x: ATEN.upsample_bilinear2d(x, [9, 4], False), (ones(2, 1, 5, 6).to(memory_format=LAST),)),
        (lambda x: ATEN.upsample_bilinear2d(x, [9, 4], False), (ones(2, 3, 6, 5).transpose(2, 3),)),
        (lambda x: ATEN.upsample_bicubic2d(x, [9, 4], False), (ones(2, 3, 5, 6),)),
        (lambda x: ATEN.upsample_bicubic2d(x, [9, 4], False), (ones(2, 3, 5, 6).to(memory_format=LAST),)),
        (lambda x: ATEN.upsample_linear1d(x, [9], False), (ones(2, 3, 5),)),
        (lambda x: ATEN.upsample_trilinear3d(x, [9, 4, 2], False), (ones(2, 3, 5, 6, 4),)),
        (lambda x: ATEN.upsample_trilinear3d(x, [9, 4, 2], False), (ones(2, 3, 5, 6, 4).to(memory_format=LAST_3D),)),
        (lambda x: ATEN.grid_sampler_2d(x, ones(2, 4, 7, 2), 0, 0, False), (ones(2, 3, 5, 6),)),
        (lambda x: ATEN.grid_sampler_2d(x, ones(2, 1, 1, 2).bfloat16(), 1, 1, True), (ones(2, 3, 5, 6).bfloat16(),)),
        (lambda x: ATEN.grid_sampler_2d(x, ones(2, 7, 4, 2), 2, 2, False), (ones(2, 3, 6, 5).transpose(2, 3),)),
        (lambda x: ATEN.grid_sampler_2d(x, ones(2, 4, 7, 2), 0, 0, False), (ones(2, 4, 5, 6).to(memory_format=LAST),)),
        (lambda x: ATEN.grid_sampler_2d(x, ones(2, 2, 7, 4).mT[..., :2], 0, 0, False), (ones(2, 1, 5, 6),)),
    ],
)  # fmt: skip
def test_what_is_known_from_a_smaller_size_is_what_torch_makes(
    ask: Callable[..., Any], given: tuple[Tensor, ...]
) -> None:
    def facts_of(made: Any) -> list[tuple[Any, ...]]:
        parts = made if isinstance(made, tuple) else (made,)
        return [(tuple(part.shape), part.stride(), part.dtype, part.device.type) for part in parts]

    ours, theirs = make_fake_mode(), FakeTensorMode()
    with theirs:
        wanted = facts_of(ask(*map(theirs.from_tensor, given)))
    with ours:
        fakes = [ours.from_tensor(tensor) for tensor in given]
        assert facts_of(ask(*fakes)) == wanted
        assert facts_of(ask(*fakes)) == wanted  # remembered
    really = facts_of(ask(*given))
    assert [size for size, *_ in wanted] == [size for size, *_ in really]
    assert wanted[0][2] == really[0][2]


@pytest.mark.parametrize(
    "ask",
    [
        lambda: ATEN.native_layer_norm(torch.empty(3, 5, 8), [7], None, None, 1e-5),
        lambda: ATEN.native_group_norm(torch.empty(3, 4, 7, 5), None, None, 3, 4, 35, 3, 1e-5),
        lambda: ATEN.upsample_bilinear2d(torch.empty(2, 3, 5, 6), [0, 4], False),
        lambda: ATEN.upsample_bilinear2d(torch.empty(2, 3, 5), [9, 4], False),
        lambda: ATEN.grid_sampler_2d(torch.empty(2, 3, 5, 6), torch.empty(1, 4, 7, 2), 0, 0, False),
        lambda: ATEN.grid_sampler_2d(torch.empty(2, 3, 5, 6), torch.empty(2, 4, 7, 3), 0, 0, False),
        lambda: ATEN.grid_sampler_2d(torch.empty(2, 3, 5, 6), torch.empty(2, 0, 7, 2), 0, 0, False),
    ],
)
def test_what_does_not_fit_is_left_to_torch(ask: Callable[[], Any]) -> None:
    def try_in(mode: FakeTensorMode) -> Any:
        try:
            with mode:
                made = ask()
        except Exception as error:  # noqa: BLE001  # whatever it raises, ours raises too
            return type(error)
        return [(tuple(part.shape), part.stride()) for part in (made if isinstance(made, tuple) else (made,))]

    assert try_in(make_fake_mode()) == try_in(FakeTensorMode())


def test_a_norm_of_channels_that_do_not_fit_fails_as_torch_fails() -> None:
    with make_fake_mode(), pytest.raises(RuntimeError) as ours:
        torch.ops.aten.native_batch_norm(*(torch.ones(*s) for s in ((2, 3, 8, 8), *[(4,)] * 4)), True, 0.1, 1e-5)
    with FakeTensorMode(), pytest.raises(RuntimeError) as theirs:
        torch.ops.aten.native_batch_norm(*(torch.ones(*s) for s in ((2, 3, 8, 8), *[(4,)] * 4)), True, 0.1, 1e-5)
    assert type(ours.value) is type(theirs.value)


def test_a_call_of_any_module_is_observed_in_its_thread_alone() -> None:
    observed: list[nn.Module] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        observed.append(module)
        return module.forward(*args, **kwargs)

    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    x = torch.zeros(1, 2)
    with observe_calls(record):
        net(x)
        other = threading.Thread(target=net, args=(x,))
        other.start()
        other.join()
    assert observed == [net, net[0], net[1]]
    net(x)
    assert len(observed) == 3
    assert nn.Module._compiled_call_impl is None


# -- what comes with fakes ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_GROUPED_PRODUCTS, reason="torch before 2.9 has none on a CPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_grouped_product_has_a_fake_wherever_it_has_a_kernel(dtype: torch.dtype) -> None:
    """torch's rule for its sizes takes bfloat16 alone; its strides must be whole multiples of 16 bytes."""
    ends = torch.tensor([4, 8], dtype=torch.int32)
    rows, stack, wide = torch.randn(8, 16), torch.randn(2, 16, 8), torch.randn(16, 8)
    cases = ((rows, stack), (rows, stack.mT.contiguous().mT), (wide, rows), (stack, stack.mT))
    for left, right in cases:
        left, right = left.to(dtype), right.to(dtype)
        at = None if left.dim() == right.dim() == 3 else ends
        real = torch._grouped_mm(left, right, at)
        with make_fake_mode() as mode:
            fake = torch._grouped_mm(
                *(make_fake(value, mode) if value is not None else None for value in (left, right, at))
            )
        assert (fake.shape, fake.stride(), fake.dtype, fake.device) == (
            *(real.shape, real.stride(), real.dtype, real.device),
        )


@pytest.mark.skipif(not HAS_GROUPED_PRODUCTS, reason="torch before 2.9 has none on a CPU")
@pytest.mark.parametrize(("rows", "columns"), [(15, 16), (16, 6)])
def test_a_grouped_product_that_fails_for_real_fails_as_a_fake(rows: int, columns: int) -> None:
    left, right, ends = torch.randn(8, 16), torch.randn(2, rows, columns), torch.tensor([4, 8], dtype=torch.int32)
    with pytest.raises(RuntimeError, match=r"contraction|stride"):
        torch._grouped_mm(left, right, ends)
    # Torch 2.9's rule for sizes trips over the message that it wants to raise.
    refused = pytest.raises((RuntimeError, TypeError), match=r"contraction|stride|message must be a callable")
    with make_fake_mode() as mode, refused:
        torch._grouped_mm(make_fake(left, mode), make_fake(right, mode), make_fake(ends, mode))


# -- what kernels make otherwise than torch's fakes --------------------------------------------------------------------

ATEN = torch.ops.aten
#: Gradient and input as ``(B, C, H, W)``, each contiguous or channels last; the gradient of a norm, or of log_softmax.
BACKWARDS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "layer norm": lambda grad, x: ATEN.native_layer_norm_backward(
        grad, x, [4], x[..., :1], x[..., :1], None, None, [True, False, False]
    ),
    "group norm": lambda grad, x: ATEN.native_group_norm_backward(
        grad, x, x[:, :2, 0, 0].contiguous(), x[:, :2, 0, 0].contiguous(), None, 2, 8, 16, 2, [True, False, False]
    ),
    "batch norm": lambda grad, x: ATEN.native_batch_norm_backward(
        grad, x, *[x[0, :, 0, 0].contiguous()] * 5, True, 1e-5, [True, True, True]
    ),
    "log softmax": lambda grad, x: ATEN._log_softmax_backward_data(grad, x, -1, torch.float32),
}


@pytest.mark.parametrize("formats", [(a, b) for a in (LAST, torch.contiguous_format) for b in (LAST, None)])
@pytest.mark.parametrize("name", BACKWARDS)
def test_a_gradient_lies_as_the_kernel_lays_it_out(name: str, formats: tuple[Any, Any]) -> None:
    grad, x = (torch.randn(2, 8, 4, 4).to(memory_format=each or torch.contiguous_format) for each in formats)
    run = BACKWARDS[name]
    real = run(grad, x)
    with make_fake_mode() as mode:
        fake = run(*(make_fake(each, mode) for each in (grad, x)))
    first, ours = (each[0] if isinstance(each, tuple) else each for each in (real, fake))
    assert ours.stride() == first.stride()


#: Of ``(B, C, H)``, a weight and a running mean.
NORMS: dict[str, Callable[..., Any]] = {
    "layer norm": lambda x, w, _: ATEN.native_layer_norm(x, [4], w, w, 1e-5),
    "group norm": lambda x, w, _: ATEN.native_group_norm(x, w, w, 2, 4, 4, 2, 1e-5),
    "batch norm": lambda x, w, mean: ATEN.native_batch_norm(x, w, w, mean, mean, True, 0.1, 1e-5),
    "batch norm of one batch": lambda x, w, _: ATEN.native_batch_norm(x, w, w, None, None, True, 0.1, 1e-5),
    "batch norm in eval": lambda x, w, mean: ATEN.native_batch_norm(x, w, w, mean, mean, False, 0.1, 1e-5),
}


@pytest.mark.parametrize("weight", [torch.float32, torch.bfloat16, None])
@pytest.mark.parametrize("data", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NORMS)
def test_statistics_of_a_norm_have_the_dtype_that_the_kernel_gives_them(name: str, data: Any, weight: Any) -> None:
    if (data, weight) == (torch.float32, torch.bfloat16):
        weight = data  # the kernels refuse a weight that is narrower than the data
    given = [ones(2, 4, 4).to(data), None if weight is None else ones(4).to(weight), ones(4).to(weight or data)]
    run = NORMS[name]
    real = run(*given)
    with make_fake_mode() as mode:
        fake = run(*(None if each is None else make_fake(each, mode) for each in given))
    assert [(each.shape, each.dtype, each.stride()) for each in fake] == [
        (each.shape, each.dtype, each.stride()) for each in real
    ]


def test_the_gradient_of_a_group_norm_in_halves_is_one() -> None:
    def run(x: Tensor, weight: Tensor) -> Any:
        made, *statistics = ATEN.native_group_norm(x, weight, weight, 2, 4, 4, 2, 1e-5)
        return ATEN.native_group_norm_backward(made, x, *statistics, weight, 2, 4, 4, 2, [True, True, True])

    given = ones(2, 4, 4).bfloat16(), ones(4)
    with make_fake_mode() as mode:
        fake = run(*(make_fake(each, mode) for each in given))
    assert [each.dtype for each in fake] == [each.dtype for each in run(*given)]


#: Layouts of the input of a batch norm.
FOR_CHANNELS: dict[str, Callable[[], Tensor]] = {
    "a number each": lambda: ones(5, 4),
    "sequences": lambda: ones(2, 4, 3),
    "channels last": lambda: ones(2, 4, 3, 3).to(memory_format=LAST),
    "turned": lambda: ones(2, 3, 4).transpose(1, 2),
    "volumes": lambda: ones(2, 4, 3, 3, 2),
}


@pytest.mark.parametrize("wants", [[True, True, True], [False, True, True], [True, False, False]])
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)])
@pytest.mark.parametrize("name", FOR_CHANNELS)
def test_gradients_of_a_batch_norm_are_those_of_its_kernel(name: str, dtypes: Any, wants: list[bool]) -> None:
    for is_training in (True, False):

        def run(x: Tensor, one: Tensor, is_training: bool = is_training) -> Any:
            return ATEN.native_batch_norm_backward(x, x, one, one, one, one, one, is_training, 1e-5, wants)

        given = FOR_CHANNELS[name]().to(dtypes[0]), ones(4).to(dtypes[1])
        with make_fake_mode() as mode:
            fake = run(*(make_fake(each, mode) for each in given))
        ours, real = (
            [None if each is None else (each.shape, each.stride(), each.dtype) for each in made]
            for made in (fake, run(*given))
        )
        assert ours == real

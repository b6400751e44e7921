"""What fakes let pass and a kernel refuses: asked of the kernel itself, and of nothing else."""

from __future__ import annotations

import itertools
import queue
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.fake.fast_fake_mode import make_fake_mode
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.summary import ModelSummary
from modelsummary_ipy.tracing import real_op_checks as checks
from modelsummary_ipy.tracing.function_ops import describe_op
from modelsummary_ipy.tracing.real_op_checks import check_operation
from modelsummary_ipy.tracing.replay import UnknownError, replay

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)

#: Functions of two tensors, with sizes that fit.
PAIRS: dict[str, tuple[Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = {
    "linear": (F.linear, (2, 3), (4, 3)),
    "conv1d": (F.conv1d, (2, 3, 8), (4, 3, 3)),
    "conv2d": (F.conv2d, (2, 3, 6, 6), (4, 3, 3, 3)),
    "conv_transpose2d": (F.conv_transpose2d, (2, 3, 6, 6), (3, 4, 3, 3)),
    "matmul": (torch.matmul, (2, 3), (3, 4)),
    "bmm": (torch.bmm, (2, 2, 3), (2, 3, 4)),
    "mv": (torch.mv, (2, 3), (3,)),
    "layer_norm": (lambda x, w: F.layer_norm(x, (3,), w), (2, 3), (3,)),
    "group_norm": (lambda x, w: F.group_norm(x, 3, w), (2, 3, 4), (3,)),
    "prelu": (F.prelu, (2, 3), (3,)),
    "embedding": (F.embedding, (2, 3), (4, 3)),
    "sub": (torch.sub, (2, 3), (2, 3)),
    "index_select": (lambda x, i: torch.index_select(x, 0, i), (2, 3), (2,)),
    "grid_sample": (lambda x, g: F.grid_sample(x, g, align_corners=False), (1, 2, 4, 4), (1, 3, 3, 2)),
    "bitwise_and": (torch.bitwise_and, (2,), (2,)),
    "scaled_dot_product_attention": (lambda q, k: F.scaled_dot_product_attention(q, k, k), (1, 2, 3, 4), (1, 2, 3, 4)),
}
#: Functions of one tensor of size [2, 4, 4, 4].
SINGLE: dict[str, Callable[..., Any]] = {
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "gelu": F.gelu,
    "silu": F.silu,
    "std": torch.std,
    "hardswish": F.hardswish,
    "glu": F.glu,
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2),
    "unfold": lambda x: F.unfold(x, 2),
    "mul_": lambda x: x.mul_(0.5),
    "invert": lambda x: ~x,
    "relu": F.relu,
    "argmax": torch.argmax,
}


class _Guarded(torch.overrides.TorchFunctionMode):
    """Asks ``check_operation`` before every function, as the tracer does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        check_operation(func, describe_op(func).name, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def raises(function: Callable[..., Any], *tensors: tuple[tuple[int, ...], torch.dtype], fake: bool) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if fake:
                with make_fake_mode(), _Guarded():
                    function(*[torch.zeros(shape, dtype=dtype) for shape, dtype in tensors])
            else:
                function(*[torch.zeros(shape, dtype=dtype) for shape, dtype in tensors])
        except Exception:  # noqa: BLE001  # that it raises is the answer
            return True
    return False


@pytest.mark.parametrize("name", PAIRS)
def test_two_dtypes_fail_with_fakes_where_they_fail_for_real(name: str) -> None:
    function, left, right = PAIRS[name]
    for one, other in itertools.product(DTYPES, DTYPES):
        given = ((left, one), (right, other))
        assert raises(function, *given, fake=True) == raises(function, *given, fake=False), (one, other)


@pytest.mark.parametrize("name", SINGLE)
def test_a_dtype_fails_with_fakes_where_it_fails_for_real(name: str) -> None:
    for dtype in DTYPES:
        given = ((2, 4, 4, 4), dtype)
        assert raises(SINGLE[name], given, fake=True) == raises(SINGLE[name], given, fake=False), dtype


def test_sizes_that_fail_do_so_after_others_of_the_same_dtypes_ran() -> None:
    for width in (5, 6):
        given = ((7, 5), torch.float32), ((3,), torch.int32), ((3, width), torch.float32)
        add = lambda x, index, more: x.index_add(0, index, more)  # noqa: E731
        assert raises(add, *given, fake=True) == raises(add, *given, fake=False) == (width == 6)


INDEXED = {
    "gather": lambda x, i: x.gather(0, i),
    "scatter_add": lambda x, i: x.scatter_add(0, i, x),
    "scatter_add to expanded indices": lambda x, i: x.scatter_add(0, i[:, :1].expand(-1, x.size(1)), x),
    "index_fill": lambda x, i: x.index_fill(0, i[0], 1.0),
    "index_copy": lambda x, i: x.index_copy(0, i[0, :10], x),
    "index_reduce": lambda x, i: x.index_reduce(0, i[0, :10], x, "prod"),
    "put": lambda x, i: x.put(i, x),
    "take": torch.take,
    "setitem": lambda x, i: x.clone().__setitem__(i[0], 1.0),
}


@pytest.mark.parametrize("name", INDEXED)
def test_an_index_fails_with_fakes_where_its_dtype_fails_for_real(name: str) -> None:
    for dtype in (torch.int64, torch.int32, torch.int16, torch.uint8, torch.float32):
        given = ((10, 16), torch.float32), ((10, 16), dtype)
        assert raises(INDEXED[name], *given, fake=True) == raises(INDEXED[name], *given, fake=False), dtype


@pytest.mark.parametrize("dim", [-4, -3, -1, 0, 2, 3])
@pytest.mark.parametrize("function", [F.softmax, F.log_softmax, torch.sort], ids=lambda function: function.__name__)
def test_an_axis_that_is_not_there_fails_with_fakes_too(function: Any, dim: int) -> None:
    given = ((2, 3, 4), torch.float32)
    assert raises(lambda x: function(x, dim), given, fake=True) == (dim not in range(-3, 3))


def test_nothing_is_run_for_real_where_dtypes_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("an operation was run for real")

    monkeypatch.setattr(checks, "replay", refuse)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2), nn.Softmax(-1)
    )
    assert ModelSummary(model, (2, 1, 8, 8)).error is None


def test_a_mix_that_the_kernel_knows_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(checks, "_passed", set())
    monkeypatch.setattr(checks, "replay", lambda func, *rest: asked.append(func) or replay(func, *rest))
    model = nn.Sequential(*[nn.LayerNorm(4) for _ in range(5)])
    assert ModelSummary(model, torch.zeros(2, 4, dtype=torch.bfloat16)).error is None
    assert len(asked) == 1


# -- asking the operation itself --------------------------------------------------------------------------------------


def fakes(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    with make_fake_mode():
        return [torch.zeros(shape, dtype=dtype) for shape in shapes]


def test_replay_returns_what_the_real_operation_raises() -> None:
    assert replay(torch.matmul, tuple(fakes((2, 3), (3, 4))), {}) is None
    error = replay(torch.matmul, tuple(fakes((2, 3), (2, 4))), {})
    assert isinstance(error, RuntimeError)
    assert str(error).removeprefix("mm: ") == "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x4)"  # 2.15 says mm


def test_replay_keeps_strides_so_that_a_view_fails_as_it_should() -> None:
    (x,) = fakes((2, 3, 4))
    with make_fake_mode():
        x = torch.zeros(2, 3, 4).transpose(1, 2)
    assert "view size is not compatible" in str(replay(Tensor.view, (x, 2, 12), {}))
    assert replay(Tensor.reshape, (x, 2, 12), {}) is None


def test_replay_leaves_the_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    assert replay(F.dropout, (fakes((4, 4))[0], 0.5, True), {}) is None
    assert torch.equal(torch.get_rng_state(), before)


def test_replay_refuses_what_is_too_large_or_has_no_zeros() -> None:
    assert isinstance(replay(torch.relu, tuple(fakes((1 << 13, 1 << 12))), {}), UnknownError)
    with make_fake_mode():
        mixed = torch.zeros(2), torch.zeros(2, device="meta")
    assert isinstance(replay(torch.add, mixed, {}), UnknownError)


# -- fakes against the real engine ------------------------------------------------------------------------------------


class ByteMask(nn.Module):
    """``torch.where`` takes bytes for real and refuses them with fakes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where((x > 0).to(torch.uint8), x, 0.0)


@pytest.mark.filterwarnings("ignore:where received a uint8")
def test_what_fails_with_fakes_only_is_run_for_real() -> None:
    ms = ModelSummary(ByteMask(), (2, 4))
    assert ms.error is None
    assert ms.engine == "real"
    assert ms.engine_reason.startswith("where() at test_real_op_checks.py:")


def test_what_fails_with_fakes_only_is_no_reason_to_run_where_only_fakes_were_asked_for() -> None:
    ms = ModelSummary(ByteMask(), (2, 4), engine="fake")
    assert ms.engine == "fake"
    assert ms.error is not None


def test_what_really_fails_is_not_run_for_real() -> None:
    ran: queue.SimpleQueue[str] = queue.SimpleQueue()  # a list would be put back as it was

    class Noted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ran.put(type(x).__name__)
            return x.view(3, 5)

    ms = ModelSummary(Noted(), (2, 4))
    assert ms.engine == "fake"
    assert ms.error is not None
    assert {ran.get() for _ in range(ran.qsize())} == {"FakeTensor"}


class Wrapped(nn.Module):
    """Catches what only fakes raise and raises something of its own."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            return x[: int(x.argmax())]
        except Exception as error:
            raise ValueError("no peak") from error


def test_a_failure_that_fakes_caused_behind_another_is_run_for_real() -> None:
    ms = ModelSummary(Wrapped(), (4,))
    assert ms.engine == "real"
    assert ms.error is None


def test_data_are_real_where_weights_are_complex() -> None:
    class Spectral(nn.Module):
        def __init__(self, beside: nn.Module | None) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(5, dtype=torch.complex64))
            self.beside = beside

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.irfft(torch.fft.rfft(self.beside(x) if self.beside else x) * self.weight)

    for beside in (nn.Linear(8, 8), None):  # the other weights say so, or the transform that reads it
        ms = ModelSummary(Spectral(beside), (2, 8))
        assert ms.error is None
        assert ms.rows[0].inputs[0].dtype == "float32"
    assert ModelSummary(nn.Linear(8, 8, dtype=torch.complex64), (2, 8)).rows[0].inputs[0].dtype == "complex64"


def test_a_dtype_that_was_guessed_wrong_is_no_failure() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Embedding(9, 4)
            self.two = nn.Embedding(9, 4)
            self.three = nn.Linear(4, 4, dtype=torch.float64)

        def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
            return self.one(a) + self.two(b) + self.three(c)

    assert ModelSummary(Two(), [(2, 3), (2, 3), (2, 3, 4)]).error is None
    assert ModelSummary(Two(), [Size("2 3"), Size("2 3", dtype="float32"), (2, 3, 4)]).error is not None

"""How fakes are made, what they know and what is remembered of them: a change of torch shows here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.fake.fake_mode import build_fake
from modelsummary_ipy.fake.fake_tensors import make_fake
from modelsummary_ipy.fake.fast_fake_mode import make_fake_mode
from modelsummary_ipy.torch_compat.fakes import FAKE_ONLY_ERRORS, FakeTensor, FakeTensorMode
from modelsummary_ipy.tracing.module_calls import observe_calls

CPU = torch.device("cpu")
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
        lambda: (torch.arange(3) + torch.randint(9, (3,))).tolist(),
        lambda: torch.zeros(3, dtype=torch.int64).add_(torch.randint(9, (3,))).tolist(),
        lambda: torch.where(torch.ones(3, dtype=torch.bool), torch.randint(9, (3,)), torch.arange(3)).tolist(),
    ],
)
def test_an_unknown_value_is_never_made_up(ask: Callable[[], Any]) -> None:
    for _ in range(2):  # nor remembered
        with pytest.raises(FAKE_ONLY_ERRORS):
            in_mode(ask)


def test_a_known_value_that_is_written_to_is_known_as_it_is_then() -> None:
    def ask() -> list[int]:
        x = torch.zeros(3, dtype=torch.int64)
        x[1:] += 2
        return x.tolist()

    assert in_mode(ask) == ask() == [0, 2, 2]


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

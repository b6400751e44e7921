"""A real run draws from generators of its own, and none is made unasked beside a thread that may use torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.isolation.own_generators import OwnGenerators


class Does(nn.Module):
    """Any function as a forward."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.layers)


@contextmanager
def busy_thread() -> Iterator[None]:
    """Let a thread of the user's run Python code in the block."""
    started, stop = threading.Event(), []

    def spin() -> None:
        started.set()
        while not stop:
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    started.wait()
    try:
        yield
    finally:
        stop.append(1)
        thread.join()


def with_inference(x: Tensor, *layers: nn.Module) -> Tensor:
    with torch.inference_mode():
        return F.dropout(torch.rand(4), 0.5) + F.alpha_dropout(torch.rand(4), 0.5)


DRAWS: dict[str, tuple[Any, ...]] = {
    "rand": (lambda x: torch.rand(3) + torch.randn(3) + torch.randint(9, (3,)) + torch.randint(2, 9, (3,)),),
    "randperm": (lambda x: torch.randperm(5),),
    "like": (lambda x: torch.rand_like(x) + torch.randn_like(x) + torch.randint_like(x, 2, 9),),
    "one bound": (lambda x: torch.randint_like(x, 9),),
    "out": (lambda x: torch.rand(3, out=torch.empty(3)),),
    "dropout": (lambda x: F.dropout(x, 0.5) + F.alpha_dropout(x, 0.5),),
    "channels": (lambda x: F.dropout2d(x[None, None], 0.5) + F.feature_alpha_dropout(x, 0.5),),
    "native dropout": (lambda x: torch.native_dropout(x, 0.5, True)[0],),
    "in place": (lambda x: x.clone().normal_() + x.clone().uniform_() + x.clone().bernoulli_() + x.clone().random_(),),
    "bernoulli": (lambda x: torch.bernoulli(x.abs().clamp(0, 1)),),
    "multinomial": (lambda x: torch.multinomial(x.abs() + 1, 2),),
    "normal": (lambda x: torch.normal(x, 1.0) + torch.poisson(x.abs()),),
    "gamma": (lambda x: torch.distributions.Gamma(1.0, 1.0).sample((3,)),),
    "rrelu": (lambda x: F.rrelu(x, training=True),),
    "default": (lambda x: torch.rand(3, generator=torch.default_generator),),
    "inference": (with_inference,),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),),
    "lstm": (lambda x, layer: layer(x)[0], nn.LSTM(4, 4, 2, dropout=0.5)),
    "transformer": (lambda x, layer: layer(x), nn.TransformerEncoderLayer(4, 2, 8)),
    "seeds": (lambda x: (torch.manual_seed(5), torch.rand(3))[1],),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_real_run_leaves_the_default_generator_alone(name: str) -> None:
    model = Does(*DRAWS[name])
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with busy_thread():  # so that nothing may be set back afterwards
        ms = ModelSummary(model, torch.ones(4, 4), engine="real")
    assert ms.error is None
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.initial_seed() == 7


def test_a_real_run_draws_what_the_forward_would_draw(capsys: pytest.CaptureFixture[str]) -> None:
    def draw(x: Tensor) -> Tensor:
        print(torch.rand(2).tolist(), torch.randn(2).tolist(), F.dropout(x, 0.5).tolist(), torch.randperm(4).tolist())
        return x

    torch.manual_seed(3)
    draw(torch.ones(2))
    expected = capsys.readouterr().out
    torch.manual_seed(3)
    ModelSummary(Does(draw), torch.ones(2), engine="real")
    assert capsys.readouterr().out == expected


def test_what_another_thread_draws_beside_a_real_run_is_not_drawn_again() -> None:
    def forward(x: Tensor) -> Tensor:
        thread = threading.Thread(target=lambda: torch.rand(5))
        thread.start()
        thread.join()
        return x + torch.rand_like(x) if x.sum().item() else x

    torch.manual_seed(7)
    torch.rand(5)
    expected = torch.rand(2)
    torch.manual_seed(7)
    assert ModelSummary(Does(forward), torch.ones(2, 2), engine="real").error is None
    assert torch.equal(torch.rand(2), expected)


def test_a_generator_that_is_given_is_drawn_from() -> None:
    one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    with OwnGenerators():
        assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))
    assert torch.equal(one.get_state(), other.get_state())
    assert not torch.equal(one.get_state(), torch.Generator().manual_seed(1).get_state())


def needs_value(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(x) if x.sum().item() > 0 else x  # type: ignore[no-any-return]


def test_nothing_is_run_unasked_beside_a_thread_that_may_use_torch() -> None:
    model = Does(needs_value, nn.Linear(4, 2))
    with busy_thread():
        ms = ModelSummary(model, torch.ones(3, 4))
        real = ModelSummary(model, torch.ones(3, 4), engine="real")
    assert ms.engine == "fake"
    assert ms.engine_reason.startswith(".item() at ")
    assert ms.error is not None
    assert ms.error.reason.endswith(
        "needs tensor values; nothing is run for real unasked while another thread may use torch"
    )
    assert ms.error.fix == "engine='real' runs it all the same"
    assert ms.error.fix in ms.to_text()
    assert (real.engine, real.error) == ("real", None)
    assert ModelSummary(model, torch.ones(3, 4)).engine == "real"  # the thread is over


def test_a_thread_that_waits_hinders_no_run_unless_torch_makes_it_wait() -> None:
    model, release = Does(needs_value, nn.Linear(4, 2)), threading.Event()
    entered = threading.Event()

    def wait(*_: Any) -> None:
        entered.set()
        release.wait()

    def wait_in_torch() -> None:
        layer = nn.Identity()
        layer.register_forward_pre_hook(wait)
        layer(1)

    engines = []
    for target in (wait, wait_in_torch):
        entered.clear()
        release.clear()
        thread = threading.Thread(target=target)
        thread.start()
        entered.wait()
        engines.append(ModelSummary(model, torch.ones(3, 4)).engine)
        release.set()
        thread.join()
    assert engines == ["real", "fake"]


def test_the_engine_that_was_asked_for_says_what_it_lacks() -> None:
    ms = ModelSummary(Does(needs_value, nn.Linear(4, 2)), torch.ones(3, 4), engine="fake")
    assert ms.error is not None
    assert ms.error.reason.endswith("needs tensor values; fake tensors have none")
    assert ms.error.fix == "engine='real' runs the forward"

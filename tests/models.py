"""Small models of every kind that a notebook may hold, each with inputs that its forward takes.

``CASES`` lists them; ``build()`` makes a model from a fixed seed, so two builds are equal, and ``inputs()`` makes the
arguments of one call. ``needs_values`` says that no sizes alone can answer: the real engine has to.
"""

from __future__ import annotations

import array
import contextlib
import contextvars
import copy
import functools
import io
import itertools
import operator
import random
import types
import typing
import warnings
import weakref
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, rnn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

__all__ = ["CASES", "Case", "by_name", "empty_caches"]


@dataclass(frozen=True, slots=True)
class Case:
    """A model, what it takes, and what to expect of tracing it."""

    name: str
    kind: str
    make: Callable[[], nn.Module]
    give: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]
    method: str = "forward"
    needs_values: bool = False
    infer: bool = True  # whether its inputs are tensors alone, so that a size for it may be found

    def build(self) -> nn.Module:
        """Make the model; equal at every call."""
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.make()

    def inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make the arguments of one call; equal at every call."""
        torch.manual_seed(1)
        return self.give()


CASES: list[Case] = []


def by_name(name: str) -> Case:
    """Return the case of that name."""
    return next(case for case in CASES if case.name == name)


def empty_caches() -> None:
    """Forget what the models here keep in globals, in classes and in cached functions."""
    _ANGLES.clear()
    _SEEN.clear()
    _STORE.entries.clear()
    _STORE.last = None
    Caches.tables.clear()
    positions.cache_clear()
    Caches.mask.cache_clear()


def case(kind: str, *args: Any, infer: bool | None = None, **options: Any) -> Callable[[Any], Any]:
    """Register a class or a function that makes a model; ``args`` are sizes, or functions that make an argument."""
    method = options.pop("method", "forward")
    needs_values = options.pop("needs_values", False)

    def give() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(_make(arg) for arg in args), {name: _make(value) for name, value in options.items()}

    if infer is None:
        infer = method == "forward" and all(isinstance(arg, tuple) or callable(arg) for arg in args)

    def register(make: Any) -> Any:
        CASES.append(Case(make.__name__, kind, make, give, method, needs_values, bool(infer)))
        return make

    return register


def _make(arg: Any) -> Any:
    if isinstance(arg, tuple):
        return torch.randn(arg)
    return arg() if callable(arg) else arg


def ids(*size: int, most: int = 10) -> Callable[[], Tensor]:
    """Return a function that makes integers below ``most``."""
    return lambda: torch.randint(0, most, size)


# -- how modules are called -------------------------------------------------------------------------------------------


@case("calls", (1, 1, 64, 64))
class Example(nn.Module):
    """The worked example of 2017: a convolution that grows the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 16, kernel_size=3, padding=5)
        self.conv1 = nn.Conv2d(16, 32, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(self.conv0(x))


@case("calls", (4, 10))
def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))


class Block(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.norm(self.conv(x)))


@case("calls", (2, 3, 16, 16))
class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.Sequential(Block(), Block())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))


@case("calls", (2, 8))
class Reused(nn.Module):
    """One layer, three calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.layer(x))
        return x


class Holder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@case("calls", (2, 8))
class SharedModule(nn.Module):
    """One module registered under two parents: it has two names, and each call its caller's."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.left, self.right = Holder(shared), Holder(shared)

    def forward(self, x: Tensor) -> Tensor:
        return self.right(self.left(x))


@case("calls", (2, 8))
def registered_twice() -> nn.Module:
    layer, act = nn.Linear(8, 8), nn.ReLU()
    return nn.Sequential(layer, act, layer, act)


@case("calls", (2, 8))
class MadeInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        extra = nn.Sequential(nn.Linear(8, 6), nn.ReLU())
        return extra(self.layer(x))


@case("calls", (2, 8))
class Recursive(nn.Module):
    """It calls itself until a depth is reached."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor, depth: int = 3) -> Tensor:
        return x if depth == 0 else self(self.layer(x), depth - 1)


@case("calls", (2, 8))
class Containers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.heads = nn.ModuleDict({"a": nn.Linear(8, 2), "b": nn.Linear(8, 3)})
        self.pairs = nn.ModuleList(nn.ModuleDict({"k": nn.Linear(8, 8), "v": nn.Linear(8, 8)}) for _ in range(2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for step in self.steps:
            x = step(x)
        for pair in self.pairs:
            x = pair["v"](pair["k"](x))
        return {name: head(x) for name, head in self.heads.items()}


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def encode(self, x: Tensor) -> Tensor:
        return self.layer(x)


@case("calls", (2, 8))
class OtherMethod(nn.Module):
    """``encoder`` is used, but by another method than forward: plain hooks see only what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder.encode(x))


@case("calls", (2, 8), method="encode")
class Vae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(8, 4)
        self.mean, self.log_var = nn.Linear(4, 2), nn.Linear(4, 2)
        self.up = nn.Linear(2, 8)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.down(x).relu()
        return self.mean(hidden), self.log_var(hidden)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_var = self.encode(x)
        return self.up(mean + torch.randn_like(mean) * (log_var / 2).exp())


@case("calls", (2, 8))
class VaeForward(Vae):
    pass


@case("calls", (2, 5, 8))
class OwnParameters(nn.Module):
    """Parameters on containers, in lists and dicts of them, and on the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(8)) for _ in range(2)])
        self.shifts = nn.ParameterDict({"a": nn.Parameter(torch.zeros(8))})
        self.register_buffer("mask", torch.ones(8))
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        for scale in self.scales:
            x = x * scale
        return self.layer(x + self.shifts["a"]) * self.mask


@case("calls", (2, 8))
class Uncalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(8, 8)
        self.unused = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class _TakesPairs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        left, right = x  # a ValueError where x has more or fewer rows than two
        return left + right


@case("calls", (3, 8))
class CatchesAFailure(nn.Module):
    """It tries one way, in which a layer fails after another one ran, and goes on with a second way."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 8), _TakesPairs())
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.first(x)
        except ValueError:
            x = self.second(x)
        return self.head(x)


@case("calls", (2, 8))
class CopiesALayer(nn.Module):
    """It runs a copy of a layer; a deep copy has the hooks of its original."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) - copy.deepcopy(self.layer)(x)


@case("calls", (2, 8))
def nested_deep() -> nn.Module:
    model: nn.Module = nn.Linear(8, 8)
    for _ in range(60):
        model = nn.Sequential(model)
    return model


@case("calls", (2, 8))
class ForwardOfChild(nn.Module):
    """It calls ``forward`` of a child directly: no hook fires for the child."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.forward(x)


@case("calls", (2, 8))
class PassThrough(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.skip = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x)


@case("calls", (2, 8))
class KnowsParent(nn.Module):
    """A child that points back to its parent, past registration and by a weak reference."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Holder(nn.Linear(8, 8))
        self.child.__dict__["parent"] = self
        self.child.weak = weakref.ref(self)
        self.scale = 2.0

    def forward(self, x: Tensor) -> Tensor:
        parent = self.child.weak()
        assert parent is self and self.child.parent is self
        return self.child(x) * parent.scale


@case("calls", (2, 8))
class BuildsItself(nn.Module):
    """It registers a layer at its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.head: nn.Module | None = None
        self.body = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.head is None:
            self.head = nn.Linear(x.shape[-1], 2)
        return self.head(x)


@case("calls", (2, 8))
class OwnCall(nn.Module):
    """It overrides ``__call__`` around torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x * 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@case("calls", (2, 8), scale=(8,), flag=True)
class AnyArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, *args: Tensor, scale: Tensor, **rest: Any) -> Tensor:
        return self.inner(args[0]) * scale if rest["flag"] else self.inner(args[0])


# -- lazy -------------------------------------------------------------------------------------------------------------


@case("lazy", (2, 3, 12, 12))
def lazy() -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4), nn.Linear(4, 2)
    )


@case("lazy", (2, 6, 10))
def lazy_one_dim() -> nn.Module:
    return nn.Sequential(nn.LazyConv1d(4, 3), nn.LazyInstanceNorm1d(affine=True), nn.LazyConvTranspose1d(5, 3))


@case("lazy", (2, 7))
class OwnLazy(nn.modules.lazy.LazyModuleMixin, nn.Module):
    """A lazy module written by hand, with an uninitialised buffer too."""

    cls_to_become = None

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.UninitializedParameter()
        self.register_buffer("mean", nn.UninitializedBuffer())
        self.after = nn.LazyLinear(3)

    def initialize_parameters(self, x: Tensor) -> None:
        if self.has_uninitialized_params():
            self.weight.materialize((5, x.shape[-1]))
            self.mean.materialize((x.shape[-1],))
            with torch.no_grad():
                self.weight.fill_(0.5)
                self.mean.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.linear(x - self.mean, self.weight))


@case("lazy", (2, 6))
class LazyReused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


# -- attention --------------------------------------------------------------------------------------------------------


@case("attention", (2, 5, 8))
class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x, x, x)[0]


@case("attention", (2, 5, 8))
def fast_path_attention() -> nn.Module:
    return SelfAttention().eval()


@case("attention", (2, 5, 8))
def fast_path_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2).eval()


@case("attention", (2, 5, 8))
class PaddedEncoder(nn.Module):
    """In eval torch turns a padded batch into a nested tensor, unless somebody hooks on."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        return self.encoder(x, src_key_padding_mask=padding)


@case("attention", (5, 2, 8), (4, 2, 8))
def full_transformer() -> nn.Module:
    return nn.Transformer(8, 2, 1, 1, 16)


@case("attention", (2, 6, 8))
class Sdpa(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x.transpose(1, 2).flatten(2))


# -- checkpointing, autocast, grad modes ------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.second, self.first(x), use_reentrant=self.use_reentrant)


@case("checkpoint", (2, 8))
def checkpointed() -> nn.Module:
    return Checkpointed(False)


@case("checkpoint", (2, 8))
def checkpointed_reentrant() -> nn.Module:
    return Checkpointed(True)


@case("checkpoint", (2, 8))
class CheckpointedSequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint_sequential(self.layers, 2, x, use_reentrant=False)


@case("grad", (2, 8))
class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.layer(x)
        return self.norm(x.float())


@case("grad", (2, 8))
class NoGrad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.head = nn.Linear(8, 8), nn.Linear(8, 2)
        self.frozen.requires_grad_(False)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        return self.frozen(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.frozen(x)
        with torch.set_grad_enabled(self.training):
            return self.head(self.features(x))


@case("grad", (2, 8))
class Inference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.layer(x)


@case("grad", (2, 8))
class Gradients(nn.Module):
    """An energy model: the forward differentiates."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            return torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]


@case("grad", (2, 8))
class GoesBackward(nn.Module):
    """A forward that takes a step of training itself, as agents and inner loops of meta-learners do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=0.1, momentum=0.9)

    def forward(self, x: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        self.layer(x).pow(2).mean().backward()
        self.optimizer.step()
        return self.layer(x)


@case("grad", (2, 8))
class AsksForGrad(nn.Module):
    """It takes another path where autograd records, as kernels of Gaussian processes do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.recorded = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return self.recorded(x) if x.requires_grad else x


class _RunsAgain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(ctx.layer(x), x, slope)[0], None


@case("grad", (2, 8))
class LayerInBackward(nn.Module):
    """A reversible block: its backward, which the forward starts, calls the layer again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _RunsAgain.apply(x.clone().requires_grad_(), self.layer)
        y.sum().backward()
        return y


@case("random", (2, 8))
class Variational(nn.Module):
    """Its latent is drawn from a distribution, which would look whether every scale is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 6), nn.Linear(3, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = self.encoder(x).chunk(2, dim=1)
        latent = torch.distributions.Normal(mean, F.softplus(scale))
        prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
        return self.decoder(latent.rsample()), torch.distributions.kl_divergence(latent, prior)


@case("grad", (2, 8))
class Dropouts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.AlphaDropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.layers(x), 0.2, self.training)


# -- recurrent, packed, nested, sparse --------------------------------------------------------------------------------


@case("recurrent", (2, 5, 4))
class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(12, 3)
        self.rnn = nn.RNN(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x, state = self.lstm(x)
        x, _ = self.gru(x)
        return self.rnn(x)[0], state


@case("recurrent", (5, 2, 4))
class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(4, 6), nn.GRUCell(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(x.shape[1], 6)
        state = x.new_zeros(x.shape[1], 3)
        for step in x:
            hidden, cell = self.lstm(step, (hidden, cell))
            state = self.gru(hidden, state)
        return state


@case("recurrent", (3, 5, 4), lambda: torch.tensor([5, 3, 2]))
class Packed(nn.Module):
    """Lengths decide the sizes: a small integer tensor that is given keeps its values."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x, _ = rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return self.head(x)


@case("recurrent", lambda: rnn.pack_sequence([torch.randn(5, 4), torch.randn(3, 4)]), infer=False)
class TakesPacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6)

    def forward(self, packed: rnn.PackedSequence) -> rnn.PackedSequence:
        return self.gru(packed)[0]


@case("recurrent", (2, 3, 4))
class PacksFixed(nn.Module):
    """Packed with lengths known in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = rnn.pack_padded_sequence(x, [x.shape[1]] * x.shape[0], batch_first=True)
        return rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]


@case("nested", (2, 3, 8), needs_values=True)
class NestedStrided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        nested = torch.nested.as_nested_tensor([x[0, :2], x[1]])
        return torch.nested.to_padded_tensor(self.layer(nested), 0.0)


@case("nested", (2, 3, 8), needs_values=True)
class NestedJagged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        nested = torch.nested.as_nested_tensor([x[0, :2], x[1]], layout=torch.jagged)
        return self.layer(nested).values()


@case("nested", (2, 3, 8), needs_values=True)
class NestedEvenly(nn.Module):
    """Its tensor is jagged, and all its parts are of one length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        nested = torch.nested.as_nested_tensor([x[0], x[1]], layout=torch.jagged)
        return self.layer(nested).values()


@case("nested", (4, 6), needs_values=True)
class SparseGraph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.eye(4).to_sparse())
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.adjacency, self.layer(x))


# -- what goes in and out ---------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", ["first", "second"])


class _FillsItsCache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor, cache: list[Tensor | None], notes: dict[str, Tensor]) -> Tensor:
        cache[0] = x if cache[0] is None else cache[0] + x
        notes["mean"] = x.mean(1)
        return self.layer(cache[0])


@case("values", (2, 8))
class FillsTheListsItIsGiven(nn.Module):
    """What a call was given is what it held when it began, whatever the forward puts into it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _FillsItsCache()

    def forward(self, x: Tensor) -> Tensor:
        cache: list[Tensor | None] = [None]
        notes: dict[str, Tensor] = {}
        return self.inner(x, cache, notes=notes) + self.inner(x, cache, notes=notes)


@dataclass
class Result:
    logits: Tensor
    states: list[Tensor] = field(default_factory=list)
    note: str = "plain"
    nothing: Tensor | None = None


class Outputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Result:
        y = self.layer(x)
        return Result(y, [y, y + 1])


@case("values", (2, 8))
class Outlets(nn.Module):
    """A dataclass, a named tuple, a dict, a list and plain values, one in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = Outputs()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        result = self.outputs(x)
        y = self.layer(result.logits)
        return {"pair": Pair(y, [result.states[0], None]), "result": result, 3: (1, "a", None, (y,))}


@case("values", lambda: {"image": torch.randn(2, 8), "mask": None, "scale": 2}, infer=False)
class TakesDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"out": self.layer(batch["image"]) * batch["scale"], "mask": batch["mask"]}


@dataclass
class Batch:
    nodes: Tensor
    name: str = "batch"
    extra: dict[str, Tensor] = field(default_factory=dict)


@case("values", lambda: Batch(torch.randn(2, 8), extra={"a": torch.randn(2, 4)}), infer=False)
class TakesDataclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, batch: Batch) -> Tensor:
        return self.layer(batch.nodes) + batch.extra["a"]


class GraphData:
    """As graph libraries hold a graph: attributes of a plain object, which the model replaces."""

    def __init__(self, x: Tensor, edge_index: Tensor) -> None:
        self.x = x
        self.edge_index = edge_index
        self.num_nodes = x.shape[0]

    def clone(self) -> GraphData:
        return GraphData(self.x, self.edge_index)


class GraphConv(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, out)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        return torch.zeros(x.shape[0], self.layer.out_features).index_add_(0, target, self.layer(x)[source])


@case("values", lambda: GraphData(torch.randn(5, 4), torch.randint(0, 5, (2, 7))), infer=False)
class TakesGraph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GraphConv(4, 6), GraphConv(6, 2)

    def forward(self, data: GraphData) -> Tensor:
        return self.second(self.first(data.x, data.edge_index).relu(), data.edge_index)


@case("values", (5, 4), ids(2, 7, most=5))
class GraphNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GraphConv(4, 6), GraphConv(6, 2)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


@case("values", lambda: [torch.randn(2, 8), torch.randn(2, 4)], infer=False)
class TakesList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 4)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [self.a(xs[0]), self.b(xs[1])]


@case("values", (2, 8), None, 3, "sum", infer=False)
class Nones(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = NoneInside()

    def forward(self, x: Tensor, mask: Tensor | None, times: int, how: str) -> tuple[Tensor, None, int]:
        y, _ = self.inner(x, mask, how=how)
        return y * times, None, times


class NoneInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, how: str = "mean") -> tuple[Tensor, None]:
        assert mask is None and how == "sum"
        return self.layer(x), None


class Pieces(nn.Module):
    """Its forward is a generator: what it returns holds no tensor when the call ends."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        for layer in self.layers:
            x = layer(x)
            yield x


@case("values", (2, 8))
class Generators(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pieces = Pieces()
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.head(piece) for piece in self.pieces(x)])


@case("values", (2, 3, 8, 8))
class Pooling(nn.Module):
    """Pooling that returns indices, and what takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x, indices = self.pool(self.conv(x))
        return self.unpool(x, indices)


@case("values", (2, 8), (2, 8))
class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bilinear, self.cosine = nn.Bilinear(8, 8, 4), nn.CosineSimilarity()

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.bilinear(a, b), self.cosine(a, b)


@case("values", (2, 8), ids(2, most=4))
class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.loss = nn.Linear(8, 4), nn.CrossEntropyLoss()

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.head(x)
        return self.loss(logits, labels), logits


# -- compiled, scripted, traced, distributed --------------------------------------------------------------------------


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@case("compiled", (2, 8))
def script_inside() -> nn.Module:
    with _quiet():
        return nn.Sequential(nn.Linear(8, 8), torch.jit.script(Scripted()), nn.Linear(8, 2))


@case("compiled", (2, 8))
def scripted() -> nn.Module:
    with _quiet():
        return torch.jit.script(nn.Sequential(Scripted(), nn.Linear(8, 2)))


@case("compiled", (2, 8))
def jit_traced() -> nn.Module:
    with _quiet():
        return nn.Sequential(torch.jit.trace(Scripted(), torch.randn(2, 8)), nn.ReLU())


@case("compiled", (2, 8))
def compiled() -> nn.Module:
    return torch.compile(Residual1d())


@case("compiled", (2, 8))
def compiled_in_place() -> nn.Module:
    model = Residual1d()
    model.compile()
    return model


@case("compiled", (2, 8))
class CompiledInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.compile(nn.Linear(8, 8))
        self.second = Residual1d()
        self.second.compile()
        self.squash = torch.compile(lambda x: x.tanh() * 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(self.second(self.first(x)))


class Residual1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.layer(x))


@case("compiled", (2, 8))
def data_parallel() -> nn.Module:
    return nn.DataParallel(Residual1d())


@case("compiled", (2, 8))
def distributed() -> nn.Module:
    """One process of a distributed run: a group of one, without a network."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(Residual1d())


@case("compiled", (2, 8))
def graph_module() -> nn.Module:
    return torch.fx.symbolic_trace(Residual1d())


@case("compiled", (2, 3, 16, 16))
def graph_module_deep() -> nn.Module:
    return torch.fx.symbolic_trace(Residual())


@case("compiled", (2, 8))
def exported() -> nn.Module:
    return torch.export.export(Residual1d(), (torch.randn(2, 8),)).module()


# -- wrapped and rewritten layers -------------------------------------------------------------------------------------


@case("wrapped", (2, 8))
def weight_norm() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU())


@case("wrapped", (2, 3, 8, 8))
def spectral_norm() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())


@case("wrapped", (2, 8))
def orthogonal() -> nn.Module:
    return parametrizations.orthogonal(nn.Linear(8, 8))


class Symmetric(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return (x.triu() + x.triu(1).transpose(-1, -2)) * self.scale


@case("wrapped", (2, 8))
class SharedParametrization(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        symmetric = Symmetric()
        parametrize.register_parametrization(self.a, "weight", symmetric)
        parametrize.register_parametrization(self.b, "weight", symmetric)

    def forward(self, x: Tensor) -> Tensor:
        with parametrize.cached():
            return self.b(self.a(self.a(x)))


@case("wrapped", (2, 8))
def old_weight_norm() -> nn.Module:
    with _quiet():
        return nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(8, 8)), nn.ReLU())


@case("wrapped", (2, 8))
def old_spectral_norm() -> nn.Module:
    return nn.Sequential(torch.nn.utils.spectral_norm(nn.Linear(8, 8)), nn.ReLU())


@case("wrapped", (2, 8))
def pruned() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    prune.random_structured(model[2], "weight", amount=1, dim=0)
    return model


class _Scaled(Tensor):
    """A weight of small integers and a scale that passes for one of floats."""

    integers: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, integers: Tensor, scale: Tensor) -> _Scaled:
        made: Any = Tensor._make_wrapper_subclass(cls, integers.size(), dtype=scale.dtype)  # type: ignore[attr-defined]
        return made  # type: ignore[no-any-return]

    def __init__(self, integers: Tensor, scale: Tensor) -> None:
        self.integers, self.scale = integers, scale

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["integers", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], _: None, size: Any, stride: Any) -> _Scaled:
        return _Scaled(inner["integers"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.detach.default, torch.ops.aten.clone.default):
            return cls(func(args[0].integers), func(args[0].scale))
        plain = [arg.integers * arg.scale if isinstance(arg, cls) else arg for arg in args]
        return func(*plain, **(kwargs or {}))


@case("quantized", (2, 8))
def weight_of_another_class() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    integers = torch.arange(32, dtype=torch.int8).view(4, 8)
    model[0].weight = nn.Parameter(_Scaled(integers, torch.tensor(0.5)), requires_grad=False)
    return model


@case("quantized", (2, 8), needs_values=True)
def quantized_dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), {nn.Linear}, dtype=torch.qint8
    )


@case("quantized", (3, 2, 8), needs_values=True)
class QuantizedLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(OrderedDict(lstm=nn.LSTM(8, 4)))
        self.inner = torch.ao.quantization.quantize_dynamic(inner, {nn.LSTM}, dtype=torch.qint8)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.lstm(x)[0]


@case("quantized", (2, 3, 8, 8), needs_values=True)
def quantized_static() -> nn.Module:
    quantization = torch.ao.quantization
    model = nn.Sequential(
        quantization.QuantStub(),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 2),
        quantization.DeQuantStub(),
    )
    model.eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    quantization.prepare(model, inplace=True)
    model(torch.randn(2, 3, 8, 8))
    return quantization.convert(model)


class PackedLinear(nn.Module):
    """Eight-bit weights in a buffer, as bitsandbytes and others keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("packed", torch.randint(-8, 8, (4, 8), dtype=torch.int8))
        self.register_buffer("scale", torch.rand(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.packed.to(x.dtype) * self.scale)


@case("quantized", (2, 8))
def packed_weights() -> nn.Module:
    return nn.Sequential(PackedLinear(), nn.ReLU())


class Lora(nn.Module):
    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_b = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        self.active = ["default"]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.base, name)

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        for name in self.active:
            out = out + self.lora_b[name](self.lora_a[name](x)) / self.in_features
        return out


@case("wrapped", (2, 8))
def lora() -> nn.Module:
    model = mlp_of(8)
    model[0], model[2] = Lora(model[0]), Lora(model[2])
    return model


def mlp_of(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))


class Trainer:
    def __init__(self) -> None:
        self.logged: dict[str, list[Any]] = {}
        self.module: Any = None


@case("wrapped", (2, 8))
class Lightning(nn.Module):
    """As Lightning's modules are: a trainer behind a property, logging in forward, hyperparameters, no-op hooks."""

    def __init__(self) -> None:
        super().__init__()
        self._trainer = Trainer()
        self._trainer.module = self
        self.hparams = {"width": 8, "lr": 1e-3}
        self.model = mlp_of(8)
        self.metrics = nn.ModuleDict({"count": Counter()})
        self.example_input_array = torch.zeros(2, 8)

    @property
    def trainer(self) -> Trainer:
        return self._trainer

    def log(self, name: str, value: Tensor) -> None:
        self.trainer.logged.setdefault(name, []).append(value.detach())

    def forward(self, x: Tensor) -> Tensor:
        y = self.model(x)
        self.log("mean", y.mean())
        self.metrics["count"](y)
        return y


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> None:
        self.seen += x.shape[0]


# -- state kept in odd places -----------------------------------------------------------------------------------------


class Sized:
    __slots__ = ("hidden", "layer")


class Slotted(Sized):
    __slots__ = ("scale", "unfilled")
    hidden = 8  # hides a slot of the base, as sympy's Integer does

    def __init__(self, layer: nn.Module, scale: Tensor) -> None:
        self.layer = layer
        self.scale = scale


class Plain:
    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.calls = 0

    def apply(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x)


@case("holders", (2, 8))
class InContainers(nn.Module):
    """Layers in a list, a dict, a deque, a tuple and slots: no parameter of theirs is registered."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = [nn.Linear(8, 8), nn.Linear(8, 8)]
        self.named = {"a": nn.Linear(8, 8)}
        self.queue = deque([nn.Linear(8, 8)], maxlen=3)
        self.pair = (nn.Linear(8, 8), (nn.ReLU(),))
        self.slotted = Slotted(nn.Linear(8, 8), torch.ones(8))
        self.plain = Plain(nn.BatchNorm1d(8))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.listed, *self.named.values(), *self.queue, self.pair[0], self.pair[1][0]):
            x = layer(x)
        x = self.slotted.layer(x) * self.slotted.scale
        self.queue.append(self.queue[0])
        return self.head(self.plain.apply(x))


@case("holders", (2, 8))
class InANamespace(nn.Module):
    """Layers and a count in a namespace that is written in C."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = types.SimpleNamespace(layer=nn.Linear(8, 8), calls=0)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.parts.calls += 1
        return self.head(self.parts.layer(x)) * self.parts.calls


@case("holders", (2, 8))
class WeakAndBytes(nn.Module):
    """Weak containers of its layers, and bytes, arrays and files in memory that it writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 2)
        self.scales = weakref.WeakKeyDictionary({self.layer: 2.0, self.head: 3.0})
        self.by_name = weakref.WeakValueDictionary({"first": self.layer})
        self.known = weakref.WeakSet([self.head])
        self.raw, self.numbers = bytearray(b"\0\0"), array.array("i", [0, 0])
        self.text, self.file = io.StringIO("begin"), io.BytesIO(b"begin")

    def forward(self, x: Tensor) -> Tensor:
        for buffer in (self.raw, self.numbers):
            buffer[0] += 1
        self.text.write("more")
        self.file.write(b"more")
        assert self.head in self.known
        return self.head(self.by_name["first"](x) * self.scales[self.layer]) * self.scales[self.head]


_turn: contextvars.ContextVar[int] = contextvars.ContextVar("turn", default=0)


@case("holders", (2, 8))
class Iterators(nn.Module):
    """It takes layers in turn, numbers its steps, and says in a context variable which turn it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.turns = itertools.cycle(list(self.layers))
        self.steps = itertools.count(1)
        self.rest = iter([0.5, 2.0] * 50)
        self.turn = _turn
        next(self.turns)

    def forward(self, x: Tensor) -> Tensor:
        self.turn.set(self.turn.get() + 1)
        x = self.first(x)
        for _ in range(3):
            x = next(self.turns)(x)
        return x * next(self.rest) * next(self.steps)


class _Counts(np.ndarray):
    """An array of a class of its own."""


@case("holders", (2, 8))
class ProxiesAndArrays(nn.Module):
    """A layer that knows its parent by a weak proxy, and counts in arrays of other classes than numpy's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.parent = [weakref.proxy(self)]
        self.counts = np.zeros(2).view(_Counts)
        self.masked = np.ma.masked_array([0, 1], [False, True])

    def forward(self, x: Tensor) -> Tensor:
        self.counts[0] += 1
        self.masked[0] += 1
        return self.parent[0].layer(x) * float(self.counts[0])


@case("holders", (2, 8))
class TensorsAside(nn.Module):
    """Tensors in plain attributes, written in place and replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.count = torch.zeros(8)
        self.history: list[Tensor] = []
        self.cache: dict[tuple[int, ...], Tensor] = {}
        self.table = np.arange(8, dtype=np.float32)
        self.layer = nn.Linear(8, 8)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("window", torch.zeros(4, 8), persistent=False)
        self.view = self.window[1:]

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        self.view[0] = self.mean
        y = self.layer(x) + self.cache.setdefault(tuple(x.shape), torch.ones(8)) + torch.as_tensor(self.table)
        self.history.append(y.detach())
        self.table += 1
        return y + self.count


@case("holders", (2, 8))
class Closures(nn.Module):
    """Layers reachable only through a closure, a partial, a bound method and a default argument."""

    def __init__(self) -> None:
        super().__init__()
        hidden, other, third = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        counts = torch.zeros(1)

        def run(x: Tensor) -> Tensor:
            counts.add_(1)
            return hidden(x) + counts

        def default(x: Tensor, layer: nn.Module = third) -> Tensor:
            return layer(x)

        self.run = run
        self.default = default
        self.partial = functools.partial(torch.add, alpha=2)
        self.method = other.forward
        self.layer = nn.Linear(8, 8)
        self.bound = self.layer.__call__

    def forward(self, x: Tensor) -> Tensor:
        return self.bound(self.default(self.method(self.partial(self.run(x), x))))


class OwnPartial(functools.partial[Any]):
    """A partial that hides the one that it was made of."""

    __slots__ = ("func",)

    def __init__(self, func: Any) -> None:
        self.func = func


@case("holders", (2, 8))
class Partials(nn.Module):
    """A partial of a layer itself, and one of a class of the user's own that holds what counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.run = functools.partial(self.layer)
        self.counts = OwnPartial(functools.partial(operator.iadd, [0]))

    def forward(self, x: Tensor) -> Tensor:
        self.counts([1])
        return self.run(x)[:, : len(self.counts.func.args[0])]


_GLOBAL = nn.BatchNorm1d(8)


@case("holders", (2, 8))
class Globals(nn.Module):
    """Layers that hang on a module's globals and on the class."""

    shared = nn.Linear(8, 8)
    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return self.layer(_GLOBAL(type(self).shared(x)))


@functools.lru_cache(maxsize=4)
def positions(length: int, width: int) -> Tensor:
    return torch.arange(length * width, dtype=torch.float32).view(length, width)


_ANGLES: dict[int, Tensor] = {}
_SEEN: list[Any] = []
_STEPS = 0


class Store:
    """A cache as an object, with entries that are objects."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.last: Any = None


_STORE = Store()


@case("holders", (2, 5, 8))
class Caches(nn.Module):
    """Results kept by ``lru_cache`` on a function and on a method, among the globals and on the class."""

    tables: typing.ClassVar[dict[int, Tensor]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    @functools.lru_cache(maxsize=8)  # noqa: B019  # the very thing under test
    def mask(self, length: int) -> Tensor:
        return torch.ones(length, length).tril()

    def forward(self, x: Tensor) -> Tensor:
        global _STEPS
        _STEPS += 1
        _SEEN.append(x)
        store = Store()
        store.entries["y"] = [x + 1]
        _STORE.last = _STORE.entries["x"] = store
        self.tables.setdefault(x.shape[1], x.new_ones(8))
        angles = _ANGLES.setdefault(x.shape[1], torch.zeros(x.shape[1], 8))
        return self.mask(x.shape[1]) @ (self.layer(x) + positions(x.shape[1], x.shape[2]) + angles)


_TALLY: dict[str, Any] = {"calls": 0, "sizes": [], "kinds": {"seen"}}
_TABLE = torch.ones(8)


@case("holders", (2, 8))
class CountsAside(nn.Module):
    """Plain values kept among the globals and on the class, and a global tensor that is passed on as it is."""

    log: typing.ClassVar[list[Any]] = ["begin"]
    last: typing.ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        _TALLY["calls"] += 1
        _TALLY["sizes"].append(tuple(x.shape))
        _TALLY["kinds"].add(x.dtype)
        self.log.append(len(self.log))
        self.last["width"] = x.shape[-1]
        self.log[0] = "again"
        return self.layer(x) + _TABLE.to(x.device)


@case("holders", (2, 8), needs_values=True)
class WritesAside(nn.Module):
    """A global tensor that is written to in a run for real."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        _TABLE.mul_(2)
        return self.layer(x) * _TABLE.sum().item()


def cached_inside(function: Any) -> Any:
    """Keep results out of sight, as a decorator does."""
    cached = functools.lru_cache(maxsize=10)(function)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return cached(*args)

    return call


def memoized(function: Any) -> Any:
    """Keep results in a dict that only the decorated function reaches."""
    known: dict[Any, Any] = {}

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        if args not in known:
            known[args] = function(*args)
        return known[args]

    return call


@memoized
def make_slopes(width: int) -> Tensor:
    return torch.linspace(0, 1, width)


@case("holders", (2, 8))
class OwnCaches(nn.Module):
    """Results of a method and of a function kept by caches that the model itself holds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.counted = 0
        self.count = functools.lru_cache(maxsize=None)(self.count)  # type: ignore[method-assign]
        self.ones = functools.lru_cache(maxsize=4)(lambda num: torch.ones(num))

    def count(self, num: int) -> Tensor:
        self.counted += 1
        return self.layer.weight.sum() + num

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.count(x.shape[0]) + self.ones(x.shape[1])


@case("holders", (2, 8))
class CachesInDecorators(nn.Module):
    """Results kept by decorators, on a static method and on a function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    @staticmethod
    @cached_inside
    def positions(width: int) -> Tensor:
        return torch.arange(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[:, self.positions(x.shape[1])] * make_slopes(x.shape[1])


@case("holders", (2, 8))
class OwnSetattr(nn.Module):
    """It counts what is set on it, and refuses what it does not know."""

    known = frozenset({"layer", "sets", "training", "last"})

    def __init__(self) -> None:
        object.__setattr__(self, "sets", 0)
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.known and not name.startswith("_"):
            raise AttributeError(name)
        object.__setattr__(self, "sets", self.sets + 1)
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.layer(x)
        return self.last


@case("holders", (2, 8))
class OwnTrain(nn.Module):
    """Its ``train`` keeps a part in eval."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.head = nn.Linear(8, 2)
        self.train()

    def train(self, mode: bool = True) -> OwnTrain:
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@case("holders", (2, 8))
class Swaps(nn.Module):
    """It takes a submodule away while it runs, and switches modes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        layer, self.a = self.a, nn.Identity()
        x = self.a(layer(x))
        self.a = layer
        self.eval()
        x = self.b(x)
        self.train()
        return x


@case("holders", (2, 8))
class Registers(nn.Module):
    """Its class keeps a registry of instances, and it holds locks, a logger, a generator and a class."""

    instances: typing.ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self) -> None:
        super().__init__()
        import logging
        import threading

        self.lock, self.logger = threading.Lock(), logging.getLogger("registers")
        self.generator = torch.Generator().manual_seed(3)
        self.activation: Callable[[Tensor], Tensor] = operator.methodcaller("relu")
        self.norm_class = nn.LayerNorm
        self.layer = nn.Linear(8, 8)
        self.instances.add(self)

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            noise = torch.rand(x.shape, generator=self.generator)
        return self.activation(self.layer(x) + noise)


def _scale_output(module: nn.Module, args: Any, output: Tensor) -> tuple[Tensor, Tensor]:
    return output * 2, output


def _widen_input(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (torch.cat([args[0], args[0]], dim=-1),)


@case("hooks", (2, 4))
class Hooked(nn.Module):
    """The user's own hooks change what goes in and out, and keep features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.features: list[Tensor] = []
        self.first.register_forward_pre_hook(_widen_input)
        self.first.register_forward_hook(_scale_output)
        self.second.register_forward_hook(lambda module, args, output: self.features.append(output))
        self.third.register_full_backward_hook(lambda module, grad_in, grad_out: None)
        self.third.register_forward_pre_hook(lambda m, args, kwargs: (args, kwargs), with_kwargs=True)

    def forward(self, x: Tensor) -> Tensor:
        scaled, plain = self.first(x)
        return self.third(self.second(scaled + plain))


@case("random", (2, 8))
class Chance(nn.Module):
    """It draws from every generator there is and skips layers by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if random.random() < 0.7 and np.random.rand() < 0.9:
                x = layer(x)
        return x + torch.rand_like(x) + torch.randn(8)


@case("random", (2, 8))
class Seeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(5)
        random.seed(5)
        np.random.seed(5)
        return self.layer(x) * torch.rand(())


# -- parameters of odd kinds ------------------------------------------------------------------------------------------


@case("parameters", ids(2, 5))
class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(10, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.embed(ids)))


@case("parameters", lambda: torch.empty(2, 8, device="meta"))
def on_meta() -> nn.Module:
    with torch.device("meta"):
        return mlp_of(8)


@case("parameters", lambda: torch.randn(2, 8, dtype=torch.bfloat16))
def bfloat16() -> nn.Module:
    return mlp_of(8).to(torch.bfloat16)


@case("parameters", lambda: torch.randn(2, 8, dtype=torch.float64))
def double() -> nn.Module:
    return mlp_of(8).double()


@case("parameters", lambda: torch.randn(2, 8, dtype=torch.complex64))
class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8, dtype=torch.complex64)
        self.weight = nn.Parameter(torch.randn(8, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x) * self.weight
        return torch.view_as_real(x).flatten(-2) + torch.fft.fft(x).abs().repeat(1, 2)


@case("parameters", (2, 8))
class TwoDevices(nn.Module):
    """A part on the CPU and a part on meta: the only second device that every machine has."""

    def __init__(self) -> None:
        super().__init__()
        self.here, self.there = nn.Linear(8, 8), nn.Linear(8, 2, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        return self.there(self.here(x).to("meta"))


@case("parameters", (2, 3, 8, 8))
def channels_last() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(memory_format=torch.channels_last)


@case("parameters", (2, 8))
def part_frozen() -> nn.Module:
    model = mlp_of(8)
    model[0].requires_grad_(False)
    return model


# -- own operations ---------------------------------------------------------------------------------------------------


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


@case("operations", (2, 8))
class OwnFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return Square.apply(self.layer(x))


@torch.library.custom_op("ms_tests::scaled", mutates_args=())
def scaled(x: Tensor, scale: float) -> Tensor:
    return torch.from_numpy(x.detach().numpy() * scale)


@scaled.register_fake
def _(x: Tensor, scale: float) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("ms_tests::unknown", mutates_args=())
def unknown(x: Tensor) -> Tensor:
    return torch.from_numpy(np.concatenate([x.detach().numpy()] * 2, axis=-1))


@case("operations", (2, 8))
class OwnOp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return scaled(self.layer(x), 2.0)


@case("operations", (2, 8), needs_values=True)
class OwnOpUnknown(nn.Module):
    """A custom operation that never said what size it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.after = nn.Linear(8, 8), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(unknown(self.layer(x)))


@case("operations", (2, 8))
class Functional(nn.Module):
    """An ensemble by ``functional_call`` and ``vmap``."""

    def __init__(self) -> None:
        super().__init__()
        self.template = nn.Linear(8, 4)
        self.weight = nn.Parameter(torch.randn(3, 4, 8))
        self.bias = nn.Parameter(torch.zeros(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        once = torch.func.functional_call(self.template, {"weight": self.weight[0], "bias": self.bias[0]}, (x,))
        many = torch.vmap(F.linear, in_dims=(None, 0, 0))(x, self.weight, self.bias)
        return many + once


@case("operations", (2, 3, 8, 8))
class Shapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.shuffle, self.unfold = nn.PixelUnshuffle(2), nn.Unfold(2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = F.interpolate(self.up(self.down(x)), scale_factor=2, mode="bilinear")
        patches = torch.einsum("bcl,bdl->bcd", self.unfold(x), self.unfold(x))
        return y, self.shuffle(x), patches, F.pad(x, (1, 2, 3, 4)), x.roll(1, 2)


@case("operations", ids(7, most=9), lambda: torch.tensor([0, 3, 5]))
class Bags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(9, 4, mode="mean")

    def forward(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        return self.bag(tokens, offsets)


@case("operations", (2, 4, 20), (2, 4, 6, 6, 6))
class OtherRanks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), nn.MaxPool1d(2))
        self.three = nn.Sequential(nn.Conv3d(4, 2, 3), nn.GroupNorm(2, 2), nn.AdaptiveMaxPool3d(2))

    def forward(self, signal: Tensor, volume: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(signal), self.three(volume)


# -- values decide ----------------------------------------------------------------------------------------------------


@case("data", (4, 8), needs_values=True)
class Routed(nn.Module):
    """A mixture of experts that sends each row where its values say."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 2)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(-1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows = (chosen == index).nonzero().flatten()
            out[rows] = expert(x[rows])
        return out


@case("data", (2, 8), needs_values=True)
class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 1e6 else self.b(x)


def _choose(x: Tensor) -> Tensor:
    if bool(x.sum() > 1e6):
        return x * 2
    return x


@case("data", (2, 8), needs_values=True)
class ScriptedChoice(nn.Module):
    """A scripted function asks for values: what its fakes raise comes out of the interpreter as plain words."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)
        with _quiet():
            self.choose = torch.jit.script(_choose)

    def forward(self, x: Tensor) -> Tensor:
        return self.choose(self.layer(x))


@case("data", (2, 8), needs_values=True)
class Items(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.layer(x).abs().max().item()
        return self.drop(self.layer(x / scale))


@case("data", (2, 8), needs_values=True)
class ThroughNumpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(torch.from_numpy(np.sort(x.detach().numpy(), axis=-1))))


@case("data", (2, 8), needs_values=True)
class Masks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.head = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return self.head(x[x > 0].unsqueeze(-1))


@case("data", (2, 3, 8), lambda: torch.tensor([3, 1]))
class ReadsLengths(nn.Module):
    """It loops over lengths: given as data, they are known."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        parts = [self.layer(row[:length]) for row, length in zip(x, lengths.tolist(), strict=True)]
        return torch.cat(parts)


@case("data", (2, 8))
class BufferValues(nn.Module):
    """It reads a number from a buffer that is part of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(3))
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(self.steps)):
            x = self.layer(x)
        return x


@case("data", (2, 6, 8))
class AsksWhetherPositionsAreInOrder(nn.Module):
    """It masks several sequences packed into one, and looks at its own positions to find that there is only one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.masked = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        positions = (torch.arange(x.shape[1], device=x.device) + 0).unsqueeze(0)
        starts = (torch.diff(positions, prepend=positions[:, :1] - 1, dim=-1) != 1).cumsum(-1)
        return self.layer(x) if bool((starts[:, -1] == 0).all()) else self.masked(x)


@case("data", (2, 8))
class Prints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        print("in forward", tuple(x.shape))
        return self.layer(x)


@case("data", (2, 6, 8))
class MasksDrawnAtRandom(nn.Module):
    """It picks places at random of a mask that hides nothing: whichever are drawn, the mask still hides nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.masked = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[:2], dtype=torch.int64)
        drawn = torch.randperm(x.shape[1])
        mask, x = mask[:, drawn], x[:, drawn]
        return self.layer(x) if bool(mask.all()) else self.masked(x) * mask[..., None]

"""``python -m benchmarks verdicts [calls] [seed]``: torch's layers at random settings and inputs, for real and ours.

Each call of a layer passes or raises; a summary of it must say the same, and where it passes the same shapes and dtypes
of outputs. Settings and inputs are drawn without regard to what a layer takes: ranks 0 to 6, dtypes, empty dims, views
that overlap themselves. ``KNOWN`` are the disagreements that stay, each with its reason; all others are printed with an
example.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.trace import TensorSpec
from modelsummary_ipy.tracing.engine import run_engine
from tests.reference import quietly

__all__ = ["KNOWN", "Verdict", "judge", "main"]

#: Of which class, and a part of the message that one side has: why fakes and a real run may differ there.
KNOWN: dict[tuple[str, str], str] = {
    ("BCELoss", "between 0 and 1"): "depends on values, which fakes do not have",
    ("NLLLoss", "out of bounds"): "depends on values, which fakes do not have",
    ("CrossEntropyLoss", "out of bounds"): "depends on values, which fakes do not have",
    ("MaxPool1d", "max_pool1d_impl"): "under any mode of torch's another kernel runs, which takes integers",
    ("HuberLoss", "in a trace"): "given two dtypes, torch's kernel returns the input's and its fake the wider one",
    ("SoftMarginLoss", "in a trace"): "given two dtypes, torch's kernel returns the input's and its fake the wider one",
}

_CHANNELS = 4
_CHOICES: dict[str, Sequence[Any]] = {
    "in_channels": (4,), "out_channels": (4, 6), "in_features": (4,), "out_features": (3,), "in1_features": (4,),
    "in2_features": (4,), "num_features": (4, 4, 6), "num_channels": (4,), "num_groups": (1, 2, 4), "channels": (4,),
    "kernel_size": (1, 2, 3, 4, (2, 3), (3,)), "stride": (1, 2, 3), "padding": (0, 1, 2, 3, (1, 2), "same"),
    "dilation": (1, 2, 3), "groups": (1, 2, 4), "output_padding": (0, 1, 2, 3), "bias": (True, False),
    "padding_mode": ("zeros", "reflect", "replicate", "circular"), "return_indices": (True, False),
    "ceil_mode": (True, False), "count_include_pad": (True, False), "divisor_override": (None, 2),
    "norm_type": (1.0, 2.0), "output_size": (1, 2, 3, (2, 3), (None, 2)), "output_ratio": (0.5, (0.5, 0.7)),
    "normalized_shape": (4, (4,), (3, 4), (4, 4)), "affine": (True, False), "track_running_stats": (True, False),
    "size": (2, 3, (4, 5)), "alpha": (0.1, 1.0), "beta": (1.0,), "k": (1.0,), "elementwise_affine": (True, False),
    "num_parameters": (1, 4, 3), "inplace": (True, False), "dim": (0, 1, -1, 2, 3), "lambd": (0.5,), "n_classes": (6,),
    "upscale_factor": (1, 2, 3), "downscale_factor": (1, 2, 3), "scale_factor": (2, 0.5, (2, 1.5)),
    "mode": ("nearest", "linear", "bilinear", "bicubic", "trilinear", "area", "nearest-exact"),
    "align_corners": (None, True, False), "start_dim": (0, 1, 2), "end_dim": (-1, 1, 2),
    "unflattened_size": ((2, 2), (4, 1)),
    "num_embeddings": (7,), "embedding_dim": (4,), "padding_idx": (None, 0), "max_norm": (None, 1.0),
    "input_size": (4,), "hidden_size": (4, 5), "num_layers": (1, 2), "batch_first": (True, False),
    "bidirectional": (True, False), "proj_size": (0, 2), "nonlinearity": ("tanh", "relu"), "p": (0.0, 0.5),
    "embed_dim": (4,), "num_heads": (1, 2), "d_model": (4,), "nhead": (1, 2), "dim_feedforward": (5,),
    "norm_first": (True, False), "reduction": ("none", "mean", "sum"), "margin": (1.0,), "log_input": (True, False),
    "threshold": (0.1,), "value": (1.0,), "min_val": (-1.0,), "max_val": (1.0,), "approximate": ("none", "tanh"),
    "keepdim": (True, False), "zero_infinity": (True, False), "full": (True, False), "swap": (True, False),
    "num_encoder_layers": (1,), "num_decoder_layers": (1, 2), "cutoffs": ((2,), (2, 4)), "div_value": (2.0,),
}  # fmt: skip
#: Settings that are layers themselves.
_PARTS: dict[str, Callable[[], nn.Module]] = {
    "encoder_layer": lambda: nn.TransformerEncoderLayer(4, 2, 5),
    "decoder_layer": lambda: nn.TransformerDecoderLayer(4, 2, 5),
}
#: Layers that take no tensors, or are containers.
_LEFT_OUT = re.compile("Module|Container|Sequential|(Module|Parameter)(List|Dict)|DataParallel")
_LAYERS = tuple(
    (name, kind)
    for name, kind in sorted(vars(nn).items())
    if isinstance(kind, type)
    and issubclass(kind, nn.Module)
    and not _LEFT_OUT.fullmatch(name)
    and not name.endswith("Base")
)
_DTYPES = (torch.float32,) * 12 + (
    torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int64, torch.int32, torch.bool, torch.complex64,
    torch.uint8,
)  # fmt: skip
_RANK = re.compile(r"([123])d$")


class Verdict(NamedTuple):
    """What became of one call.

    Attributes:
        layer: As it is made.
        inputs: Dtypes and shapes of its input.
        real: What a real call raised, ``""`` if it passed.
        ours: What a trace says that it raises.
        real_outputs: Dtypes and shapes of the tensors that a real call gave.
        our_outputs: The same of a trace.
    """

    layer: str
    inputs: str
    real: str
    ours: str
    real_outputs: str
    our_outputs: str

    @property
    def kind(self) -> str:
        """How both sides disagree, ``""`` if they agree."""
        if bool(self.real) != bool(self.ours):
            return "false pass" if self.real else "false failure"
        return "" if self.real_outputs == self.our_outputs else "other outputs"

    @property
    def difference(self) -> str:
        """What one side says and the other does not."""
        return self.real or self.ours or f"{self.real_outputs} in a real call, {self.our_outputs} in a trace"


def _draw_layer(rng: random.Random) -> tuple[str, nn.Module] | None:
    name, kind = rng.choice(_LAYERS)
    settings = {}
    for parameter in inspect.signature(kind).parameters.values():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if parameter.name in _PARTS:
            settings[parameter.name] = _PARTS[parameter.name]()
        elif parameter.name in _CHOICES and (needed or rng.random() < 0.4):
            settings[parameter.name] = rng.choice(_CHOICES[parameter.name])
        elif needed:
            return None
    try:
        layer = kind(**settings)
    except Exception:  # noqa: BLE001  # settings that the layer itself refuses
        return None
    if rng.random() < 0.1:
        layer = layer.to(rng.choice((torch.float64, torch.bfloat16)))
    written = ", ".join(f"{key}={value!r}" for key, value in settings.items() if key not in _PARTS)
    return f"{name}({written})", layer.train(rng.random() < 0.5)


def _draw_tensor(rng: random.Random, rank: int) -> Tensor:
    shape = [rng.choice((1, 2, 3, 4, 5, 6, 8)) for _ in range(rank)]
    if rank and rng.random() < 0.75:
        shape[rng.choice((1 % rank, -1, -min(rank, 3)))] = _CHANNELS
    if rank and rng.random() < 0.04:
        shape[rng.randrange(rank)] = 0
    dtype = rng.choice(_DTYPES)
    if dtype.is_floating_point or dtype.is_complex:
        made = torch.randn(shape, dtype=dtype)
    else:
        made = torch.randint(0, 2 if dtype == torch.bool else 7, shape, dtype=dtype)
    if rank and rng.random() < 0.05:
        made = made[:1].expand(shape)
    elif rank > 1 and rng.random() < 0.05:
        made = made.transpose(0, -1)
    return made


def _draw_inputs(rng: random.Random, name: str, layer: nn.Module) -> tuple[Tensor, ...]:
    found = _RANK.search(name.partition("(")[0])
    usual = int(found.group(1)) + 2 if found else rng.choice((2, 3, 3, 4))
    rank = usual if rng.random() < 0.7 else rng.choice((usual - 1, rng.randrange(7)))
    first = _draw_tensor(rng, rank)
    count = sum(
        p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        for p in inspect.signature(layer.forward).parameters.values()
    )
    rest = []
    for _ in range(count - 1):
        draw = rng.random()
        if draw < 0.5:
            rest.append(torch.rand_like(first) if first.is_floating_point() else first.clone())
        elif draw < 0.7 and first.dim() > 1:
            rest.append(torch.randint(0, _CHANNELS, (first.shape[0], *first.shape[2:])))
        else:
            rest.append(_draw_tensor(rng, rank if draw < 0.9 else rng.randrange(5)))
    return (first, *rest)


def _run(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[str, str]:
    """Run a layer for real, and return what it raises and what comes out."""
    try:
        made = layer(*copy.deepcopy(inputs))
    except Exception as error:  # noqa: BLE001  # is what we compare
        return f"{type(error).__name__}: {error}", ""
    return "", _describe(leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor))


def _describe(leaves: Iterable[Tensor | TensorSpec]) -> str:
    return ", ".join(f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}" for leaf in leaves)


def judge(seed: int) -> Verdict | None:
    """Draw one call and compare; ``None`` if the layer does not take the settings drawn, or counts on values."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    drawn = _draw_layer(rng)
    if drawn is None:
        return None
    name, layer = drawn
    inputs = _draw_inputs(rng, name, layer)
    written = ", ".join(f"{_describe([tensor])}{_describe_strides(tensor)}" for tensor in inputs)
    with quietly():
        traced = run_engine(layer, ModelInputs(inputs, {}))
        real, real_outputs = _run(layer, inputs)
    ours = "" if traced.error is None else f"{type(traced.error).__name__}: {traced.error}"
    our_outputs = "" if ours else _describe(traced.trace.calls[0].outputs)
    return Verdict(name, written, real[:300], ours[:300], real_outputs, our_outputs)


def _describe_strides(tensor: Tensor) -> str:
    return "" if tensor.is_contiguous() else f" of strides {tensor.stride()}"


def reason_of(verdict: Verdict) -> str:
    """Return why a disagreement stays, ``""`` if it should not."""
    for (kind, part), reason in KNOWN.items():
        if verdict.layer.startswith(kind) and part in verdict.difference:
            return reason
    return ""


def _judge_apart(seeds: Sequence[int]) -> list[Verdict]:
    """Judge some calls in a process of its own: a kernel that ends the process ends these alone."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as answer, quietly():
            for seed in seeds:
                verdict = judge(seed)
                if verdict is not None:
                    answer.write(json.dumps(verdict) + "\n")
                    answer.flush()
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        found = [Verdict(*json.loads(line)) for line in answer]
    _, status = os.waitpid(child, 0)
    if status:
        print(f"seeds {seeds[0]} to {seeds[-1]}: the process ended with {status} after {len(found)} calls", flush=True)
    return found


def main(words: Sequence[str]) -> None:
    """Judge so many calls and print the disagreements, by layer and message."""
    warnings.simplefilter("ignore")
    wanted, start = (*map(int, words), 20_000, 0)[:2] if len(words) < 2 else (int(words[0]), int(words[1]))
    made, known, passed = 0, 0, 0
    other: dict[tuple[str, str, str], list[Verdict]] = {}
    reasons: Counter[str] = Counter()
    while made < wanted:
        for verdict in _judge_apart(range(start, start + 500)):
            made += 1
            passed += not verdict.real
            if not verdict.kind:
                continue
            reason = reason_of(verdict)
            if reason:
                known += 1
                reasons[reason] += 1
                continue
            message = re.sub(r"\d+", "#", verdict.difference)[:90]
            group = other.setdefault((verdict.kind, verdict.layer.partition("(")[0], message), [])
            group.append(verdict)
            if len(group) == 1:
                print(f"{verdict.kind}: {verdict.layer} with {verdict.inputs}: {verdict.difference}", flush=True)
        start += 500
    print(f"\n{made:,} calls, {passed:,} pass for real; {sum(map(len, other.values()))} disagreements, {known} known")
    for (kind, layer, message), group in sorted(other.items(), key=lambda item: -len(item[1])):
        print(f"{len(group):5} × {kind} {layer}: {message}")
    for reason, count in reasons.most_common():
        print(f"{count:5} × known: {reason}")

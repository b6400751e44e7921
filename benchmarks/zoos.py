"""``python -m benchmarks zoos [words]``: models of torchvision, timm, segmentation-models-pytorch and other libraries.

Of each: whether the rows are what plain hooks see of a real run, whether parameters and multiply-adds equal what torch
counts, what is flagged, and the seconds of CPU that the page took. Needs the libraries, some of which fit other
releases of torch than ``constraints.txt`` pins. Each model has a process of its own and ``SECONDS``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.libraries import list_models
from modelsummary_ipy import ModelSummary
from tests.reference import count_params, list_module_calls, quietly, watch_with_hooks

__all__ = ["main"]

SECONDS = 300
#: Models of more parameters are not run for real: their rows and multiply-adds are not compared.
MOST_PARAMS = 700_000_000
#: Of each of timm's files this many models are taken.
_OF_EACH_FILE = 3


@dataclass(frozen=True)
class Specimen:
    """One model: its name, what builds it and what makes the arguments of its forward."""

    name: str
    build: Callable[[], nn.Module]
    give: Callable[[nn.Module], tuple[Any, ...]]


def _image(*size: int) -> Callable[[nn.Module], tuple[Any, ...]]:
    return lambda _: (torch.rand(1, *size),)


def list_torchvision() -> Iterator[Specimen]:
    """List all of torchvision's models, of every kind."""
    from torchvision import models

    kinds: dict[Any, Callable[[nn.Module], tuple[Any, ...]]] = {
        models: _image(3, 224, 224),
        models.quantization: _image(3, 224, 224),
        models.segmentation: _image(3, 224, 224),
        models.detection: lambda _: ([torch.rand(3, 320, 320)],),
        models.video: _image(3, 16, 112, 112),
        models.optical_flow: lambda _: (torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)),
    }
    for kind, give in kinds.items():
        for name in models.list_models(module=kind):
            options: dict[str, Any] = {"weights": None}
            if kind in (models.detection, models.segmentation):
                options["weights_backbone"] = None
            if name in ("googlenet", "inception_v3"):
                options |= {"init_weights": False}
            size = _image(3, 16, 224, 224) if name.startswith(("mvit", "s3d")) else give
            yield Specimen(f"torchvision {name}", lambda n=name, o=options: models.get_model(n, **o), size)


def list_timm() -> Iterator[Specimen]:
    """List some models of each of timm's files: the first, the last and one between; the largest sizes left out."""
    import timm

    def give(model: Any) -> tuple[Any, ...]:
        channels, *sides = model.pretrained_cfg.get("input_size") or (3, 224, 224)
        if not model.pretrained_cfg.get("fixed_input_size"):
            sides = [side if side % 32 else min(side, 256) for side in sides]
        return (torch.rand(1, channels, *sides),)

    def build(name: str) -> nn.Module:
        return timm.create_model(name, pretrained=False)

    for file in timm.list_modules():
        names = [name for name in timm.list_models(module=file) if not any(word in name for word in _HUGE)]
        picked = {names[place * (len(names) - 1) // max(_OF_EACH_FILE - 1, 1)] for place in range(_OF_EACH_FILE)}
        for name in sorted(picked) if names else ():
            yield Specimen(f"timm {name}", lambda n=name: build(n), give)


_HUGE = ("giant", "gigantic", "huge", "enormous", "xxlarge", "_7b", "_3b", "_1b", "so400m", "_e_", "_g_")


def list_segmentation() -> Iterator[Specimen]:
    """List every architecture of segmentation-models-pytorch on some encoders."""
    import segmentation_models_pytorch as smp

    for name, build in smp.MODEL_ARCHITECTURES_MAPPING.items():
        for encoder in ("resnet34", "mit_b0", "efficientnet-b0", "mobilenet_v2", "vgg11", "tu-vit_tiny_patch16_224"):
            if (name == "dpt") == encoder.startswith("tu-vit"):
                size = _image(3, 224, 224) if name == "dpt" else _image(3, 128, 128)
                yield Specimen(f"smp {name} {encoder}", lambda b=build, e=encoder: b(e, encoder_weights=None), size)


def list_others() -> Iterator[Specimen]:
    """List small models of other libraries."""
    for name, build in list_models():
        made = cache(build)
        yield Specimen(name, lambda m=made: m()[0], lambda _, m=made: m()[1])


def examine(specimen: Specimen) -> dict[str, Any]:
    """Summarise one model and compare it with a real run."""
    torch.manual_seed(0)
    model = specimen.build().eval()
    inputs = specimen.give(model)
    started = time.process_time()
    ms = ModelSummary(model, list(inputs))
    if ms.error is not None and "a real run took over" in str(ms.error):  # which we say, and how to go on
        ms = ModelSummary(model, list(inputs), engine="real")
    page = ms.to_html()
    found: dict[str, Any] = {
        "seconds": time.process_time() - started,
        "kilobytes": len(page) // 1000,
        "engine": ms.engine,
        "calls": len(ms.story.trace.calls),
        "params": ms.total_params,
        "macs": ms.total_mult_adds,
        "flags": [f"{flag.severity} {flag.rule} at {flag.path}: {flag.message}" for flag in ms.flags],
        "unknown": list(ms.unknown_ops),
        "problems": [],
    }
    problems: list[str] = found["problems"]
    params = count_params(model)
    if ms.total_params != params:
        problems.append(f"{ms.total_params:,} parameters, counted {params:,}")
    if ms.error is not None:
        problems.append(str(ms.error))
    problems += ms.story.internal_errors
    if params <= MOST_PARAMS:
        problems += compare(model, inputs, ms)
    return found


def compare(model: nn.Module, inputs: tuple[Any, ...], ms: ModelSummary) -> Iterator[str]:
    """Compare the rows and the multiply-adds of a summary with what torch sees of a real run."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        try:
            seen, _ = watch_with_hooks(model, "forward", inputs, {})
        except Exception as error:  # noqa: BLE001  # the model's own: its summary must have failed too
            if ms.error is None:
                yield f"the real run failed and ours did not: {error}"
            return
        with FlopCounterMode(display=False) as counter, quietly():
            try:
                model(*inputs)
            except AssertionError:  # torch's counter does not take every forward without autograd
                counter = None
    rows = list_module_calls(ms.story.trace, ms.rows)
    if rows != seen:
        pairs = zip([*rows, None], [*seen, None], strict=False)
        yield f"{len(rows)} rows, {len(seen)} calls seen; first other: {next(p for p in pairs if p[0] != p[1])}"
    macs = counter.get_total_flops() / 2 if counter is not None else ms.total_mult_adds
    if ms.total_mult_adds != macs:
        yield f"{ms.total_mult_adds or 0:,} multiply-adds, counted {macs:,.0f}"


def examine_apart(specimen: Specimen, examine: Callable[[Specimen], dict[str, Any]] = examine) -> dict[str, Any]:
    """Examine a model in a process of its own, ended after ``SECONDS``."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as answer:
            try:
                with quietly():
                    found = examine(specimen)
            except BaseException:  # noqa: BLE001  # is a line of the table
                found = {"problems": [traceback.format_exc()[-1500:]]}
            answer.write(json.dumps(found))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        ready, _, _ = select.select([answer], [], [], SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"problems": [f"no answer in {SECONDS} s, or the process was ended"]}


def list_all(words: Sequence[str]) -> Iterator[Specimen]:
    """List the models, of the libraries that are there, whose names hold one of ``words``; all if there are none."""
    zoos = {"torchvision": list_torchvision, "timm": list_timm, "segmentation_models_pytorch": list_segmentation}
    found = [zoo() for library, zoo in zoos.items() if find_spec(library)]
    for specimen in chain.from_iterable([*found, list_others()]):
        if not words or any(word.lower() in specimen.name.lower() for word in words):
            yield specimen


def main(words: Sequence[str]) -> None:
    """Print a table of the models whose names hold one of ``words``; on stderr what was found and flagged."""
    warnings.simplefilter("ignore")
    number = wrong = 0
    print("| model | engine | calls | parameters | multiply-adds | CPU s | flags | problems |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for specimen in list_all(words):
        found = examine_apart(specimen)
        number += 1
        wrong += bool(found["problems"])
        cells = [f"{found.get(name) or 0:,}" for name in ("calls", "params", "macs")]
        flags = found.get("flags", [])
        line = [specimen.name, found.get("engine", ""), *cells, f"{found.get('seconds', 0):.1f}"]
        print("|", " | ".join([*line, str(len(flags)), str(len(found["problems"]))]), "|", flush=True)
        for text in (*found["problems"], *flags, *found.get("unknown", ())):
            print(f"{specimen.name}: {text}", file=sys.stderr, flush=True)
    print(f"\n{number} models, {wrong} with a problem")

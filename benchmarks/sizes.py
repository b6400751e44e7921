"""``python -m benchmarks sizes [words]``: formulas and limits of other libraries' models, beside runs at other sizes.

Of each model of ``zoos`` all formulas are evaluated at ``SIZES`` sizes that were never traced for them, among them odd
ones and some beside multiples of 32, and compared with the rows of a summary made anew at that size. The words under
"Sizes that work" are read as a claim about every size of one dim, and tried with stock torch's fakes: "untrue" are
sizes that were said to fail and work, "unsaid" those that fail though nothing was said.
"""

from __future__ import annotations

import copy
import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.func import functional_call

from benchmarks.zoos import Specimen, examine_apart, list_all
from modelsummary_ipy import ModelSummary
from modelsummary_ipy.shapes.align_traces import align_calls
from modelsummary_ipy.shapes.expr_text import evaluate

__all__ = ["main"]

#: At how many sizes the formulas of a model are compared.
SIZES = 4
#: What is added to the dims that move, in their steps: even and odd, small and large, other remainders by 32.
_MOVES = ((5, -9), (-27, 44), (38, 83), (13, 10), (17, 6), (31, 33), (-3, 1), (1, 2), (2, 1), (3, 3), (-1, -1), (1, 1))
#: Sizes at which the claim about one dim is tried.
_TRIED = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 28, 31, 32, 33, 40, 48, 63, 64, 65, 96, 100, 128, 192, 231, 448)


def examine(specimen: Specimen) -> dict[str, Any]:
    """Compare the formulas and the limits of one model."""
    torch.manual_seed(0)
    model = specimen.build().eval()
    inputs = specimen.give(model)
    if not all(isinstance(value, torch.Tensor) for value in inputs):
        return {"problems": ["takes no plain tensors"]}
    ms = ModelSummary(model, list(inputs))
    found: dict[str, Any] = {"problems": list(ms.story.internal_errors), "limits": list(ms.constraints)}
    if ms.error is not None or ms.engine != "fake":
        return {"problems": [f"engine {ms.engine}: {ms.error}"]}
    calls = {row.index for row in ms.rows if row.call is not None}
    leaves = [formula for row in calls for formula in ms.formulas[row]]
    found |= {"leaves": len(leaves), "unknown": leaves.count(None), "known": _list_unknown(ms)}
    found |= _compare_formulas(ms, model, inputs)
    found["claims"], found["untrue"], found["missing"] = _try_limits(ms, model, inputs)
    found["problems"] += found["wrong"]
    return found


def _list_unknown(ms: ModelSummary) -> list[str]:
    """Name the first rows without a formula."""
    rows = [row for row in ms.rows if row.call is not None and None in ms.formulas[row.index]]
    return [f"{row.path} {row.type_name} {[leaf.shape for leaf in row.outputs]}" for row in rows[:4]]


def _name_dims(ms: ModelSummary) -> list[tuple[str, ...]]:
    return [fact.dims for fact in ms.story.trace.inputs]


def _resize(ms: ModelSummary, inputs: tuple[Any, ...], sizes: dict[str, int]) -> list[torch.Tensor]:
    """Make the inputs anew with other sizes of named dims."""
    made = []
    for dims, value in zip(_name_dims(ms), inputs, strict=True):
        shape = [sizes.get(name, size) for name, size in zip(dims, value.shape, strict=True)]
        made.append(torch.zeros(shape, dtype=value.dtype, device="cpu"))  # an integer is an index that tables have
    return made


def _find_base(ms: ModelSummary, inputs: tuple[Any, ...]) -> dict[str, int]:
    return {
        name: size
        for dims, value in zip(_name_dims(ms), inputs, strict=True)
        for name, size in zip(dims, value.shape, strict=True)
        if name
    }


def _find_step(ms: ModelSummary, name: str) -> int:
    steps = [1]
    for text in ms.constraints:
        if match := re.fullmatch(rf".*?(?:[⌊⌈]{name}/(\d+)[⌋⌉]|\b{name}\b).* divisible by (\d+)", text):
            steps.append(int(match[1] or 1) * int(match[2]))
    return max(steps)


def _compare_formulas(ms: ModelSummary, model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Compare every formula, of results and arguments, with the rows at sizes that were not traced for it."""
    base = _find_base(ms, inputs)
    words = {
        word
        for formulas in (*ms.formulas.values(), *ms.story.input_formulas.values())
        for dims in formulas
        for dim in dims or ()
        for word in re.findall(r"[A-Za-z]\w*", dim)
    }
    few = [name for name in base for text in ms.constraints if re.match(rf"{name} = \d", text)]
    moving = [name for name in base if name in words and name not in few]
    tried: list[str] = []
    wrong: dict[str, str] = {}
    compared = unaligned = 0
    for turn, move in enumerate(_MOVES):
        if len(tried) == SIZES:
            break
        sizes = dict(base)
        for place, name in enumerate(moving):
            step = _find_step(ms, name)
            more = move[place % 2] + place // 2 if base[name] > 1 else turn + 2
            more = more if base[name] + more * step > 0 else -more
            sizes[name] = base[name] + (more if step == 1 or abs(more) < 4 else more // 4) * step
        other = ModelSummary(model, _resize(ms, inputs, sizes))
        if other.error is not None:
            continue
        tried.append(",".join(f"{name}={sizes[name]}" for name in moving))
        trace, there = ms.story.trace, other.story.trace
        partners = align_calls(trace, there)
        for row in ms.rows:
            partner = None if row.call is None else partners[row.call]
            if row.call is None or partner is None:
                unaligned += 1
                continue
            sides = (
                ("out", ms.formulas[row.index], trace.calls[row.call].outputs, there.calls[partner].outputs),
                ("in", ms.story.input_formulas[row.index], trace.calls[row.call].inputs, there.calls[partner].inputs),
            )
            for side, formulas, mine, theirs in sides:
                shapes = {leaf.name: leaf.shape for leaf in theirs}
                for formula, leaf in zip(formulas, mine, strict=True):
                    if formula is None or leaf.name not in shapes:
                        continue
                    compared += 1
                    values = tuple(_evaluate(dim, sizes) for dim in formula)
                    if values != shapes[leaf.name]:
                        key = f"{row.path} {row.type_name} {side}{leaf.name}"
                        wrong.setdefault(key, f"{key} = {formula}: {values} at {tried[-1]}, is {shapes[leaf.name]}")
    return {"sizes": tried, "compared": compared, "unaligned": unaligned, "wrong": list(wrong.values())}


def _evaluate(dim: str, sizes: dict[str, int]) -> int | None:
    try:
        return evaluate(dim, sizes)
    except ValueError:
        return None


#: How limits are written, and when they hold of what stands there.
_WORDS: dict[str, Callable[..., bool]] = {
    r"(?P<what>.*) divisible by (?P<by>\D.*)": lambda value, by: by != 0 and value % by == 0,
    r"(?P<what>\D.*) ≤ (?P<by>\D.*)": lambda value, most: value <= most,
    r"(?P<what>\w+) = (?P<by>\d*[·⌊⌈].*)": lambda value, other: value == other,
    r"(?P<what>.*) divisible by (?P<low>\d+)": lambda value, by: value % by == 0,
    r"(?P<what>.*) a square": lambda value: math.isqrt(value) ** 2 == value,
    r"(?P<what>.*) a power of two": lambda value: value & (value - 1) == 0,
    r"(?P<low>\d+) ≤ (?P<what>.*) ≤ (?P<high>\d+)": lambda value, low, high: low <= value <= high,
    r"(?P<what>.*) ≥ (?P<low>\d+)": lambda value, low: value >= low,
    r"(?P<what>.*) ≤ (?P<low>\d+)": lambda value, high: value <= high,
    r"(?P<what>.*) > (?P<low>\d+)": lambda value, low: value > low,
    r"((?P<what>\w+) = )?(?P<low>\d+)": lambda value, only: value == only,
}


def _read_claim(text: str, name: str, base: dict[str, int]) -> Callable[[int], bool] | None:
    """Read what a limit says of one dim, all others as given; ``None`` if it says nothing of it."""
    if not re.search(rf"\b{name}\b", text):
        return None
    text = text.removesuffix(" in train mode").replace(" (other formulas)", "")
    ways = [_read_way(part, name, base) for part in text.split(" or ")]
    return lambda size: any(way(size) for way in ways)


def _read_way(text: str, name: str, base: dict[str, int]) -> Callable[[int], bool]:
    """Read a limit without an "or"."""
    for pattern, holds in _WORDS.items():
        if match := re.fullmatch(pattern, text):
            named = match.groupdict()
            if by := named.get("by"):
                pair = named["what"], by
                return lambda size: holds(*(_evaluate(each, {**base, name: size}) or 0 for each in pair))
            numbers = [int(named[key]) for key in ("low", "high") if named.get(key)]
            what = [item for item in re.split(", | and ", named.get("what") or name) if re.search(rf"\b{name}\b", item)]
            return lambda size: all(
                (value := _evaluate(item, {**base, name: size})) is not None and holds(value, *numbers) for item in what
            )
    raise ValueError(f"a limit in other words: {text}")


def _try_limits(ms: ModelSummary, model: nn.Module, inputs: tuple[Any, ...]) -> tuple[int, list[str], list[str]]:
    """Try sizes of each dim; return how many, where one that is said to fail works, and where one fails unsaid."""
    works = _make_judge(model)
    base = _find_base(ms, inputs)
    limits = [re.sub(" or (one of them 1|few others)$", "", text) for text in ms.constraints]
    tied = [tuple(text.split(" = ")) for text in limits if re.fullmatch(r"[A-Z]\w* = [A-Z]\w*", text)]
    texts = [text for text in limits if not re.fullmatch(r"[A-Z]\w* = [A-Z]\w*", text)]
    number, untrue, missing = 0, list[str](), list[str]()
    for name in base:
        claims = [claim for text in texts if (claim := _read_claim(text, name, base)) is not None]
        numbers = {int(word) for text in texts if re.search(rf"\b{name}\b", text) for word in re.findall(r"\d+", text)}
        edges = {size + more for size in (*numbers, base[name]) for more in (-1, 0, 1)}
        if base[name] > 16:
            edges |= {base[name] * 2, base[name] * 3 // 2, base[name] + 32, base[name] - 32, base[name] // 2}
        tried = _TRIED if name in ("H", "W", "T") else _TRIED[:3]
        for size in sorted(size for size in {*tried, *edges} if size > 0 and size != base[name]):
            together = {name, *(one for pair in tied if name in pair for one in pair)}
            number += 1
            said = all(claim(size) for claim in claims)
            sizes = dict.fromkeys(together, size)
            does, why = works(_resize(ms, inputs, sizes))
            if does and not said:
                untrue.append(f"{name} = {size} works")
            elif not does and said:
                missing.append(f"{name} = {size} fails: {why}")
    for one, two in tied:
        number += 1
        if works(_resize(ms, inputs, {one: base[one] + _find_step(ms, one)}))[0]:
            untrue.append(f"{one} ≠ {two} works")
    return number, untrue, missing


def _make_judge(model: nn.Module) -> Callable[[list[torch.Tensor]], tuple[bool, str]]:
    """Return what runs a model with stock fakes, for real where they need values; it says whether that worked."""
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # it writes what it raises
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    held = {
        name: mode.from_tensor(value)
        for named in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        for name, value in named
    }

    def works(inputs: list[torch.Tensor]) -> tuple[bool, str]:
        with mode, torch.no_grad():
            try:
                functional_call(model, held, tuple(map(mode.from_tensor, inputs)), tie_weights=False)
            except DataDependentOutputException:
                pass
            except RuntimeError as error:
                if "swap" not in str(error):  # a forward that moves its layers
                    return False, f"{type(error).__name__} {str(error)[:90]}"
            except Exception as error:  # noqa: BLE001  # whatever the model raises
                return False, f"{type(error).__name__} {str(error)[:90]}"
            else:
                return True, ""
        with torch.no_grad():
            try:
                copy.deepcopy(model)(*(torch.zeros_like(value) for value in inputs))
            except Exception as error:  # noqa: BLE001
                return False, f"{type(error).__name__} {str(error)[:90]}"
        return True, ""

    return works


def _write(name: str, found: dict[str, Any]) -> Iterator[str]:
    for key in ("problems", "known", "untrue", "missing"):
        for text in found.get(key, ()):
            yield f"{name}: {'unknown' if key == 'known' else key}: {text}"


def main(words: Sequence[str]) -> None:
    """Print a line for each model whose name holds one of ``words``; on stderr what is wrong, unknown or untrue."""
    warnings.simplefilter("ignore")
    sums = dict.fromkeys(("leaves", "unknown", "compared", "wrong", "claims", "untrue", "missing"), 0)
    number = 0
    print("| model | leaves | unknown | compared | wrong | sizes tried | untrue | unsaid | limits |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|---|")
    for specimen in list_all(words):
        found = examine_apart(specimen, examine)
        number += 1
        cells = []
        for key in sums:
            value = found.get(key, 0)
            count = value if isinstance(value, int) else len(value)
            sums[key] += count
            cells.append(f"{count:,}")
        print("|", " | ".join([specimen.name, *cells, "; ".join(found.get("limits", ()))]), "|", flush=True)
        for line in _write(specimen.name, found):
            print(line, file=sys.stderr, flush=True)
    print(f"\n{number} models: {', '.join(f'{key} {value:,}' for key, value in sums.items())}")

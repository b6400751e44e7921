"""Rules that watch the spatial axes of a map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from modelsummary_ipy.facts import Flag, ModuleFact, Row, Story

__all__ = ["RULES", "find_grown_maps"]


def find_grown_maps(story: Story) -> Iterator[Flag]:
    """Find stride-1 convolutions that make the map larger than it came.

    Finds ``Conv2d(1, 16, 3, padding=5)``: 256 becomes 264. Leaves alone transposed convolutions, whose job it is, and a
    map that is trimmed again to the size it came in by what follows (causal nets pad and cut, ``x[..., :-pad]``).
    """
    for row in story.rows:
        if row.kind != "module" or row.status != "ran" or row.module is None or not row.inputs or not row.outputs:
            continue
        fact = story.trace.modules[row.module]
        if not _is_plain_convolution(fact):
            continue
        flag = _judge_growth(story, row, fact)
        if flag is not None:
            yield flag


def _is_plain_convolution(fact: ModuleFact) -> bool:
    settings = fact.settings
    is_convolution = "kernel_size" in settings and "in_channels" in settings and "groups" in settings
    return is_convolution and not settings.get("transposed", False) and all(s == 1 for s in _listed(settings.get("stride", 1)))


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


def _judge_growth(story: Story, row: Row, fact: ModuleFact) -> Flag | None:
    rank = len(_listed(fact.settings["kernel_size"]))
    before, after = row.inputs[0].shape[-rank:], row.outputs[0].shape[-rank:]
    grown = [axis for axis in range(rank) if after[axis] > before[axis]]
    if not grown or _is_trimmed(story, row, rank, before):
        return None
    kernel, dilation = _listed(fact.settings["kernel_size"]), _listed(fact.settings.get("dilation", (1,) * rank))
    padding = fact.settings.get("padding", 0)
    same = tuple((dilation[axis] * (kernel[axis] - 1)) // 2 for axis in range(rank))
    written = str(same[0]) if len(set(same)) == 1 else str(same)
    sizes = f"{' × '.join(map(str, before))} became {' × '.join(map(str, after))}"
    shown = padding if isinstance(padding, str) else _shorten(_listed(padding))
    message = f"a stride-1 convolution grew the map: {sizes} (kernel {_shorten(kernel)}, padding {shown})"
    odd = all((dilation[axis] * (kernel[axis] - 1)) % 2 == 0 for axis in range(rank))
    fix = f"padding={written} keeps the size" if odd else "padding='same' keeps the size"
    return Flag("grown-map", "warning", row.index, row.path, message, fix)


def _shorten(values: tuple[Any, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else " × ".join(map(str, values))


_CARRIES_ON = 12  # operations that a map may pass before it is trimmed


def _is_trimmed(story: Story, row: Row, rank: int, before: tuple[int, ...]) -> bool:
    """Tell whether what follows brings the grown map back to at most its old size by cutting."""
    if row.call is None:
        return False
    measure: Callable[[tuple[int, ...]], bool] = lambda shape: all(  # noqa: E731  # named for the loop below
        new <= old for new, old in zip(shape[-rank:], before, strict=True)
    )
    edge = {row.call}
    for call in story.trace.calls[row.call + 1 :]:
        if len(edge) > _CARRIES_ON:
            return False
        sources = {link.call for link in call.input_links if link is not None}
        if not (sources & edge) or not call.outputs:
            continue
        if len(call.outputs[0].shape) >= rank and call.type_name in ("getitem", "narrow", "slice", "chomp", "pad"):
            if measure(call.outputs[0].shape):
                return True
        edge.add(call.index)
    return False


RULES: dict[str, Callable[[Story], Iterator[Flag]]] = {"grown-map": find_grown_maps}

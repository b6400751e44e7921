"""A story as a whole -> the lines around its table: totals, how it was traced, what was found, what failed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from modelsummary_ipy.display.outline import GroupNode, Outline, walk
from modelsummary_ipy.display.render.fit import find_fit, find_peak_place, find_step_failure, story_writer
from modelsummary_ipy.display.render.formatting import (
    brief,
    format_dim,
    format_params,
    format_percent,
    format_short,
    in_full,
    plain,
    plural,
)
from modelsummary_ipy.records.errors import MOST_IN_ROW, ForwardError, cut_text
from modelsummary_ipy.records.summary import Flag, Story
from modelsummary_ipy.records.view import View

_MOST_KINDS = 4
#: So many lines at most say what the model is given.
_MOST_GIVEN = 8


def find_title(story: Story) -> str:
    """``ResNet``; ``AutoencoderKL.encode`` where another method was called."""
    method = "" if story.trace.method in ("", "forward") else f".{plain(story.trace.method)}"
    return brief(story.trace.model_type) + method


def find_headline(story: Story) -> str:
    """The first line where a reader must know where the shapes come from; ``""`` for the fake engine."""
    reason = plain(story.trace.engine_reason)
    if story.trace.engine == "real":
        return f"ran for real: {reason}" if reason else "ran for real"
    if story.trace.engine == "static":
        return "nothing was run, so shapes are not known" + (f": {reason}" if reason else "")
    return ""


def find_failed(story: Story) -> str:
    """``the forward failed in up1 (cat) at unet.py:22``, or that it was interrupted; ``""`` if it came to its end."""
    failure = story.trace.failure
    if failure is None:
        return ""
    index = failed_row(story)
    where = ""
    if index is not None:
        row = story.rows[index]
        path, inner = brief(row.path) or "the model", cut_text(row.type_name, MOST_IN_ROW)
        where = f" in {path} ({plain(inner)})" if inner else f" in {path}"
    at = f" at {plain(failure.source.text)}" if failure.source else ""
    if failure.interrupted:
        call = f", call {failure.call + 1:,} of all" if failure.call is not None else ""
        return f"interrupted{where}{call}{',' if at else ''}{at}"
    return f"the forward failed{where}{at}"


class Given(NamedTuple):
    """One tensor of the model's input: its key, a name (or ``""``) and a size per dim, and its dtype."""

    label: str
    dims: tuple[tuple[str, str], ...]
    rest: str

    def __str__(self) -> str:
        """``ids [B=8, T=128] int64``."""
        size = ", ".join(f"{name}={size}" if name else size for name, size in self.dims)
        return " ".join(filter(None, (self.label, f"[{size}]", self.rest)))


def find_given(story: Story) -> tuple[list[Given], str]:
    """The model's input, leaf by leaf, and what stands for the rest where there are many: ``"… 3 more inputs"``."""
    given = []
    called = story.rows[0].inputs if story.rows else ()
    is_alike = [spec.shape for spec in called] == [fact.spec.shape for fact in story.trace.inputs]
    for index, fact in enumerate(story.trace.inputs):
        label = called[index].name if is_alike and fact.spec.name.startswith("[") else fact.spec.name
        dims = []
        for at, size in enumerate(fact.spec.shape):
            name = fact.dims[at] if at < len(fact.dims) else ""
            dims.append((plain(name), format_dim(size)))
        rest = plain(fact.spec.dtype) + (" (inferred)" if fact.given == "inferred" else "")
        given.append(Given(brief(label), tuple(dims), rest))
    if len(given) <= _MOST_GIVEN:
        return given, ""
    return given[: _MOST_GIVEN - 1], f"… {len(given) - _MOST_GIVEN + 1} more inputs"


def find_macs(story: Story, view: View) -> tuple[str, str]:
    """``("1.81 G", "MACs")``, ``"≥ 1.81 G"`` where operations are unknown; two ``""`` where none were counted."""
    total = story.total_mult_adds
    if total is None:
        return "", ""
    unsure = story.unknown_ops or any(cost.mult_adds is None for cost in story.costs.values())
    if unsure and not total:
        return view.work, "unknown"
    return f"{'≥ ' if unsure else ''}{format_short(view.count(total))}", view.work


def find_kinds(story: Story) -> tuple[tuple[str, int], ...]:
    """What does the MACs, by the type of the row; nothing where all but 0.5% are of one."""
    kinds, total = story.mult_adds_by_type, story.total_mult_adds or 0
    if len(kinds) < 2 or 1000 * max(kinds.values()) >= 995 * total:
        return ()
    found = [(brief(name), count) for name, count in list(kinds.items())[:_MOST_KINDS]]
    rest = total - sum(count for _, count in found)
    return (*found, ("everything else", rest)) if rest else tuple(found)


def write_kinds(story: Story, view: View) -> str:
    """``MACs: Linear 92.3%, matmul 7.7%``; ``""`` where there is one kind."""
    total = story.total_mult_adds or 0
    shares = ", ".join(f"{name} {format_percent(count, total)}" for name, count in find_kinds(story))
    return f"{view.work}: {shares}" if shares else ""


def find_params(story: Story) -> tuple[str, str]:
    """``("25,557,032", "parameters")``, with what trains where that is not all of them."""
    total, trains = story.total_params, story.trainable_params
    what = "parameter" if total == 1 else "parameters"
    if trains < total:
        what += f", {format_params(trains)} trainable" if trains else ", all frozen"
    return format_params(total), what


def find_memory(story: Story) -> str:
    """``62 MiB to run, 310 MiB to train``; ``""`` where memory was not estimated."""
    memory = story.memory
    if memory is None:
        return ""
    about = "about " if memory.approximate else ""
    write = story_writer(story)
    parts = []
    if memory.inference_bytes is not None:
        parts.append(f"{about}{write(memory.inference_bytes)} to run")
    if memory.training_bytes is not None:
        parts.append(f"{about}{write(memory.training_bytes)} to train ({plain(memory.optimizer)})")
    return "; ".join(filter(None, (", ".join(parts), find_fit(story))))


def total_in_full(story: Story, view: View, what: str) -> str:
    """All digits of a total (``"params"``, ``"memory"``, else MACs), ``""`` where its phrase has them."""
    numbers: tuple[tuple[int, str], ...]
    memory = story.memory
    if what == "params":
        text = " ".join(find_params(story))
        trains = story.trainable_params if "trainable" in text else 0
        numbers = ((story.total_params, "parameters"), (trains, "trainable"))
    elif what == "memory":
        run, train = (None, None) if memory is None else (memory.inference_bytes, memory.training_bytes)
        text, numbers = find_memory(story), ((run or 0, "bytes to run"), (train or 0, "bytes to train"))
    else:
        text, numbers = " ".join(find_macs(story, view)), ((view.count(story.total_mult_adds or 0), view.work),)
    return ", ".join(full for number, unit in numbers if number and (full := in_full(number, text, unit)))


def find_memory_parts(story: Story, view: View) -> list[tuple[str, str, str]]:
    """Where the memory goes, a line per kind: its name, how much, and all digits of that."""
    memory = story.memory
    if memory is None:
        return []
    # a step counts what is saved otherwise: the input as input, and what the loss saves, too
    kept = "kept for the backward pass" + (", input included, loss excluded" if story.training is not None else "")
    parts = [
        ("parameters", memory.param_bytes), ("buffers", memory.buffer_bytes), ("input", memory.input_bytes),
        (kept, memory.activation_bytes), ("gradients", memory.gradient_bytes),
        (f"optimizer state ({plain(memory.optimizer)})", memory.optimizer_bytes),
        ("peak of live tensors in the forward", memory.forward_peak_bytes),
    ]  # fmt: skip
    step, peak = story.training, "peak of a training step"
    is_traced = step is not None or memory.peak_bytes is not None
    if is_traced:
        parts.append((f"{peak}{find_peak_place(story)}", memory.peak_bytes))
    if step is not None and step.reserved_bytes is not None:
        parts.append(("reserved by CUDA's caching allocator, an estimate", step.reserved_bytes))
    write = story_writer(story)
    found = [
        (name, "unknown", "") if value is None else (name, text := write(value), in_full(value, text, "bytes"))
        for name, value in parts
        if value != 0
    ]
    how = f"--optimizer {memory.optimizer}" if view.from_magic else f"show(optimizer={memory.optimizer!r})"
    can_train = not is_traced and story.trace.engine == "fake" and story.trainable_params
    return [*found, (peak, f"not traced; {plain(how)} traces one", "")] if can_train else found


def find_totals(story: Story, view: View) -> tuple[str, ...]:
    """Parameters, MACs and memory, each as one phrase."""
    counts = (" ".join(pair).strip() for pair in (find_params(story), find_macs(story, view)))
    return tuple(filter(None, (*counts, find_memory(story))))


def count_flags(flags: Iterable[Flag]) -> str:
    """``1 error, 2 warnings``; ``""`` for none."""
    counts: dict[str, int] = {"error": 0, "warning": 0, "note": 0}
    for flag in flags:
        counts[flag.severity] += 1
    return ", ".join(plural(number, word) for word, number in counts.items() if number)


def gravest_severity(flags: Iterable[Flag]) -> str:
    """``"error"`` if there is one, else ``"warning"``, else ``"note"``; ``""`` without flags."""
    found = {flag.severity for flag in flags}
    return next((severity for severity in ("error", "warning", "note") if severity in found), "")


def find_sharding(story: Story, view: View) -> str:
    """Which numbers are global and which this rank's; ``""`` where no parameter is sharded."""
    parameters = [fact for fact in story.trace.params if fact.kind == "parameter"]
    ranks = max((fact.ranks for fact in story.trace.params), default=1)
    if ranks < 2:
        return ""
    local = sum(fact.num if fact.local_shape is None else math.prod(fact.local_shape) for fact in parameters)
    return (
        f"sharded over {ranks:,} ranks: parameters are counted globally, {local:,} of them are on this rank; "
        f"bytes and {view.work} are this rank's"
    )


def find_caveats(story: Story, view: View) -> tuple[str, ...]:
    """What the totals leave out and which sizes work."""
    lines = []
    if sharding := find_sharding(story, view):
        lines.append(sharding)
    if story.trace.starts_threads:
        lines.append("the forward starts threads: what these call is in no row and in no total")
    if story.unknown_ops:
        lines.append(f"not counted in {view.work}: " + ", ".join(plain(op) for op in story.unknown_ops))
    if any(("is_causal", True) in aten_op.arguments for call in story.trace.calls for aten_op in call.aten_ops):
        lines.append(f"{view.work} count attention under a causal mask in full")
    if failure := find_step_failure(story):
        lines.append(failure)
    elif story.training is not None and story.training.reason and story.trace.failure is None:
        lines.append(f"no training step: {plain(story.training.reason)}")
    if story.constraints:
        lines.append("works for " + "; ".join(plain(limit) for limit in _join_limits(story.constraints)))
    lines += [f"fails at {plain(sizes)}: {brief(reason)}" for sizes, reason in story.failed_at]
    return tuple(lines)


def _join_limits(constraints: Iterable[str]) -> list[str]:
    """Write a limit below and one above of the same dims as one: ``62 ≤ H ≤ 65``, ``32 ≤ H, W ≤ 64``."""
    found = list(constraints)
    limits = {text: match for text in found if (match := re.fullmatch(r"(.+) ([≤≥]) (\d+)", text))}
    for text, above in limits.items():
        below = next((t for t, m in limits.items() if (m[1], m[2]) == (above[1], "≥")), None)
        if above[2] == "≤" and below is not None:
            names = above[1].replace(" and ", ", ")
            found[found.index(text)] = f"{limits[below][3]} ≤ {names} ≤ {above[3]}"
            found.remove(below)
    return found


def write_num_ops(outline: Outline) -> str:
    """``6 operations not shown (--ops shows them)``."""
    how = "--ops shows" if outline.from_magic else "show(ops=True) shows"
    return f"{plural(outline.num_ops, 'operation')} not shown ({how} them)"


def find_footer(story: Story, outline: Outline) -> tuple[str, ...]:
    """The engine, what this view leaves out, and what of this package failed."""
    engine = {
        "fake": "traced with fake tensors: nothing was computed, nothing of the model was touched",
        "real": "traced by running it",
        "static": "read from the module tree",
    }[story.trace.engine]
    lines = [engine]
    if outline.num_ops:
        lines.append(write_num_ops(outline))
    if any(isinstance(step.node, GroupNode) and step.node.is_open for step in walk(outline)):
        lines.append("“each of”: the numbers of one of several blocks alike; the row above adds them up")
    if any(cost.mult_adds is None and story.rows[index].status == "ran" for index, cost in story.costs.items()):
        lines.append("“?”: not known")
    if outline.num_hidden:
        lines.append(f"{plural(outline.num_hidden, 'row')} of {outline.num_rows:,} not shown: to_frame() has them all")
    if story.stopped:
        lines.append(plain(story.stopped))
    return (*lines, *map(plain, story.internal_errors))


def failing_lines(story: Story, failure_text: str) -> tuple[str, ...]:
    """The lines at the row that failed: the explanation, or torch's own message where there is none."""
    failure = story.trace.failure
    if failure_text:
        return tuple(plain(line) for line in failure_text.splitlines())
    if failure is None:
        return ()
    where = f" at {plain(failure.source.text)}" if failure.source else ""
    lines = [f"{plain(failure.error_type)}{where}: {plain(failure.message)}"]
    if failure.source_text:
        lines.append(f"line    {plain(failure.source_text)}")
    return tuple(lines)


def find_why(failure: ForwardError | None) -> list[tuple[str, str]]:
    """What to know of a failure before its row is looked at: why, a fix that was tried, sizes that work."""
    if failure is None:
        return []
    told = (("reason", failure.reason), ("fix", failure.fix), ("sizes", " or ".join(failure.sizes[:4])))
    return [(term, "\n".join(map(plain, text.splitlines()))) for term, text in told if text]


def failed_row(story: Story) -> int | None:
    """Index of the innermost row that failed: where the failure is explained."""
    failure = story.trace.failure
    if failure is not None and failure.call is not None and failure.call in story.row_of_call:
        return story.row_of_call[failure.call]
    failed = [row.index for row in story.rows if row.status == "failed"]
    return failed[-1] if failed else None


def flag_lines(flag: Flag) -> tuple[str, str]:
    """``("warning grown-map: a stride-1 convolution grew …", "padding=1")``."""
    return f"{flag.severity} {plain(flag.rule)}: {plain(flag.message)}", plain(flag.fix)

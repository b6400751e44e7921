"""Story -> DataFrame, dict, JSON and CSV: raw numbers, nothing folded, nothing left out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from modelsummary_ipy.display.render.labels import find_peak
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.summary import Cost, Row, Story
from modelsummary_ipy.records.trace import Formula, TensorSpec, zip_leaves

if TYPE_CHECKING:
    import pandas as pd

Sizes = list[int] | list[list[int]] | None


def seed_frame(story: Story) -> pd.DataFrame:
    """The table of the tool this one descends from.

    Returns:
        One line per call of a leaf module, in execution order: ``Name``, ``Type``, ``InSz`` and ``OutSz`` (a list of
        ints for one tensor, a list of such lists for several, ``None`` where nothing is known), ``Params`` (int64).
    """
    import pandas as pd

    rows = [story.rows[index] for index in find_leaf_rows(story)]
    return pd.DataFrame(
        {
            "Name": pd.Series([row.path for row in rows], dtype=object),
            "Type": pd.Series([row.type_name for row in rows], dtype=object),
            "InSz": pd.Series([_seed_sizes(row.inputs) for row in rows], dtype=object),
            "OutSz": pd.Series([_seed_sizes(row.outputs) for row in rows], dtype=object),
            "Params": pd.Series([row.num_params for row in rows], dtype="int64"),
        }
    )


def find_leaf_rows(story: Story) -> list[int]:
    """Rows of modules in which no other module was called.

    A module that was called and whose submodules were not (``MultiheadAttention`` reads the weights of its
    ``out_proj`` itself) is a leaf, and they are not; of modules that were never called, those without submodules are.
    """
    rows = story.rows
    busy: set[int] = set()
    has_modules: set[int] = set()
    for row in reversed(rows):
        if row.kind == "module" and row.parent is not None:
            has_modules.add(row.parent)
            if row.status in ("ran", "failed") or row.index in busy:
                busy.add(row.parent)
    leaves: list[int] = []
    inside_leaf: set[int] = set()
    for row in rows:
        if row.kind != "module":
            continue
        if row.parent in inside_leaf:
            inside_leaf.add(row.index)
            continue
        ran = row.status in ("ran", "failed")
        if row.absence != "elsewhere" and row.index not in (busy if ran else has_modules):
            leaves.append(row.index)
            inside_leaf.add(row.index)
    return leaves


def _seed_sizes(leaves: tuple[TensorSpec, ...]) -> Sizes:
    if len(leaves) == 1:
        return list(leaves[0].shape)
    return [list(leaf.shape) for leaf in leaves] or None


def to_frame(story: Story) -> pd.DataFrame:
    """Every row and every column, as raw numbers.

    Returns:
        Columns ``index, path, type, kind, depth, call_index, inputs, outputs`` (tuples of ``TensorSpec``),
        ``input_size, output_size`` (a tuple for one tensor, a tuple of tuples for several, ``None`` for none),
        ``input_dtype, output_dtype`` (likewise), ``own_params, num_params, trainable_params`` (int64),
        ``mult_adds, own_mult_adds, backward_mult_adds, activation_bytes, peak_bytes`` (``Int64``, missing where
        unknown), ``input_formula, output_formula, status, absence, source, flags`` (a tuple of ``"warning
        grown-map"``), ``extra_repr``, ``reads`` (the rows that made its input tensors, innermost ones; -1 for the
        model's own input).
    """
    import pandas as pd

    records = _list_records(story)
    return pd.DataFrame(
        {name: pd.Series([record[name] for record in records], dtype=_DTYPES.get(name, "object")) for name in _NAMES}
    )


_NAMES = (
    "index", "path", "type", "kind", "depth", "call_index", "inputs", "outputs", "input_size", "output_size",
    "input_dtype", "output_dtype", "own_params", "num_params", "trainable_params",
    "mult_adds", "own_mult_adds", "backward_mult_adds", "activation_bytes", "peak_bytes",
    "input_formula", "output_formula", "status", "absence", "source", "flags", "extra_repr", "reads",
)  # fmt: skip
#: What is no object; an ``Int64`` may be missing.
_DTYPES = {
    **dict.fromkeys(("index", "depth", "call_index", "own_params", "num_params", "trainable_params"), "int64"),
    **dict.fromkeys(("mult_adds", "own_mult_adds", "backward_mult_adds", "activation_bytes", "peak_bytes"), "Int64"),
}


def _list_records(story: Story) -> list[dict[str, Any]]:
    """Every row by the names of its columns."""
    flags: list[tuple[str, ...]] = [()] * len(story.rows)
    for flag in story.flags:
        flags[flag.row] = (*flags[flag.row], f"{flag.severity} {flag.rule}")
    return [
        {
            **_facts(story, row),
            "inputs": row.inputs,
            "outputs": row.outputs,
            "input_size": _one_or_all(tuple(leaf.shape for leaf in row.inputs)),
            "output_size": _one_or_all(tuple(leaf.shape for leaf in row.outputs)),
            "input_dtype": _one_or_all(tuple(leaf.dtype for leaf in row.inputs)),
            "output_dtype": _one_or_all(tuple(leaf.dtype for leaf in row.outputs)),
            "input_formula": _one_or_all(story.input_formulas.get(row.index, ())),
            "output_formula": _one_or_all(story.formulas.get(row.index, ())),
            "flags": flags[row.index],
        }
        for row in story.rows
    ]


def _facts(story: Story, row: Row) -> dict[str, Any]:
    """What is known of a row besides its tensors."""
    cost = story.costs.get(row.index, Cost())
    return {
        "index": row.index, "path": row.path, "type": row.type_name, "kind": row.kind, "depth": row.depth,
        "call_index": row.call_index, "status": row.status, "absence": row.absence, "source": row.source,
        "own_params": row.own_params, "num_params": row.num_params, "trainable_params": row.trainable_params,
        "mult_adds": cost.mult_adds, "own_mult_adds": cost.own_mult_adds,
        "backward_mult_adds": story.backward.get(row.index), "activation_bytes": cost.activation_bytes,
        "peak_bytes": find_peak(story, [row.index]), "extra_repr": row.extra_repr, "reads": _reads(story, row),
    }  # fmt: skip


def _reads(story: Story, row: Row) -> tuple[int, ...]:
    """The rows that made what a row reads, each once; -1 for the model's own input, nothing for a constant."""
    links = story.trace.calls[row.call].input_links if row.call is not None else ()
    rows = (-1 if link.call < 0 else story.row_of_call[link.call] for link in links if link is not None)
    return tuple(dict.fromkeys(rows))


def _one_or_all(values: tuple[Any, ...]) -> Any:
    if not values:
        return None
    return values[0] if len(values) == 1 else values


def to_dict(story: Story, error: ForwardError | None = None) -> dict[str, Any]:
    """Everything in a summary, as JSON types: dicts, lists, strings, numbers and ``None``."""
    trace, memory = story.trace, story.memory
    failure = trace.failure
    return {
        "model": trace.model_type,
        "method": trace.method,
        "engine": trace.engine,
        "engine_reason": trace.engine_reason,
        "inputs": [{**_leaf(fact.spec, None), "dims": list(fact.dims), "given": fact.given} for fact in trace.inputs],
        "total_params": story.total_params,
        "trainable_params": story.trainable_params,
        "total_mult_adds": story.total_mult_adds,
        "unknown_ops": list(story.unknown_ops),
        "stopped": story.stopped,
        "internal_errors": list(story.internal_errors),
        "memory": None if memory is None else _memory(story),
        "cache": None if story.cache is None else {
            "parameter": story.cache.parameter, "bytes": story.cache.nbytes, "formula": story.cache.formula or None,
        },
        "context": None if story.context is None else story.context._asdict(),
        "constraints": list(story.constraints),
        "failed_at": [{"sizes": sizes, "reason": reason} for sizes, reason in story.failed_at],
        "flags": [_plain(asdict(flag)) for flag in story.flags],
        "failure": None if failure is None else {
            "row": None if failure.call is None else story.row_of_call.get(failure.call),
            "error_type": failure.error_type, "message": failure.message,
            "source": failure.source.text if failure.source else None,
            "source_text": failure.source_text,
            **({} if error is None else _explained(error)),
        },
        "rows": [_row(story, row) for row in story.rows],
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Tuples as lists, in what they are in too."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _explained(error: ForwardError) -> dict[str, Any]:
    fixes = [
        {"text": fix.text, "patch": fix.patch, "outputs": [_leaf(spec, None) for spec in fix.outputs],
         "changes_input": fix.changes_input}
        for fix in error.fixes
    ]  # fmt: skip
    return {
        "code": error.code, "numbers": _plain(error.numbers), "reason": error.reason, "fix": error.fix, "fixes": fixes,
        "sizes": list(error.sizes),
    }  # fmt: skip


def _memory(story: Story) -> dict[str, Any]:
    memory = story.memory
    assert memory is not None
    names: tuple[str, ...] = (
        "param_bytes", "buffer_bytes", "input_bytes", "activation_bytes", "gradient_bytes", "optimizer_bytes",
        "forward_peak_bytes", "optimizer", "approximate", "inference_bytes", "training_bytes",
    )  # fmt: skip
    if memory.budget_bytes is not None:
        names += ("budget_bytes", "batch", "fits_inference", "fits_training", "most_for_inference", "most_for_training")
    return {name: getattr(memory, name) for name in names}


def _row(story: Story, row: Row) -> dict[str, Any]:
    outputs = _leaves(row.outputs, story.formulas.get(row.index, ()))
    return {
        **_plain(_facts(story, row)),
        "parent": row.parent,
        "inputs": _leaves(row.inputs, story.input_formulas.get(row.index, ())),
        "outputs": [
            {**leaf, "origins": list(origins)} for leaf, origins in zip(outputs, _origins(story, row), strict=True)
        ],
    }


def _origins(story: Story, row: Row) -> Sequence[Sequence[str | None]]:
    known = story.origins.get(row.index, ())
    return known if len(known) == len(row.outputs) else [(None,) * len(spec.shape) for spec in row.outputs]


def _leaves(specs: tuple[TensorSpec, ...], formulas: tuple[Formula | None, ...]) -> list[dict[str, Any]]:
    return [_leaf(*leaf) for leaf in zip_leaves(specs, formulas)]


def _leaf(spec: TensorSpec, formula: Formula | None) -> dict[str, Any]:
    return {
        "name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype, "device": spec.device,
        "formula": None if formula is None else list(formula),
    }  # fmt: skip


def render_json(story: Story, error: ForwardError | None = None) -> str:
    """``to_dict`` as JSON; any name survives, lone surrogates too, for all but ASCII is written as escapes."""
    return json.dumps(to_dict(story, error), indent=1) + "\n"


def render_csv(story: Story) -> str:
    """Every row as CSV, sizes as people write them; nothing in a cell can start a spreadsheet formula."""
    text = io.StringIO()
    writer = csv.writer(text)  # ends lines with \r\n: with \n alone it leaves a \r inside a cell unquoted
    names = [name for name in _NAMES if name not in ("inputs", "outputs")]
    writer.writerow(names)
    for record in _list_records(story):
        writer.writerow([_cell(record[name]) for name in names])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, tuple):
        value = "; ".join(value) if all(isinstance(item, str) for item in value) else str(_plain(value))
    value = str(value).encode("utf-8", "backslashreplace").decode()
    return "'" + value if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value

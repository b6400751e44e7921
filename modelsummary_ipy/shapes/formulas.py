"""Every size as a formula of the input's: traces at other sizes, and the expressions that predict them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

from modelsummary_ipy.axes.expr import Expr
from modelsummary_ipy.axes.traced_op import Demand
from modelsummary_ipy.isolation.global_state import collector_paused
from modelsummary_ipy.records.summary import Row
from modelsummary_ipy.records.trace import Formula, Trace
from modelsummary_ipy.shapes.batch_trace import BatchFacts
from modelsummary_ipy.shapes.dim_names import InputNames
from modelsummary_ipy.shapes.expr_text import write
from modelsummary_ipy.shapes.formula_search import FormulaSearch
from modelsummary_ipy.shapes.sample_sizes import SampleSizes
from modelsummary_ipy.shapes.walked_formulas import Leaves, WalkedFormulas
from modelsummary_ipy.tracing.retracer import Retracer

FormulaTable = Mapping[int, tuple[Formula | None, ...]]


@dataclass(frozen=True)
class Formulas:
    """Every size as a formula.

    Attributes:
        names: Of the model's input's dims.
        outputs: Per row, per output leaf, a formula or ``None``.
        inputs: The same for input leaves.
        samples: Which sizes were traced, and what is known of the dims.
        retracer: Traces the model again.
        contradicted: What an entry, the table's or a user's, says otherwise than torch.
        walked: The formulas as expressions; ``None`` where there are none.
        demands: What operations demand of sizes; ``None`` where some operations are not in the table of axes.
    """

    names: InputNames
    outputs: FormulaTable = field(default_factory=dict)
    inputs: FormulaTable = field(default_factory=dict)
    samples: SampleSizes | None = None
    retracer: Retracer | None = None
    demands: tuple[Demand, ...] | None = None
    contradicted: tuple[str, ...] = ()
    walked: WalkedFormulas | None = None


def find_formulas(batch: BatchFacts, trace: Trace, rows: tuple[Row, ...]) -> Formulas:
    """Find a formula for every leaf of every row.

    Args:
        batch: What ``find_batch`` found.

    Returns:
        Formulas that predict every trace made, the last of them at sizes that no integer was guessed by, if one was.
    """
    names, retracer = batch.names, batch.retracer
    if retracer is None:
        return Formulas(names)
    retracer = retracer.recording()
    base = {name: size for name, size in batch.base.items() if any(name in dims for dims in names.dims)}
    search = FormulaSearch(names, trace, retracer, base)
    with collector_paused():
        walked = search.run(works_at_one_more=bool(batch.batch))
    if walked is None:
        return Formulas(names, samples=None if search.is_cut_short else search.samples, retracer=retracer)
    write_size = cache(partial(write, order=list(base)))  # each expression once
    outputs, taken = (_write_table(table, write_size) for table in (walked.outputs, walked.inputs))
    calls = [(row.index, row.call) for row in rows if row.call is not None]
    return Formulas(
        names,
        {row: outputs[call] for row, call in calls},
        {row: taken[call] for row, call in calls},
        search.samples,
        retracer,
        walked.demands if walked.is_whole else None,
        walked.contradicted,
        walked,
    )


def _write_table(table: list[Leaves], write_size: Callable[[Expr], str]) -> list[tuple[Formula | None, ...]]:
    return [tuple(None if dims is None else tuple(map(write_size, dims)) for dims in leaves) for leaves in table]

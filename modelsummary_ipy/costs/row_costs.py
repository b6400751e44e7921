"""What every row costs: the multiply-adds of its aten operations and the bytes that autograd saves in it."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.costs.mac_formulas import count_aten_op
from modelsummary_ipy.costs.workspaces import count_lstm_workspace
from modelsummary_ipy.records.summary import Cost, Row, add_known
from modelsummary_ipy.records.trace import Call, TensorSpec, Trace
from modelsummary_ipy.records.training import Training

#: Operations that keep for backward what only the real backend knows the size of.
_INEXACT = ("aten.mkldnn_rnn_layer.", "aten._cudnn_rnn.", "aten.miopen_rnn.", "aten._embedding_bag")
#: Functions on packed sequences, which fakes run in another way than torch does.
_PACKED = frozenset({"_pack_padded_sequence", "_pad_packed_sequence"})
_ONEDNN_RNN = "aten.mkldnn_rnn_layer."


def count_costs(trace: Trace, rows: Sequence[Row]) -> tuple[dict[int, Cost], tuple[str, ...]]:
    """Count what every row costs, by itself and with all in it.

    A storage that autograd saves in several calls counts in the first of them alone, so what rows save by themselves
    adds up to the whole. What did not run costs nothing; what failed, and what the failure kept from running, has
    unknown costs, and so has every row above it.

    Args:
        rows: Its rows, parents before children.

    Returns:
        A ``Cost`` by row index (none for a static trace), and the operations whose multiply-adds are unknown, as
        ``register_mult_adds`` takes them: ``"mylib::fused_mlp"``.
    """
    if trace.engine == "static":
        return {}, ()
    unknown: dict[str, None] = {}
    saved = _share_saved(trace)
    own: list[Cost] = []
    for row in rows:
        if row.call is None:
            own.append(Cost(None, None) if row.status == "unreached" else Cost(0, 0, 0, 0))
            continue
        call = trace.calls[row.call]
        macs = _count_call(call, unknown)
        nbytes = saved[call.index] + _estimate_workspaces(call) if saved is not None else None
        failed = call.status == "failed"
        own.append(Cost(None, None if failed else macs, None, None if failed else nbytes, _is_approximate(trace, call)))
    return _add_up(rows, own), tuple(unknown)


def count_backward(training: Training, rows: Sequence[Row]) -> dict[int, int | None]:
    """Count the multiply-adds of the backward by row index, those of all in a row included; ``None`` is unknown.

    What a checkpoint runs again counts; the loss is in no row. There is nothing by row without a step, nor where torch
    does not tell which node runs.
    """
    ops = training.backward_ops
    if training.reason or (ops and all(op.row is None for op in ops)):
        return {}
    counts: list[int | None] = [0] * len(rows)
    for row, op, _ in ops:
        if row is not None:
            counts[row] = add_known(counts[row], count_aten_op(op))
    for each in reversed(rows):
        if each.parent is not None:
            counts[each.parent] = add_known(counts[each.parent], counts[each.index])
    return dict(enumerate(counts))


def list_operations(trace: Trace, rows: Sequence[Row]) -> dict[int, list[tuple[str, int | None]]]:
    """List, by row index, the operations that ran in a row itself and multiply and add, with how often they do.

    Equal operations of one row are one entry; ``None`` means unknown.
    """
    found: dict[int, list[tuple[str, int | None]]] = {}
    for row in rows:
        if row.call is None or not trace.calls[row.call].aten_ops:
            continue
        counts: dict[str, int | None] = {}
        for aten_op in trace.calls[row.call].aten_ops:
            name, count = aten_op.op.partition(".")[2].partition(".")[0], count_aten_op(aten_op)
            counts[name] = add_known(counts.get(name, 0), count)
        found[row.index] = [(name, count) for name, count in counts.items() if count != 0]
    return {index: pairs for index, pairs in found.items() if pairs}


def _count_call(call: Call, unknown: dict[str, None]) -> int | None:
    counts = [count_aten_op(aten_op) for aten_op in call.aten_ops]
    for aten_op, count in zip(call.aten_ops, counts, strict=True):
        if count is None:
            unknown[_name_unknown(aten_op.op)] = None
    return add_known(*counts)


def _name_unknown(op: str) -> str:
    """Write ``"aten._fft_r2c.default"`` as ``"aten::_fft_r2c"``."""
    name, _, layout = op.partition(" ")
    space, _, rest = name.partition(".")
    written = f"{space}::{rest.partition('.')[0]}" if rest else space
    return f"{written} {layout}" if layout else written


def _share_saved(trace: Trace) -> list[int] | None:
    """Give every saved storage to the first call that saved it; a call with calls in it comes after these."""
    if not trace.knows_saved:
        return None
    parents = {call.parent for call in trace.calls}
    shares = [0] * len(trace.calls)
    seen: set[int] = set()
    for has_children in (False, True):
        for call in trace.calls:
            if (call.index in parents) is has_children:
                for number, nbytes in call.saved:
                    if number not in seen:
                        seen.add(number)
                        shares[call.index] += nbytes
    return shares


def _estimate_workspaces(call: Call) -> int:
    """Estimate what oneDNN keeps of LSTM layers for backward, three times what autograd saves of them."""
    total = 0
    for aten_op in call.aten_ops:
        if aten_op.op.startswith(_ONEDNN_RNN) and call.grad and aten_op.inputs[0] is not None:
            steps, batch, features = aten_op.inputs[0]
            itemsize = TensorSpec("", (), aten_op.dtype, "").nbytes
            total += count_lstm_workspace(steps, batch, features, aten_op.outputs[0][-1], itemsize)
    return total


def _is_approximate(trace: Trace, call: Call) -> bool:
    """Return whether a real run may save other bytes: by its backend, autocast's cache, packing or TorchScript."""
    if call.autocast is not None or any(aten_op.op.startswith(_INEXACT) for aten_op in call.aten_ops):
        return True
    if call.type_name in _PACKED or any(spec.name.endswith("batch_sizes") for spec in call.inputs):
        return trace.engine == "fake"
    return call.module is not None and trace.modules[call.module].type_module.startswith("torch.jit")


def _add_up(rows: Sequence[Row], own: Sequence[Cost]) -> dict[int, Cost]:
    """Add to every row what its children cost; one unknown makes the sum unknown."""
    macs = [cost.own_mult_adds for cost in own]
    saved = [cost.own_activation_bytes for cost in own]
    about = [cost.approximate for cost in own]
    for row in reversed(rows):
        if row.parent is not None:
            macs[row.parent] = add_known(macs[row.parent], macs[row.index])
            saved[row.parent] = add_known(saved[row.parent], saved[row.index])
            about[row.parent] = about[row.parent] or about[row.index]
    return {
        row.index: Cost(
            macs[row.index], cost.own_mult_adds, saved[row.index], cost.own_activation_bytes, about[row.index]
        )
        for row, cost in zip(rows, own, strict=True)
    }


def sum_saved(trace: Trace) -> int | None:
    """Sum the bytes of all storages that autograd saved, each once, and workspaces; ``None`` if not measured."""
    if not trace.knows_saved or trace.failure is not None:
        return None
    storages = {number: nbytes for call in trace.calls for number, nbytes in call.saved}
    return sum(storages.values()) + sum(map(_estimate_workspaces, trace.calls))

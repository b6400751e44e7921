"""Attention and recurrent layers: what torch runs as one operation."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.axes.registry import Axes, Op, entry
from modelsummary_ipy.axes.table.elementwise import broadcast


@entry("scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math")
def attention(op: Op) -> Sequence[Axes]:
    """``(…, T, d)`` queries and ``(…, S, d)`` keys and values give ``(…, T, d_v)``; a mask lies on ``(…, T, S)``."""
    query, key, value = op.axes("query"), op.axes("key"), op.axes("value")
    op.equal(query[-1], key[-1])
    op.equal(key[-2], value[-2])
    heads = -3 if op.plain("enable_gqa", False) else -2  # of grouped queries keys have fewer heads
    lead = [*broadcast(op, [axes[:heads] for axes in (query, key, value)]), *query[heads:-2]]
    is_empty = op.name.endswith("attention") and 0 in map(op.known, [*key, *value])
    if is_empty or op.name.endswith("for_cpu"):  # these make what has the query's shape
        lead = list(query[:-2])
    scores = [*lead, query[-2], key[-2]]
    if op.has("attn_mask"):
        scores = broadcast(op, [scores, op.axes("attn_mask")])
    op.across(query[-1], scores[-1])
    if op.name.endswith("flash_attention_for_cpu"):
        op.equal(query[-1], value[-1])
        return [[*lead, query[-2], query[-1]], [*lead, query[-2]]]  # the second: logarithms of the sums
    if op.name.endswith("math"):
        rows = scores[-2]  # of one query the mask may make several
        return [[*lead, rows, value[-1]], [*broadcast(op, [query[:-2], key[:-2]]), rows, key[-2]]]
    return [[*lead, query[-2], value[-1]]]


@entry("mkldnn_rnn_layer")
def lstm_layer(op: Op) -> Sequence[Axes]:
    """One direction of one layer of an LSTM; its first output is ``(T, B, hidden)``."""
    data = op.axes("input")
    op.at_least(data[0], 1)
    op.across(data[0])
    states = op.axes("hx_"), op.axes("cx_")
    for state in states:
        op.equal(state[-2], data[1])
        op.across(state[-1])
    return [[*data[:2], op.plain("hidden_size")], *states, op.made(3)]


@entry("_thnn_fused_lstm_cell")
def lstm_cell(op: Op) -> Sequence[Axes]:
    """A fused cell gives its state and, for the backward, its gates."""
    state = op.axes("cx")
    gates = [*state[:-1], state[-1] * 4]
    for name in ("input_gates", "hidden_gates", "input_bias", "hidden_bias"):
        if op.has(name):
            op.equal_all(op.axes(name), gates[-len(op.axes(name)) :])
    return [state, state, op.axes("input_gates")]

"""The rule that finds tensors handed to a layer in the place of one another."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.call_arguments import Size, argument
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.activations import PASSING, find_maker
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.swapped_names import find_swapped_names
from modelsummary_ipy.diagnosis.torch_names import ATTENTIONS, RECURRENTS, SOFTMAXES, TRANSPOSES, is_weighted
from modelsummary_ipy.model.torch_layers import classes_of, names_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call

_SEQUENCE_LAYERS = RECURRENTS | ATTENTIONS | classes_of("transformer layer", "transformer", "recurrent cell")
#: Where an LSTM returns its cell state, and its state.
_STATES = {"LSTM": (2, 1), "LSTMCell": (1, 0)}
_PASSING = names_of("dropout", "identity", "layer norm") | {"getitem", "transpose"}
_POSITIONS = re.compile(r"[HWDLT]′*(·[HWDLT]′*)*")


def find_swapped_roles(evidence: Evidence) -> Iterator[Flag]:
    """Find a layer of sequences that takes features for steps, and an LSTM's states in each other's place.

    Finds ``nn.GRU(50, 16)`` on the ``(B, 32, 50)`` of a convolution, whose 32 are features; ``(c, h)`` for ``(h,
    c)``; the last step of both directions, of which the backward one has read nothing but that, and of a padded batch;
    ``h_n[0]`` of three layers, ``h_n[-1]`` of two directions, ``c_n`` for ``h_n``, weights of an attention for its
    output; two names in the other order than where they are read. Leaves alone variates of the input as tokens, and
    positions merged with features (``C·H`` of a feature map read by columns).
    """
    yield from find_swapped_names(evidence)
    inside: set[int] = set()
    for call in evidence.calls:
        if call.type_name == "getitem":
            yield from _check_last_step(evidence, call)
        elif call.type_name in RECURRENTS:
            yield from _check_state(evidence, call)
            yield from _check_cell(evidence, call)
        elif call.type_name == "MultiheadAttention":
            yield from _check_weights(evidence, call)
            yield from _check_values(evidence, call)
        elif call.type_name == "topk" and argument(call, "largest", "3", default=True) is True and call.input_links:
            maker = evidence.flow.producer(call.input_links[0])
            if maker is not None and maker.type_name in ("cdist", "pairwise_distance"):
                shape = call.inputs[0].shape
                message = f"topk of the distances {write_size(shape)} takes the largest: what lies farthest away"
                yield evidence.flag("swapped-roles", "warning", call, message, "topk(k, largest=False)", "farthest",
                    shape=shape,
                )  # fmt: skip
        elif call.type_name in ("matmul", "bmm") and len(call.input_links) == 2:
            yield from _check_product(evidence, call)
        if call.parent in inside:
            inside.add(call.index)
        elif call.kind == "module" and call.type_name in _SEQUENCE_LAYERS and call.input_links:
            inside.add(call.index)
            yield from _check_dims(evidence, call)
            if call.type_name in _STATES and _is_swapped(evidence, call):
                message = f"h0 {write_size(call.inputs[1].shape)} is the cell state c of an LSTM, and c0 its state h"
                yield evidence.flag("swapped-roles", "warning", call, message, "(h, c), in this order", "states",
                    shape=call.inputs[1].shape,
                )  # fmt: skip


def _check_dims(evidence: Evidence, call: Call) -> Iterator[Flag]:
    origins = evidence.origins_of(call.input_links[0])
    if len(origins) != 3 or None in origins:
        return
    steps = 1 if evidence.flow.setting(call, "batch_first") or origins[0] == "B" else 0
    rows, columns = str(origins[steps]), str(origins[2])
    if rows.startswith("the features of ") and "·" not in rows and _POSITIONS.fullmatch(columns):
        shape = call.inputs[0].shape
        message = f"{call.type_name} on {write_size(shape)} takes {rows} for steps, and the positions {columns} for "
        message += "features"
        yield evidence.flag("swapped-roles", "warning", call, message, "transpose(1, 2) before it", "dims", shape=shape)


def _check_last_step(evidence: Evidence, call: Call) -> Iterator[Flag]:
    """One end of both directions, at which one of them has read a single step; the last of a padded batch: padding."""
    link = call.input_links[0] if call.input_links else None
    maker = evidence.flow.producer(link)
    if maker is not None and maker.type_name == "index_select":  # puts a padded batch back into its order
        maker = evidence.flow.producer(maker.input_links[0])
    if maker is None or link is None or link.leaf != 0:
        return
    index = argument(call, "1", "index")
    index = index if isinstance(index, tuple) else (index,)
    place = 1 if evidence.flow.setting(maker, "batch_first") else 0
    is_end = index[place : place + 1] in ((-1,), (0,)) and index[:place] == (slice(None),) * place
    if not is_end or any(part not in (slice(None), Ellipsis) for part in index[place + 1 :]):
        return
    shape = call.inputs[0].shape
    message = f"the {'first' if index[place] == 0 else 'last'} step of {write_size(shape)}: "
    if maker.type_name in RECURRENTS and evidence.flow.setting(maker, "bidirectional"):
        message += f"there the {'forward' if index[place] == 0 else 'backward'} direction has read 1 step"
        fix = "torch.cat([h_n[-2], h_n[-1]], -1) has read all in both directions"
        yield evidence.flag("swapped-roles", "warning", call, message, fix, "last", shape=shape)
    elif maker.type_name == "_pad_packed_sequence" and index[place] == -1:
        message += "of every sequence but the longest that is padding, all 0"
        fix = "h_n[-1], or out[torch.arange(len(out)), lengths - 1]"
        yield evidence.flag("swapped-roles", "warning", call, message, fix, "padding", shape=shape)


def _check_state(evidence: Evidence, call: Call) -> Iterator[Flag]:
    """The last states of a recurrent layer of which only those of a lower layer, or of one direction, are read."""
    num_layers = evidence.flow.setting(call, "num_layers")
    ways = 2 if evidence.flow.setting(call, "bidirectional") else 1
    leaf = next((at for at in range(1, len(call.outputs)) if len(call.outputs[at].shape) == 3), None)
    if leaf is None or not isinstance(num_layers, int) or call.outputs[leaf].shape[0] != num_layers * ways > 1:
        return
    readers = evidence.flow.readers(call, leaf)
    given = [argument(reader, "1", "index") for reader in readers]
    firsts = [index[0] if isinstance(index, tuple) and index else index for index in given]
    numbers = [index for index in firsts if isinstance(index, int) and not isinstance(index, bool)]
    places = {index % (num_layers * ways) for index in numbers}
    if not readers or len(numbers) != len(firsts) or any(reader.type_name != "getitem" for reader in readers):
        return
    shape = call.outputs[leaf].shape
    if max(places) < (num_layers - 1) * ways:
        message = f"of the states {write_size(shape)} only those of layer {max(places) // ways + 1} are read, of "
        message += f"{num_layers} layers"
        fix = "h_n[-1] is the state of the last layer"
    elif ways == 2 and len(places) == 1 and not evidence.flow.readers(call):
        message = f"of the states {write_size(shape)} only one is read: that of one direction of 2"
        fix = "torch.cat([h_n[-2], h_n[-1]], -1), and a layer of twice the width behind it"
    else:
        return
    yield evidence.flag("swapped-roles", "warning", readers[0], message, fix, "state", shape=shape)


def _check_cell(evidence: Evidence, call: Call) -> Iterator[Flag]:
    """The cell state of an LSTM where its state was meant: neither that nor an output is read."""
    reads = [evidence.flow.readers(call, leaf) for leaf in range(len(call.outputs))]
    if call.type_name == "LSTM" and len(reads) == 3 and reads[2] and not reads[0] and not reads[1]:
        shape = call.outputs[2].shape
        message = f"of what the LSTM returns only its cell state c_n {write_size(shape)} is read, not h_n"
        fix = "output, (h_n, c_n) = …: h_n is the first of the two"
        yield evidence.flag("swapped-roles", "warning", reads[2][0], message, fix, "cell", shape=shape)


def _check_weights(evidence: Evidence, call: Call) -> Iterator[Flag]:
    """The weights of an attention where its output was meant: layers read them, and nothing reads the output."""
    if len(call.output_links) != 2 or None in call.output_links:
        return
    output, weights = ([reader for reader, _ in evidence.flow.reads.get(link, ()) if reader.parent != call.index]
        for link in call.output_links if link is not None)  # fmt: skip
    later = [step for reader in weights for step in (reader, *evidence.flow.after(reader, 40))]
    if not output and call.output_links[0] not in evidence.calls[0].output_links and any(map(is_weighted, later)):
        shape = call.outputs[1].shape
        message = f"layers read the weights {write_size(shape)} of the attention, and nothing reads its output"
        fix = "output, weights = attention(…): the output is the first of the two"
        yield evidence.flag("swapped-roles", "warning", call, message, fix, "weights", shape=shape)


def _check_values(evidence: Evidence, call: Call) -> Iterator[Flag]:
    """Values of another input than the keys, which are of that of the queries; a sum with the keys, not the queries."""
    if len(call.input_links) < 3:
        return
    query, key, value = call.input_links[:3]
    asks, keys, values = (evidence.flow.sources(link) for link in (query, key, value))
    shape = call.inputs[0].shape
    if asks == keys and values and not keys & values:
        yield _write_values(evidence, call, call.inputs[1].shape, "values")
    read = {query, key, value} - {None}
    asker = evidence.flow.producer(query)
    if asker is not None and key in asker.input_links and asker.type_name in _PASSING:
        return  # x + attention(norm(x), x, x)
    for step in evidence.calls[call.index + 1 : call.index + 60]:
        links = set(step.input_links)
        if (
            step.type_name.startswith("add")
            and query not in links
            and key == value
            and {key} & links
            and len(read) == 2
        ):
            maker = evidence.flow.producer(next((link for link in step.input_links if link != key), None))
            while maker is not None and maker.type_name in _PASSING and maker.input_links:
                maker = evidence.flow.producer(maker.input_links[0])
            if maker is call or (maker is not None and maker.parent == call.index):
                message = f"what the queries {write_size(shape)} asked is added to the keys: queries and keys are "
                message += "swapped"
                yield evidence.flag("swapped-roles", "warning", call, message, "attention(x, memory, memory)", "added",
                    shape=shape,
                )  # fmt: skip
                return


def _write_values(evidence: Evidence, call: Call, shape: Size, others: str) -> Flag:
    message = f"the {'keys' if others == 'values' else 'values'} {write_size(shape)} come from the input that the "
    message += f"queries come from, the {others} from another: each weight goes to a step that it was not made for"
    return evidence.flag("swapped-roles", "warning", call, message, "keys and values of the same tensor", "values",
        shape=shape,
    )  # fmt: skip


def _check_product(evidence: Evidence, call: Call) -> Iterator[Flag]:
    """``softmax(q @ k.T) @ q``: what is summed is what asked, and not what was asked."""
    weights, value = call.input_links
    maker = find_maker(evidence, weights, names_of("dropout"))
    if maker is None or maker.type_name not in SOFTMAXES:
        return
    scores = find_maker(evidence, maker.input_links[0], PASSING | {"div", "mul", "masked_fill"})
    if scores is None or scores.type_name not in ("matmul", "bmm") or len(scores.input_links) != 2:
        return
    query, turned = scores.input_links
    asks, keys, values = (evidence.flow.sources(link) for link in (query, turned, value))
    if asks and asks == values and keys and not keys & values:
        yield _write_values(evidence, call, call.inputs[1].shape, "keys")
        return
    key = evidence.flow.producer(turned)
    if key is not None and key.type_name in TRANSPOSES and value == query and query not in key.input_links:
        shape = call.inputs[1].shape
        message = f"the weights of {write_size(call.inputs[0].shape)} sum the queries {write_size(shape)}: the keys "
        message += "are of another tensor"
        yield evidence.flag("swapped-roles", "warning", call, message, "softmax(q @ k.transpose(1, 2)) @ k", "queries",
            shape=shape,
        )  # fmt: skip


def _is_swapped(evidence: Evidence, call: Call) -> bool:
    if len(call.input_links) != 3:
        return False
    hidden, cell = call.input_links[1:]
    if hidden is None or cell is None or hidden.call != cell.call or hidden.call < 0:
        return False
    return (hidden.leaf, cell.leaf) == _STATES.get(evidence.calls[hidden.call].type_name)


RULES = {"swapped-roles": find_swapped_roles}

"""The rule about layers in an order that is seldom meant: two linear ones in a row, an activation of an activation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.activations import PASSING, find_maker
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import LINEARS, RECURRENTS, is_weighted
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Severity

_DROPOUTS = names_of("dropout")
_RECTIFIERS = frozenset({"relu", "relu_", "ReLU", "ReLU6", "relu6"})
_BENT = _RECTIFIERS | {"leaky_relu", "LeakyReLU", "elu", "ELU", "gelu", "GELU", "silu", "SiLU"}
_SQUASHING = frozenset({"sigmoid", "Sigmoid", "tanh", "Tanh"})
_SOFTMAXES = frozenset({"softmax", "Softmax", "log_softmax", "LogSoftmax"})
_BETWEEN = _DROPOUTS | names_of("identity") | {"contiguous", "clone"}


def find_strange_orders(evidence: Evidence) -> Iterator[Flag]:
    """Find layers whose order wastes one of them: notes, and warnings where the rest of the model shows it.

    Finds two Linear layers with nothing but dropout between, which are one; ``sigmoid(relu(x))``, which is at least
    0.5; a softmax of the states of a recurrent layer; an output that a dropout or, behind a Linear, a ReLU made: the
    last layer is missing, or the activation too many. Leaves alone bottlenecks (a product of two narrow matrices), and
    a softmax of a leaky ReLU or a tanh, which is how attention is scored.
    """
    links = evidence.calls[0].output_links if evidence.calls else ()
    if sum(is_weighted(step) for step in evidence.flow.steps) < 2:
        links = ()  # the one layer of an example
    ends = {maker.index for link in links if (maker := find_maker(evidence, link, names_of("identity"))) is not None}
    bent = _group_bent(evidence)
    for step in evidence.flow.steps:
        words = _judge(evidence, step, is_end=step.index in ends)
        if words:
            message, fix, code = words
            severity: Severity = "warning" if _is_sure(evidence, step, code, bent) else "note"
            yield evidence.flag("strange-order", severity, step, message, fix, code, shape=step.inputs[0].shape)


def _group_bent(evidence: Evidence) -> dict[tuple[str, int | None], set[str]]:
    """Return the paths of Linear layers that an activation follows, by what their names share and the call around.

    ``fc1`` and ``fc2`` share ``fc``.
    """
    found: dict[tuple[str, int | None], set[str]] = {}
    for call in evidence.flow.steps:
        readers = evidence.flow.readers(call) if call.type_name in LINEARS else []
        if readers and readers[0].type_name in _BENT | _SQUASHING:
            found.setdefault((_find_stem(call), call.parent), set()).add(call.path)
    return found


def _find_stem(call: Call) -> str:
    return re.sub(r"\d+$", "", call.path)


def _is_sure(evidence: Evidence, step: Call, code: str, bent: Mapping[tuple[str, int | None], Set[str]]) -> bool:
    """Return whether the rest of the model shows that an order is not meant.

    A Linear beside others of its name, ``fc2`` beside ``fc1``, behind which an activation comes; a dropout of the
    classes of a sample; a sigmoid of what is not below 0.
    """
    if code == "activations":
        maker = find_maker(evidence, step.input_links[0], PASSING)
        return step.type_name in ("sigmoid", "Sigmoid") and maker is not None and maker.type_name in _RECTIFIERS
    if code == "end":
        came = evidence.inputs[0].spec.shape if evidence.inputs else ()
        return len(step.outputs[0].shape) == 2 and step.outputs[0].shape[-1:] != came[-1:]
    maker = find_maker(evidence, step.input_links[0], _BETWEEN)
    if code != "linear" or maker is None or not maker.path or _find_stem(maker) != _find_stem(step):
        return False
    return bool(bent.get((_find_stem(step), step.parent), set()) - {maker.path, step.path})


def _judge(evidence: Evidence, step: Call, *, is_end: bool) -> tuple[str, str, str] | None:
    if not step.inputs or not step.input_links or not step.outputs:
        return None
    name, shape = step.type_name, write_size(step.inputs[0].shape)
    if is_end and name in _DROPOUTS:
        return (
            f"the output {shape} is what a dropout made: no layer reads it",
            "no dropout behind the last layer",
            "end",
        )
    if name not in _SQUASHING | _SOFTMAXES | _RECTIFIERS | LINEARS:
        return None
    maker = find_maker(evidence, step.input_links[0], _BETWEEN if name in LINEARS else PASSING)
    if maker is None:
        return None
    where = maker.path or maker.type_name
    is_last = is_end and not evidence.flow.readers(step)
    if is_last and name in _RECTIFIERS and maker.type_name in LINEARS and len(step.outputs[0].shape) == 2:
        return f"the output {shape} of {where} is cut at 0", "no activation behind the last layer", "cut"
    if (name in _SQUASHING and maker.type_name in _BENT) or (name in _SOFTMAXES and maker.type_name in _RECTIFIERS):
        least = " at least 0.5" if name in ("sigmoid", "Sigmoid") and maker.type_name in _RECTIFIERS else ""
        message = f"{name} of {shape} reads what {where} made, with no layer between:{least or ' one of both is idle'}"
        return message, f"leave {maker.type_name} out", "activations"
    if name in _SOFTMAXES and maker.type_name in RECURRENTS and is_end:
        return f"{name} of {shape} reads the states of {where}: no layer makes logits", "a Linear before it", "logits"
    if name in LINEARS and maker.type_name in LINEARS and is_weighted(maker) and maker.inputs:
        narrow = min(maker.inputs[0].shape[-1], step.outputs[0].shape[-1])
        is_chain = len(evidence.flow.readers(maker)) == 1 and maker.parent == step.parent
        if step.inputs[0].shape[-1] >= narrow and is_chain and maker.module != step.module:
            message = f"{name} of {shape} reads what {where} made: with no activation between, both are one Linear"
            return message, "an activation between them", "linear"
    return None


RULES = {"strange-order": find_strange_orders}

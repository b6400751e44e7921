"""The rule about activations that come twice, or before a loss that makes them itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.failures.statements import read_statement
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import RESHAPES, TRANSPOSES, is_weighted
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, Severity

#: What an activation makes, by its names.
_MADE = {
    **dict.fromkeys(("softmax", "Softmax", "Softmax2d"), "probabilities"),
    **dict.fromkeys(("sigmoid", "sigmoid_", "Sigmoid"), "probabilities"),
    **dict.fromkeys(("log_softmax", "LogSoftmax", "logsigmoid", "LogSigmoid"), "log-probabilities"),
    **dict.fromkeys(("relu", "relu_", "ReLU"), "numbers from 0 on"),
    **dict.fromkeys(("tanh", "tanh_", "Tanh"), "numbers from -1 to 1"),
}
_SOFTMAXES = frozenset({"softmax", "Softmax", "Softmax2d"})
_SIGMOIDS = frozenset({"sigmoid", "sigmoid_", "Sigmoid"})


class _Loss(NamedTuple):
    """What a loss reads, what it makes of that itself, and how it is fed."""

    wants: str
    by_itself: str
    fix: str


_LOGITS = "logits"
_LOSSES = {
    **dict.fromkeys(
        ("CrossEntropyLoss", "cross_entropy"),
        _Loss(_LOGITS, "applies log_softmax itself", "hand it the output of the last layer, without {}"),
    ),
    **dict.fromkeys(
        ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits"),
        _Loss(_LOGITS, "applies sigmoid itself", "hand it the output of the last layer, without {}"),
    ),
    **dict.fromkeys(
        ("NLLLoss", "nll_loss", "nll_loss_nd", "KLDivLoss", "kl_div"),
        _Loss("log-probabilities", "takes no logarithm", "F.log_softmax(…, dim=1) before it"),
    ),
    **dict.fromkeys(
        ("BCELoss", "binary_cross_entropy"), _Loss("probabilities", "applies no sigmoid", "nn.BCEWithLogitsLoss()")
    ),
}  # fmt: skip
#: What hands on the numbers that it reads, in other places at most.
PASSING = (
    RESHAPES | TRANSPOSES | names_of("dropout", "identity") | {"squeeze", "unsqueeze", "contiguous", "clone", "float",
    "to", "type", "double", "half", "getitem", "select", "stack"}
)  # fmt: skip
_KEEPS_PLACES = names_of("identity") | {"contiguous", "clone", "float", "to", "type", "double", "half"}
_CHOICES = frozenset({"topk", "argmax", "max", "sort", "argsort", "amax"})


def find_wrong_activations(evidence: Evidence) -> Iterator[Flag]:
    """Find a loss that is fed what it makes itself, or not what it needs, and an activation that comes twice.

    Finds ``softmax`` before ``cross_entropy``, ``sigmoid`` before ``binary_cross_entropy_with_logits``, logits in
    ``nll_loss``, a softmax of a softmax, a mask of -inf behind the softmax, a
    logarithm of logits. ``log_softmax`` before ``cross_entropy`` is
    a note: it changes nothing. Leaves alone softmaxes along other dims (Sinkhorn), and masks before a ``topk``.
    """
    inside: set[int] = set()
    for step in evidence.flow.steps:
        if step.type_name in _LOSSES and step.parent not in inside:
            yield from _check_loss(evidence, step)
            inside.add(step.index)
        elif (idle := _find_idle_setting(evidence, step)) is not None:
            message = f"{step.type_name} on {write_size(step.inputs[0].shape)} {idle}"
            yield evidence.flag("wrong-activation", "warning", step, message, "nn.LeakyReLU(0.2, inplace=True)"
                if "eaky" in step.type_name else "a probability below 1", "setting", shape=step.inputs[0].shape,
            )  # fmt: skip
        elif step.type_name in _MADE:
            yield from _check_twice(evidence, step)
        elif step.type_name.rstrip("_") == "masked_fill":
            yield from _check_late_mask(evidence, step)
        elif step.type_name == "logsumexp":
            yield from _check_twice(evidence, step)
        elif step.type_name == "exp" and step.input_links:
            yield from _check_mean_loss(evidence, step)
        elif step.type_name == "mul" and len(step.input_links) == 2:
            yield from _check_deviation(evidence, step)
        elif step.type_name in ("log", "log_", "log2", "log10") and step.input_links:
            maker = find_maker(evidence, step.input_links[0], PASSING)
            if maker is not None and is_weighted(maker):
                shape = step.inputs[0].shape
                message = f"{step.type_name} of {write_size(shape)} that {maker.path or maker.type_name} made:"
                message += " what is below 0 becomes nan"
                yield evidence.flag("wrong-activation", "warning", step, message, "a softmax before it, or log_softmax",
                    "log", shape=shape,
                )  # fmt: skip


def _check_mean_loss(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """``exp(-loss)`` of a loss that is a mean already: one probability for all samples."""
    turned = evidence.flow.producer(step.input_links[0])
    loss = evidence.flow.producer(turned.input_links[0]) if turned is not None and turned.type_name == "neg" else None
    name = loss.type_name if loss is not None else ""
    if loss is not None and name in _LOSSES and _LOSSES[name].wants == _LOGITS and loss.outputs[0].shape == ():
        shape = loss.inputs[0].shape
        message = f"exp of the negative mean that {name} gives for {write_size(shape)}: one probability for all of them"
        fix = 'reduction="none", and the mean at the end'
        yield evidence.flag("wrong-activation", "warning", step, message, fix, "mean", shape=shape)


def _check_deviation(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """Noise times what a line calls a logarithm, ``eps * logvar``, as a layer made it: no exp comes between."""
    makers = [find_maker(evidence, link, PASSING | {"chunk", "split"}) for link in step.input_links]
    is_noise = [maker is not None and maker.type_name in ("randn", "randn_like") for maker in makers]
    of = next((maker for maker, noise in zip(makers, is_noise, strict=True) if not noise), None)
    statement = read_statement(step.source)
    name = re.search(r"(?i)\blog_?\w*(?:var|std|sigma)\w*", statement.text) if statement is not None else None
    if statement is None or name is None:
        return
    if sum(is_noise) == 1 and of is not None and is_weighted(of) and "exp" not in statement.text:
        shape = step.outputs[0].shape
        message = f"noise of {write_size(shape)} is multiplied by {name[0]} as {of.path or of.type_name} made it: a "
        message += "logarithm is no deviation"
        yield evidence.flag("wrong-activation", "warning", step, message, f"({name[0]} / 2).exp()", "deviation",
            shape=shape,
        )  # fmt: skip


def _find_idle_setting(evidence: Evidence, step: Call) -> str | None:
    """Say what a setting does that leaves nothing of a layer: ``nn.LeakyReLU(True)``, ``nn.Dropout(1.0)``."""
    if step.type_name in ("LeakyReLU", "leaky_relu") and evidence.flow.setting(step, "negative_slope", 0) in (1, True):
        return "has a slope of 1 below 0 too: it changes nothing"
    if step.type_name in names_of("dropout") and evidence.flow.setting(step, "p", 0) == 1:
        return "drops all with p = 1: nothing is left"
    return None


def find_maker(evidence: Evidence, link: Link | None, passing: frozenset[str]) -> Call | None:
    """Return the step that made the numbers of a tensor."""
    maker = evidence.flow.producer(link)
    while maker is not None and (maker.type_name in passing or evidence.flow.hands_on(maker)):
        maker = evidence.flow.producer(maker.input_links[0]) if maker.input_links else None
    return maker


def _check_loss(evidence: Evidence, step: Call) -> Iterator[Flag]:
    loss = _LOSSES[step.type_name]
    if step.type_name in ("kl_div", "KLDivLoss") and len(step.input_links) > 1:
        target = find_maker(evidence, step.input_links[1], PASSING)
        if target is not None and is_weighted(target) and not evidence.flow.setting(step, "log_target"):
            shape = step.inputs[1].shape
            message = f"{step.type_name} takes {write_size(shape)} for probabilities, and "
            message += f"{target.path or target.type_name} made logits"
            yield evidence.flag("wrong-activation", "warning", step, message, "a softmax of its second argument",
                "target", shape=shape,
            )  # fmt: skip
    maker = find_maker(evidence, step.input_links[0], PASSING) if step.input_links else None
    if maker is None:
        return
    made = _MADE.get(maker.type_name, _LOGITS if is_weighted(maker) else "")
    if not made or made == loss.wants:
        return
    if made.startswith("numbers"):  # of a layer; of anything else, distances say, it may be meant
        before = find_maker(evidence, maker.input_links[0], PASSING) if maker.input_links else None
        if before is None or not is_weighted(before) or (loss.wants == _LOGITS and "from -1" in made):
            return
    is_idle = loss.by_itself == "applies log_softmax itself" and maker.type_name in ("log_softmax", "LogSoftmax")
    severity: Severity = "note" if is_idle else "warning"
    end = ", so it changes nothing" if is_idle else ""
    name = maker.path or maker.type_name
    message = f"{step.type_name} {loss.by_itself} and reads {made} of {write_size(step.inputs[0].shape)} from {name}"
    yield evidence.flag("wrong-activation", severity, step, message + end, loss.fix.format(maker.type_name), "loss",
        shape=step.inputs[0].shape,
    )  # fmt: skip


def _check_twice(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """A softmax of a softmax along the same dim, a sigmoid of a sigmoid."""
    maker = find_maker(evidence, step.input_links[0], _KEEPS_PLACES) if step.input_links else None
    if maker is None:
        return
    is_softmax = (
        step.type_name in _SOFTMAXES | {"log_softmax", "LogSoftmax", "logsumexp"} and maker.type_name in _SOFTMAXES
    )
    if is_softmax:
        rank = len(step.inputs[0].shape)
        dims = [_dim(evidence, call, rank) for call in (step, maker)]
        is_softmax = dims[0] == dims[1] and dims[0] is not None
    if is_softmax or (step.type_name in _SIGMOIDS and maker.type_name in _SIGMOIDS):
        shape = step.inputs[0].shape
        message = f"{step.type_name} of what {maker.path or maker.type_name} made, of {write_size(shape)}: "
        message += f"{maker.type_name} comes twice, and the second flattens what the first told apart"
        yield evidence.flag("wrong-activation", "warning", step, message, "leave out one of the two", "twice",
            shape=shape,
        )  # fmt: skip


def _dim(evidence: Evidence, call: Call, rank: int) -> int | None:
    dim = evidence.flow.setting(call, "dim")
    return dim % rank if isinstance(dim, int) and not isinstance(dim, bool) and -rank <= dim < rank else None


def _check_late_mask(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """A mask of -inf is for scores: in the weights that a softmax made it is a weight of -inf."""
    value = argument(step, "value", "2")
    if not isinstance(value, (int, float)) or value > -1e3 or not step.input_links:
        return
    maker = find_maker(evidence, step.input_links[0], _KEEPS_PLACES)
    is_read = bool(evidence.flow.readers(step))
    chosen = any(reader.type_name in _CHOICES | _MADE.keys() for reader in evidence.flow.after(step, 3))
    if maker is not None and maker.type_name in _SOFTMAXES and is_read and not chosen:
        shape = step.inputs[0].shape
        message = f"the mask of {value:g} is laid on the weights {write_size(shape)} behind their softmax: "
        message += f"what is hidden weighs {value:g}, not 0"
        yield evidence.flag("wrong-activation", "warning", step, message, "mask the scores, then softmax", "late-mask",
            shape=shape,
        )  # fmt: skip


RULES = {"wrong-activation": find_wrong_activations}

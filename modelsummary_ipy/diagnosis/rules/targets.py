"""The rule that finds a loss whose targets are what the model has read, or never saw."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import EMBEDDINGS, RESHAPES, TRANSPOSES
from modelsummary_ipy.diagnosis.torch_names import LOSSES as NUMBER_LOSSES
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link

_LOSSES = frozenset({"CrossEntropyLoss", "cross_entropy", "NLLLoss", "nll_loss", "nll_loss_nd"})
_NOISES = frozenset({"randn", "randn_like"})
_KEEPING = RESHAPES | {"flatten", "contiguous", "long", "to", "clone", "detach", "ravel", "type"}
_HIDING = frozenset({"where", "masked_fill", "masked_fill_", "setitem", "index_put", "index_put_", "masked_scatter"})


def find_seen_targets(evidence: Evidence) -> Iterator[Flag]:
    """Find a loss that asks at each step for the very word that was read there, or for noise that none was.

    Finds ``cross_entropy(logits, tokens)`` of a language model that was given ``tokens``: it learns to copy. Leaves
    alone labels that are shifted or given apart, words that are masked before they are read, and autoencoders, through
    whose middle no steps go.
    """
    for step in evidence.flow.steps:
        if step.type_name in NUMBER_LOSSES and len(step.input_links) > 1:
            yield from _check_noise(evidence, step)
        if step.type_name in _LOSSES and len(step.input_links) > 1:
            yield from _check_own_scores(evidence, step)
            target = _find_given(evidence, step.input_links[1])
            fact = evidence.inputs[target.leaf] if target is not None else None
            if target is None or fact is None or len(fact.spec.shape) != 2 or not fact.dims[-1]:
                continue
            table = _find_table(evidence, step.input_links[0], target, fact.dims[-1])
            if table is not None:
                shape = write_size(fact.spec.shape)
                message = f"the labels are the {shape} that {table.path or table.type_name} reads: each step is asked "
                message += "for the word that it was given"
                fix = "logits[:, :-1] with tokens[:, 1:]"
                yield evidence.flag("seen-target", "warning", step, message, fix, shape=fact.spec.shape)


def _check_noise(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """Noise that is asked for, and was not what the input got."""
    makers = [evidence.flow.producer(link) for link in step.input_links[:2]]
    for maker, link in zip(makers, reversed(step.input_links[:2]), strict=True):
        if maker is None or maker.type_name not in _NOISES or len(evidence.flow.readers(maker)) != 1:
            continue
        if any(call.type_name in _NOISES for call in evidence.flow.before(link)):
            shape = write_size(step.inputs[0].shape)
            message = f"{step.type_name} asks for numbers {shape} that {maker.type_name} draws anew: the input got "
            message += "others"
            yield evidence.flag("seen-target", "warning", step, message, "the noise that was added", "noise")


def _check_own_scores(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """Products of all rows with all rows, each with itself too, as scores of a cross-entropy."""
    maker = evidence.flow.producer(step.input_links[0])
    while maker is not None and maker.type_name in ("div", "mul", "float", "to") and maker.input_links:
        maker = evidence.flow.producer(maker.input_links[0])
    if maker is None or maker.type_name not in ("matmul", "mm") or len(maker.input_links) != 2:
        return
    turned = evidence.flow.producer(maker.input_links[1])
    if turned is not None and turned.type_name in TRANSPOSES and turned.input_links[:1] == maker.input_links[:1]:
        shape = write_size(maker.outputs[0].shape)
        message = f"the scores {shape} are of each row with itself too, and nothing hides the diagonal from "
        message += f"{step.type_name}"
        fix = "scores.fill_diagonal_(-1e9) before the loss"
        yield evidence.flag("seen-target", "warning", step, message, fix, "diagonal")


def _find_given(evidence: Evidence, link: Link | None) -> Link | None:
    """Return the input of the model that a tensor is, in another shape at most."""
    while link is not None and link.call >= 0:
        maker = evidence.calls[link.call]
        link = maker.input_links[0] if maker.type_name in _KEEPING and maker.input_links else None
    return link


def _find_table(evidence: Evidence, link: Link | None, target: Link, steps: str) -> Call | None:
    """Return the table of words that read the labels, and from which the steps go on to the logits."""
    todo, seen = [link], set[Link]()
    while todo:
        link = todo.pop()
        maker = evidence.flow.producer(link)
        if link is None or maker is None or link in seen or maker.type_name in _HIDING:
            continue
        seen.add(link)
        if not any(dim is not None and steps in dim.split("·") for dim in evidence.origins_of(link)):
            continue
        if maker.type_name in EMBEDDINGS and _find_given(evidence, maker.input_links[0]) == target:
            return maker
        todo += maker.input_links
    return None


RULES = {"seen-target": find_seen_targets}

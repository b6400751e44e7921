"""Operations that bring a tensor together with itself, or with what was computed anew in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.unread_names import adds_a_name_twice, find_unread_alias
from modelsummary_ipy.diagnosis.torch_names import CATS, FACTORIES, RECURRENTS, is_weighted
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link

#: Operations on two tensors that tell nothing of one and the same.
_OF_TWO = frozenset({"sub", "div", "minimum", "maximum", "min", "max", "mse_loss", "l1_loss", "smooth_l1_loss",
    "cosine_similarity", "pairwise_distance", "logaddexp"})  # fmt: skip
_DROPOUTS = names_of("dropout")
_RANDOM = FACTORIES | _DROPOUTS | {"rand_like", "randn_like", "randint_like", "bernoulli", "multinomial"}
#: So many operations back two tensors are compared.
_FAR = 12


def check_itself(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """``cat([u, u])``, ``x - x``, ``out + out`` where a name is not read, a sum or a product of equal lines."""
    links, name = step.input_links, step.type_name
    if len(links) < 2 or (len(links) > 2 and name not in CATS | {"stack"}):
        return
    shape = step.inputs[0].shape
    if name in CATS | {"stack"}:
        is_state = any(reader.type_name in RECURRENTS for reader in evidence.flow.readers(step))
        is_typed = len(links) == 2 and links[0] != links[1]
        is_typed = is_typed or any(map(is_weighted, evidence.flow.before(links[0])))
        is_data = bool(evidence.flow.sources(links[0]))  # anchors, positions: the same for each sample
        if not is_state and is_typed and is_data and are_same(evidence, links):
            message = f"{name} of {write_size(shape)} with itself: the parts are one tensor"
            yield evidence.flag("unread-result", "warning", step, message, "the tensor of the other branch", "cat",
                shape=shape,
            )  # fmt: skip
    elif name in _OF_TWO and are_same(evidence, links):
        message = f"{name} of {write_size(shape)} with itself: both are one tensor"
        yield evidence.flag("unread-result", "warning", step, message, "the other tensor", "twice", shape=shape)
    elif name in ("add", "add_") and _is_of_itself(evidence, step):
        unread = find_unread_alias(step.source)
        if unread or adds_a_name_twice(step.source) or _is_handed_on(evidence, step):
            message = f"a tensor of {write_size(shape)} is added to itself"
            message += f", and no line reads {unread}" if unread else ""
            fix = f"add {unread} instead" if unread else "add what the block was given; 2 * x if that is meant"
            yield evidence.flag("unread-result", "warning", step, message, fix, "itself", shape=shape)
    elif name in ("add", "mul") and _is_again(evidence, step):
        message = f"{name} of {write_size(shape)} with what was computed anew in the same way: both are equal"
        yield evidence.flag("unread-result", "warning", step, message, "the other one", "again", shape=shape)


def are_same(evidence: Evidence, links: Sequence[Link | None], far: int = _FAR) -> bool:
    """Return whether tensors are one, or what the same operations and layers made twice of one."""
    if len(set(links)) == 1:
        return links[0] is not None
    makers = [evidence.flow.producer(link) for link in links]
    made = {
        None if maker is None or link is None else (
            maker.type_name, maker.module if maker.kind == "module" else None, len(maker.input_links),
            repr(maker.arguments), maker.input_params, link.leaf,
        ) for maker, link in zip(makers, links, strict=True)
    }  # fmt: skip
    calls = [maker for maker in makers if maker is not None]
    if not far or len(made) != 1 or None in made or calls[0].type_name in _RANDOM or calls[0].inplace:
        return False
    if not calls[0].input_links:
        return False
    return all(are_same(evidence, pair, far - 1) for pair in zip(*(call.input_links for call in calls), strict=True))


def _is_again(evidence: Evidence, step: Call) -> bool:
    """Return whether two equal tensors were computed in two places, neither by a single index of a line."""
    one, other = (evidence.flow.producer(link) for link in step.input_links)
    if one is None or other is None or one is other or not are_same(evidence, step.input_links):
        return False
    is_index = one.type_name == "getitem"
    is_looked_up = is_index and len(one.input_links) > 1 and one.input_links[1] is not None
    return is_looked_up or (not is_index and (step.type_name == "add" or one.source != other.source))


def _is_of_itself(evidence: Evidence, step: Call) -> bool:
    """Return whether both operands are one tensor, the second behind a dropout perhaps."""
    one, other = step.input_links
    maker = evidence.flow.producer(other)
    if maker is not None and maker.type_name in _DROPOUTS:
        other = maker.input_links[0]
    return one is not None and one == other


def _is_handed_on(evidence: Evidence, step: Call) -> bool:
    """Return whether a layer, ``nn.Identity()`` say, gave back the very tensor, or a dropout a part of it."""
    one, other = (evidence.flow.producer(link) for link in step.input_links)
    is_dropped = other is not None and other is not one and other.type_name in _DROPOUTS
    return is_dropped or (one is not None and evidence.flow.hands_on(one))

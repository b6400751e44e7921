"""Which call made a tensor: a link that is kept on the tensor itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from modelsummary_ipy.model.tensor_meta import TAG
from modelsummary_ipy.records.trace import Link
from modelsummary_ipy.torch_compat.modules import view_base
from modelsummary_ipy.tracing.tensor_leaves import Leaf

_REAL_CLASSES = frozenset({Tensor, nn.Parameter, nn.Buffer})


def find_link(tensor: Tensor) -> Link | None:
    """Return where a tensor was made; ``None`` for parameters, constants and the unknown."""
    link: Link | None = tensor.__dict__.get(TAG)
    return link


class TensorLinks:
    """Links tensors to the calls that made them.

    Args:
        is_fake: Whether the trace is made of fakes: a real tensor is then one of the user's globals, and gets no link.
    """

    def __init__(self, is_fake: bool) -> None:
        self._is_fake = is_fake

    def link_inputs(self, leaves: list[Leaf]) -> None:
        """Link the model's own inputs."""
        for index, (_, tensor) in enumerate(leaves):
            tensor.__dict__[TAG] = Link(-1, index)

    def link_module_outputs(self, call: int, leaves: list[Leaf], *, is_leaf: bool) -> list[Link | None]:
        """Return the links of what a module gave: to itself where it is a leaf, or nothing in it made the tensor."""
        links: list[Link | None] = []
        for index, (_, tensor) in enumerate(leaves):
            tags = tensor.__dict__
            if (is_leaf or TAG not in tags) and not self._is_users(tensor):
                tags[TAG] = Link(call, index)
            links.append(tags.get(TAG))
        return links

    def link_op_outputs(
        self, call: int, leaves: list[Leaf], given: Sequence[Tensor], *, inplace: bool
    ) -> list[Link | None]:
        """Return the links of what an operation gave: to itself, for the base too that it wrote into through a view.

        A tensor that it hands back as it was given (``x.to(x.dtype)``) keeps its link: others read it by that name too.
        """
        links: list[Link | None] = []
        for index, (_, tensor) in enumerate(leaves):
            if self._is_users(tensor):
                links.append(None)
                continue
            if not inplace and TAG in tensor.__dict__ and any(tensor is one for one in given):
                links.append(tensor.__dict__[TAG])
                continue
            link = Link(call, index)
            tensor.__dict__[TAG] = link
            if inplace and (base := view_base(tensor)) is not None:
                base.__dict__[TAG] = link
            links.append(link)
        return links

    def _is_users(self, tensor: Tensor) -> bool:
        return self._is_fake and type(tensor) in _REAL_CLASSES

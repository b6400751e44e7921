"""Facts of layers of torch's, which are made of their specification when they are read: 50,000 take no room."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from typing import Any, Generic, TypeVar, overload

from modelsummary_ipy.model.layer_spec import LayerSpec
from modelsummary_ipy.records.trace import ModuleFact, ParamFact

T = TypeVar("T")
_NUMBERED = "facts have the numbers of their places"


class LayerFacts(MutableSequence[T], Generic[T]):
    """Facts by index: those of layers of torch's are made anew each time they are read, the others are kept.

    To go over all of them costs as much as to make them. Rows do so twice; rules, which do so often, get a tuple.

    Args:
        make: Makes a fact of its index and the specification of its layer.
        items: Facts, and specifications in the place of those that are to be made; the list becomes its own.
    """

    __slots__ = ("_items", "_make")

    def __init__(self, make: Callable[[int, LayerSpec], T], items: list[T | LayerSpec] | None = None) -> None:
        self._make = make
        self._items: list[T | LayerSpec] = [] if items is None else items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        item = self._items[index]
        return self._make(index % len(self._items), item) if type(item) is LayerSpec else item  # type: ignore[return-value]  # no spec

    def __iter__(self) -> Iterator[T]:
        make = self._make
        for index, item in enumerate(self._items):
            yield make(index, item) if type(item) is LayerSpec else item  # type: ignore[misc]  # as above

    def __setitem__(self, index: Any, fact: Any) -> None:
        self._items[index] = fact

    def __delitem__(self, index: int | slice) -> None:
        raise TypeError(_NUMBERED)

    def insert(self, index: int, fact: Any) -> None:
        """Add a fact behind all others; not elsewhere, for each has the number of its place."""
        if index != len(self):
            raise TypeError(_NUMBERED)
        self._items.append(fact)

    def copy(self) -> LayerFacts[T]:
        """Return the same facts in another list."""
        return LayerFacts(self._make, [*self._items])

    def list_kept(self) -> list[T]:
        """List the facts that are kept themselves."""
        return [item for item in self._items if type(item) is not LayerSpec]  # type: ignore[misc]  # so it is a fact

    def replace_kept(self, facts: Iterable[T]) -> None:
        """Put others in the places of the facts that are kept themselves."""
        new = iter(facts)
        self._items = [item if type(item) is LayerSpec else next(new) for item in self._items]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # a list


def make_module_fact(index: int, spec: LayerSpec) -> ModuleFact:
    """Make the facts of a layer."""
    kind, first = spec.kind, spec.first
    params = tuple(range(first, first + len(kind.metas)))
    own = (index, spec.paths, *kind.head, spec.parent, (), params, kind.settings, kind.extra_repr, bool(spec.training))
    return tuple.__new__(ModuleFact, own + kind.tail)  # in half the time that its own constructor takes


def make_param_fact(index: int, spec: LayerSpec) -> ParamFact:
    """Make the facts of a weight of a layer, which has a storage for itself."""
    weight = spec.kind.weights[index - spec.first]
    names = tuple([f"{path}.{weight.name}" if path else weight.name for path in spec.paths])
    return tuple.__new__(ParamFact, (index, names, *weight.facts))


def copied(facts: Sequence[T]) -> MutableSequence[T]:
    """Return the same facts in another list."""
    return facts.copy() if isinstance(facts, LayerFacts) else list(facts)


def frozen(facts: Sequence[T]) -> Sequence[T]:
    """Return facts as a trace has them, which are changed no more."""
    return facts.copy() if isinstance(facts, LayerFacts) else tuple(facts)

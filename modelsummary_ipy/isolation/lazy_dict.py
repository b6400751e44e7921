"""A dict some of whose values are made when they are read."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any


class LazyDict(dict[str, Any]):
    """A dict that replaces its placeholders as they are read; what a subclass makes of one, its ``_read`` returns.

    Whatever Python code reads it by gives what was made: also ``dict(values)``, for a dict with an ``__iter__`` of its
    own is copied key by key.
    """

    __slots__ = ()

    def _read(self, name: str, value: Any) -> Any:
        """Return what stands for a value, or the value itself."""
        raise NotImplementedError

    def __getitem__(self, name: str) -> Any:
        return self._read(name, dict.__getitem__(self, name))

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value as ``dict.get`` does."""
        return self[name] if name in self else default  # noqa: SIM401  # ``dict.get`` would not make it

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return all items; each is made as it is reached."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return all values; each is made as it is reached."""
        return _Values(self)

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of all values, each made."""
        return {name: self[name] for name in list(self)}

    def pop(self, name: str, *default: Any) -> Any:
        """Take a value out as ``dict.pop`` does."""
        if name not in self:
            return dict.pop(self, name, *default)
        value = self[name]
        del self[name]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Take the last item out, made."""
        name = next(reversed(self), None)
        return dict.popitem(self) if name is None else (name, self.pop(name))

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a value, ``default`` from now on if there is none."""
        if name not in self:
            self[name] = default
        return self[name]

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __eq__(self, other: object) -> bool:
        return self.copy() == other

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self.copy())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (self.copy(),)


class _Values(ValuesView[Any]):
    _mapping: LazyDict

    def __reversed__(self) -> Iterator[Any]:
        return (self._mapping[name] for name in reversed(self._mapping))


class _Items(ItemsView[str, Any]):
    _mapping: LazyDict

    def __reversed__(self) -> Iterator[tuple[str, Any]]:
        return ((name, self._mapping[name]) for name in reversed(self._mapping))

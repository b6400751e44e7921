"""``ModelInputs``: the arguments of one call, with sizes for tensors that are to be made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelsummary_ipy.inputs.pytree import Leaf, map_leaves, walk_leaves, write_value
from modelsummary_ipy.inputs.size import Size, read_dtype
from modelsummary_ipy.records.errors import InputError


@dataclass(frozen=True)
class ModelInputs:
    """The arguments of one call of a model; every tensor that is to be made up is a ``Size``.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        names: Parameter names of the positional arguments, as far as known.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def leaves(self) -> list[tuple[str, Leaf]]:
        """List the sizes and tensors among the arguments with their names, positional first.

        One bare positional argument has the name of its parameter, ``""`` if that is not known.
        """
        found: list[tuple[str, Leaf]] = []
        for name, value in self._named():
            found += walk_leaves(value, name)
        return found

    def _named(self) -> Iterator[tuple[str, Any]]:
        for index, value in enumerate(self.args):
            known = self.names[index] if index < len(self.names) else ("" if len(self.args) == 1 else f"[{index}]")
            yield known, value
        yield from self.kwargs.items()

    def with_sizes(self, changes: Mapping[str, Size]) -> ModelInputs:
        """Return the same arguments with some leaves replaced by sizes, by their names in ``leaves``.

        Raises:
            InputError: If no leaf has one of the names.
        """
        unknown = set(changes) - {name for name, _ in self.leaves()}
        if unknown:
            known = ", ".join(repr(name) for name, _ in self.leaves()) or "nothing to change"
            raise InputError(f"no input named {', '.join(map(repr, sorted(unknown)))}", known)

        def change(name: str, leaf: Leaf) -> Leaf:
            return changes.get(name, leaf)

        named = list(self._named())
        args = tuple(map_leaves(value, name, change) for name, value in named[: len(self.args)])
        return replace(
            self, args=args, kwargs={name: map_leaves(value, name, change) for name, value in self.kwargs.items()}
        )

    def as_line(self) -> str:
        """Write the arguments as the magic takes them; data is written as its size, an object as ``<its type>``."""
        return " ".join(self._write())

    def as_call(self) -> str:
        """Write the arguments as ``ModelSummary`` takes them, data as its size."""
        return ", ".join(self._write(lambda text: repr(text) if ":" in text else text))

    def _write(self, finish: Callable[[str], str] = str) -> list[str]:
        words = [finish(write_value(value)) for value in self.args]
        if len(words) == 1 and type(self.args[0]) in (list, tuple, dict):
            words = [f"[{words[0]}]"]  # a list that stands alone would be read as the positional arguments
        return words + [f"{name}={finish(write_value(value))}" for name, value in self.kwargs.items()]

    def describe(self) -> str:
        """Write the arguments as in a call, for messages."""
        words = [write_value(value) for value in self.args]
        return ", ".join(words + [f"{name}={write_value(value)}" for name, value in self.kwargs.items()]) or "no input"


def check_names(inputs: ModelInputs) -> None:
    """Raise ``InputError`` if one name of a dim has two sizes."""
    sizes: dict[str, int] = {}
    for leaf_name, leaf in inputs.leaves():
        for name, number in zip(leaf.dims, leaf.shape, strict=True) if isinstance(leaf, Size) else ():
            if name and sizes.setdefault(name, number) != number:
                received = f"dim {name} is {sizes[name]}, but {number} in {leaf_name or 'the input'}"
                raise InputError(received, "one size for one name")


def set_dtypes(found: ModelInputs, dtypes: Any) -> ModelInputs:
    """Give dtypes to the sizes that have none: one for all, one per size in order, or by parameter name.

    Raises:
        InputError: If a dtype or a name is unknown, their number is wrong, or there is no size.
    """
    if dtypes is None:
        return found
    sizes = [(name, leaf) for name, leaf in found.leaves() if isinstance(leaf, Size)]
    if not sizes:
        raise InputError("dtypes for inputs that are data", "sizes; data has its own dtype: x.to(torch.float16)")
    if isinstance(dtypes, Mapping):
        roots = {name: re.split(r"[.\[]", name, maxsplit=1)[0] for name, _ in sizes}
        known = {*roots, *roots.values()}
        unknown = [name for name in dtypes if name not in known]
        if unknown:
            raise InputError(f"dtypes for {', '.join(map(repr, unknown))}", f"names among {', '.join(sorted(known))}")
        wanted = [dtypes.get(name, dtypes.get(roots[name])) for name, _ in sizes]
    elif isinstance(dtypes, (list, tuple)):
        if len(dtypes) != len(sizes):
            raise InputError(f"{len(dtypes)} dtypes for {len(sizes)} sizes", "one per size, or one for all")
        wanted = list(dtypes)
    else:
        wanted = [dtypes] * len(sizes)
    changes = {
        name: size if dtype is None or size.dtype is not None else size.with_dtype(read_dtype(dtype))
        for (name, size), dtype in zip(sizes, wanted, strict=True)
    }
    return found.with_sizes(changes)

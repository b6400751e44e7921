"""What a forward gives back for the next one, a key-value cache or a state, and what a context of it takes."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from modelsummary_ipy.records.trace import TensorSpec, Trace

#: Parameters that take what an earlier forward gave, by their names: ``past_key_values``, ``cache_params``, ``mems``.
_TAKES_CACHE = re.compile(r"(?:^|_)(?:cache|past|kv|mems|state)s?(?:_|$)")
_ROOT = re.compile(r"\.(\w+)|\['(\w+)'\]|(\[\d+\])")
_NAME = re.compile(r"\w+")


@dataclass(frozen=True)
class Cache:
    """The tensors that a forward gives back to be passed to the next one.

    Attributes:
        parameter: The parameter of the forward that takes them: ``"past_key_values"``.
        leaves: They, as the forward gave them at the sizes that were traced.
        formula: Their bytes in the sizes of the input, ``"131,072 · B · T"``; ``""`` if none fits what was traced.
        lengths: At which lengths it was traced, and the formula agrees.
    """

    parameter: str
    leaves: tuple[TensorSpec, ...]
    formula: str = ""
    lengths: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of their elements."""
        return sum(leaf.nbytes for leaf in self.leaves)


class Context(NamedTuple):
    """What a context of some length takes; ``None`` is unknown.

    Attributes:
        length: Positions.
        batch: Examples.
        cache_bytes: What the cache takes when it is full.
        prefill_bytes: The most that lives while the whole context goes through at once.
        decode_bytes: The most that lives while its last position goes through with a cache of all others.
        reason: Why they are unknown; ``""`` if they are known.
        longest: The longest context that fits the budget, prefill and decode; ``None`` without a budget.
        most_batch: The largest batch of this context that fits it; 0 if not even one does.
        configured: The positions of the model's configuration where they are fewer and yet no table ends there, as with
            rotary embeddings: it runs, beyond what it was trained for.
    """

    length: int
    batch: int | None = None
    cache_bytes: int | None = None
    prefill_bytes: int | None = None
    decode_bytes: int | None = None
    reason: str = ""
    longest: int | None = None
    most_batch: int | None = None
    configured: int | None = None

    @property
    def peak_bytes(self) -> int | None:
        """The most that both take."""
        known = [nbytes for nbytes in (self.prefill_bytes, self.decode_bytes) if nbytes is not None]
        return max(known) if len(known) == 2 else None


def find_cache(trace: Trace, parameters: Collection[str]) -> Cache | None:
    """Find what a forward gives back to be passed to the next one.

    That is the output which is named as a parameter that takes such a thing; in a plain tuple the last one, where the
    forward has one such parameter.

    Args:
        parameters: Of the forward.

    Example:
        >>> specs = (TensorSpec("[0]", (2, 8), "float32", "cpu"), TensorSpec("[1][0]", (2, 4, 8), "float32", "cpu"))
        >>> found = find_cache(Trace((), (), outputs=specs), ("x", "kv_cache"))
        >>> found.parameter, found.nbytes
        ('kv_cache', 256)
    """
    if trace.failure is not None:
        return None
    takers = [name for name in parameters if _TAKES_CACHE.search(name) and "hidden" not in name]
    given = {match.group() for fact in trace.inputs if (match := _NAME.match(fact.spec.name))}
    by_root: dict[str, list[TensorSpec]] = {}
    for spec in trace.outputs:
        match = _ROOT.match(spec.name)
        by_root.setdefault(next(filter(None, match.groups())) if match else "", []).append(spec)
    for name in takers:
        if name in by_root and not (name in given and len(by_root[name]) == 1):
            return Cache(name, tuple(by_root[name]))
    last = list(by_root)[-1] if len(by_root) > 1 else ""
    free = [name for name in takers if name not in given]
    return Cache(free[0], tuple(by_root[last])) if last.startswith("[") and len(free) == 1 else None

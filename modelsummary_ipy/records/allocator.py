"""What CUDA's caching allocator would hold in reserve for the storages of a training step: an estimate.

It rounds sizes to 512 bytes, takes memory from the driver in segments of 2 MiB (for what is no larger than 1 MiB), of
20 MiB (below 10 MiB) or of the next 2 MiB, gives out the smallest free block that is large enough, splits what is left
of it, joins neighbours that are free again, and gives nothing back. What other options of it change
(``expandable_segments``, ``max_split_size_mb``) and the workspaces of libraries are not in it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable

_MIN_BLOCK = 512
_SMALL = 1 << 20
_SMALL_SEGMENT = 2 << 20
_LARGE_SEGMENT = 20 << 20
_LEAST_OWN_SEGMENT = 10 << 20
_ROUND_LARGE = 2 << 20


def round_size(nbytes: int) -> int:
    """Round to whole blocks: at least one.

    Example:
        >>> round_size(1), round_size(512), round_size(513)
        (512, 512, 1024)
    """
    return max(_MIN_BLOCK, -(-nbytes // _MIN_BLOCK) * _MIN_BLOCK)


class _Block:
    """A stretch of a segment; blocks of a segment are linked in the order of their addresses."""

    __slots__ = ("address", "is_free", "is_small", "next", "previous", "size")

    def __init__(self, address: int, size: int, is_small: bool) -> None:
        self.address = address
        self.size = size
        self.is_small = is_small
        self.is_free = True
        self.previous: _Block | None = None
        self.next: _Block | None = None


class CachingAllocator:
    """Gives out blocks as CUDA's allocator does, without memory.

    Attributes:
        reserved_bytes: What it took from the driver; it never gives any back.
        allocated_bytes: What is given out now, rounded.

    Example:
        >>> allocator = CachingAllocator()
        >>> allocator.allocate("a", 3_000_000)
        >>> allocator.allocate("b", 10)
        >>> allocator.reserved_bytes >> 20, allocator.allocated_bytes
        (22, 3000832)
    """

    def __init__(self) -> None:
        self.reserved_bytes = 0
        self.allocated_bytes = 0
        self._given: dict[Hashable, _Block] = {}
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}  # (size, address), by whether small
        self._at: dict[int, _Block] = {}

    def allocate(self, key: Hashable, nbytes: int) -> None:
        """Give out a block under a key; nothing for no bytes."""
        if not nbytes:
            return
        size = round_size(nbytes)
        is_small = size <= _SMALL
        free = self._free[is_small]
        place = bisect_left(free, (size, -1))
        block = self._take(free.pop(place)[1]) if place < len(free) else self._reserve(size, is_small)
        rest = block.size - size
        if rest >= _MIN_BLOCK if is_small else rest > _SMALL:
            self._split(block, size)
        self.allocated_bytes += block.size
        self._given[key] = block

    def free(self, key: Hashable) -> None:
        """Take back what was given out under a key, and join it with free neighbours."""
        block = self._given.pop(key, None)
        if block is None:
            return
        self.allocated_bytes -= block.size
        before, after = block.previous, block.next
        if after is not None and after.is_free:
            self._forget(after)
            self._join(block, after)
        if before is not None and before.is_free:
            self._forget(before)
            self._join(before, block)
            block = before
        self._keep(block)

    def _reserve(self, size: int, is_small: bool) -> _Block:
        if is_small:
            segment = _SMALL_SEGMENT
        elif size < _LEAST_OWN_SEGMENT:
            segment = _LARGE_SEGMENT
        else:
            segment = -(-size // _ROUND_LARGE) * _ROUND_LARGE
        block = _Block(self.reserved_bytes, segment, is_small)
        block.is_free = False
        self.reserved_bytes += segment
        return block

    def _split(self, block: _Block, size: int) -> None:
        rest = _Block(block.address + size, block.size - size, block.is_small)
        rest.previous, rest.next, block.next = block, block.next, rest
        if rest.next is not None:
            rest.next.previous = rest
        block.size = size
        self._keep(rest)

    def _join(self, first: _Block, second: _Block) -> None:
        first.size += second.size
        first.next = second.next
        if first.next is not None:
            first.next.previous = first

    def _keep(self, block: _Block) -> None:
        block.is_free = True
        self._at[block.address] = block
        insort(self._free[block.is_small], (block.size, block.address))

    def _take(self, address: int) -> _Block:
        block = self._at.pop(address)
        block.is_free = False
        return block

    def _forget(self, block: _Block) -> None:
        free = self._free[block.is_small]
        del free[bisect_left(free, (block.size, block.address))]
        del self._at[block.address]

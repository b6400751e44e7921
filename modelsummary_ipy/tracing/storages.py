"""The storages that a trace makes: which of them live, and how many bytes they take together."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from modelsummary_ipy.torch_compat.distributed import local_part
from modelsummary_ipy.torch_compat.fakes import FakeTensor
from modelsummary_ipy.torch_compat.modules import storage_key


class Storages:
    """Numbers storages and counts the bytes of those that live; parameters and buffers are left out.

    A storage is known by a number, never by its address: addresses are used again as soon as a storage dies.

    Attributes:
        peak_bytes: The largest sum of live storages.
    """

    def __init__(self) -> None:
        self._excluded: dict[int, torch.UntypedStorage] = {}  # kept, or their addresses would be used again
        self._lazy_params: list[Tensor] = []
        self._known: dict[int, Storage] = {}
        self._next_number = 0
        self._live_bytes = 0
        self.peak_bytes = 0

    def __iter__(self) -> Iterator[Storage]:
        return iter(self._known.values())

    def close(self) -> None:
        """Let go of the parameters."""
        self._excluded.clear()
        self._lazy_params.clear()

    def exclude(self, tensor: Tensor) -> None:
        """Leave a parameter or buffer out of what is counted."""
        if isinstance(tensor, UninitializedTensorMixin):
            self._lazy_params.append(tensor)
        self._exclude(tensor)

    def _exclude(self, tensor: Tensor) -> None:
        storage = find_storage(tensor)
        if storage is not None:
            self._excluded[storage_key(storage)] = storage

    def follow(self, tensor: Tensor, record: Any, *, counts: bool = True) -> Storage | None:
        """Return what is known of a tensor's storage; a new one lives from now on. ``None`` for a parameter's.

        Args:
            counts: Whether the storage, if it is new, counts as alive.
        """
        storage = find_storage(tensor)
        if storage is None:
            return None
        address = storage_key(storage)
        known = self._known.get(address)
        if known is not None:
            if known.counted != (nbytes := storage.nbytes()) and counts:
                self._live_bytes += nbytes - known.counted  # ``resize_`` makes a storage grow
                known.nbytes = known.counted = nbytes
                self._note_live(nbytes, record)
            return known
        if address in self._excluded or (self._lazy_params and self._is_sized_param(address)):
            return None
        known = Storage(storage, self._forget)
        known.address, known.nbytes, known.number = address, storage.nbytes(), self._next_number
        known.counted = known.nbytes if counts else 0
        self._next_number += 1
        self._known[address] = known
        if counts:
            self._live_bytes += known.counted
            self._note_live(known.counted, record)
        return known

    def find(self, tensor: Tensor) -> Storage | None:
        """Return what is known of a tensor's storage so far."""
        storage = find_storage(tensor)
        return None if storage is None else self._known.get(storage_key(storage))

    @property
    def state(self) -> tuple[int, int]:
        """How many storages were numbered, and how many bytes live."""
        return self._next_number, self._live_bytes

    def add(self, count: int, peak: int, alive: Sequence[tuple[Tensor, int]]) -> None:
        """Number storages that a layer would make which is not run.

        Args:
            count: How many.
            peak: How many bytes of them would live at once.
            alive: Those that stay, each with its number among these.
        """
        self.peak_bytes = max(self.peak_bytes, self._live_bytes + peak)
        for tensor, number in alive:
            known = Storage(tensor.untyped_storage(), self._forget)
            known.address, known.number = storage_key(tensor.untyped_storage()), self._next_number + number
            known.nbytes = known.counted = tensor.untyped_storage().nbytes()
            self._known[known.address] = known
            self._live_bytes += known.counted
        self._next_number += count

    def _is_sized_param(self, address: int) -> bool:
        """Return whether a new storage is a lazy parameter's, which got its shape while the trace ran."""
        for tensor in self._lazy_params:
            self._exclude(tensor)
        return address in self._excluded

    def _note_live(self, made_bytes: int, record: Any) -> None:
        live = self._live_bytes
        if live > self.peak_bytes:
            self.peak_bytes = live
        if record is not None:
            if made_bytes > record.made_bytes:
                record.made_bytes = made_bytes
            if record.live_bytes is None or live > record.live_bytes:
                record.live_bytes = live

    def _forget(self, storage: Storage) -> None:
        self._live_bytes -= storage.counted
        if self._known.get(storage.address) is storage:
            del self._known[storage.address]


class Storage(weakref.ref[torch.UntypedStorage]):
    """A storage that lives.

    Attributes:
        address: Where it is until it dies.
        number: What it is called, now and later.
        nbytes: Its bytes.
        counted: Those of them that count as alive.
    """

    __slots__ = ("address", "counted", "nbytes", "number")
    address: int
    counted: int
    nbytes: int
    number: int


def find_storage(tensor: Tensor) -> torch.UntypedStorage | None:
    """Return a tensor's storage, of a sharded one that of this rank's part; ``None`` where there is none."""
    if type(tensor) is not FakeTensor:
        tensor = local_part(tensor)
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError, ValueError):  # sparse, nested, opaque and lazy ones have none
        return None

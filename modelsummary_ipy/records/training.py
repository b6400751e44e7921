"""One training step: every storage from its birth to its death, and the memory that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

from modelsummary_ipy.records.allocator import CachingAllocator
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.trace import AtenOp, Failure

Phase = Literal["forward", "backward", "optimizer"]
Category = Literal[
    "parameter", "buffer", "input", "optimizer state", "saved activation", "gradient", "activation gradient",
    "temporary",
]  # fmt: skip

#: In the order in which they are stacked in a picture: what lives longest comes first.
CATEGORIES: tuple[Category, ...] = get_args(Category)

_NAMES = ("sgd", "momentum", "adam", "adamw", "adafactor", "lion")
#: What an optimizer may be called. By default it goes over lists of tensors (``foreach``), as torch does on a GPU.
OPTIMIZERS: tuple[str, ...] = (
    *_NAMES,
    *(f"{name}-foreach" for name in _NAMES if name != "lion"),
    *(f"{name}-single" for name in _NAMES),
    *(f"{name}-fused" for name in ("sgd", "momentum", "adam", "adamw")),
)


#: The precisions that a step may be trained in.
PRECISIONS: tuple[str, ...] = ("as is", "bf16", "bf16-mixed", "fp16-mixed")


class StorageLife(NamedTuple):
    """One storage of a training step.

    Attributes:
        nbytes: Its bytes.
        birth, death: The first and the last of the step's moments at which it lives; a storage that the step begins
            with is born at 0, one that outlives the step dies at the last moment.
        category: What it is.
        row: Index of the row that made it: of the call, of the call whose backward it is, or of the module that has
            the parameter whose gradient or state it is; ``None`` if no row did (the loss, a list of the optimizer).
        phase: What ran when it was made.
        source: The user's line that made the row's call, ``None`` where there is none.
    """

    nbytes: int
    birth: int
    death: int
    category: Category
    row: int | None = None
    phase: Phase = "forward"
    source: str | None = None


class Moment(NamedTuple):
    """One operation of the step that made storages, or the beginning of the optimizer's step.

    Attributes:
        phase: What ran.
        row: Index of the row whose call or backward ran; ``None`` outside all of them.
        is_recomputed: Whether a checkpoint ran its forward again, in the backward.
    """

    phase: Phase
    row: int | None = None
    is_recomputed: bool = False


class BackwardOp(NamedTuple):
    """An operation of the backward that multiplies and adds, or is unknown.

    Attributes:
        row: Index of the row whose backward it is, or whose forward a checkpoint ran again; ``None`` outside all rows.
        op: The operation.
        is_recomputed: Whether a checkpoint ran it again.
    """

    row: int | None
    op: AtenOp
    is_recomputed: bool = False


class Held(NamedTuple):
    """What stands at one moment: the bytes of a row and a category together."""

    row: int | None
    category: Category
    nbytes: int


class Point(NamedTuple):
    """One moment of the timeline: what ran, and the bytes that live, by category in the order of ``CATEGORIES``."""

    phase: Phase
    row: int | None
    nbytes: int
    by_category: tuple[int, ...]


@dataclass(frozen=True)
class Training:
    """One step of training: forward, backward and optimizer, as it is from the second step on.

    The optimizer's state is there from the beginning, gradients were set to ``None``, output and loss live to the end.
    The workspace of a kernel, and what an allocator holds in reserve, are not in it; ``reserved_bytes`` estimates that.

    Attributes:
        storages: Every storage, in the order in which they were made.
        moments: What ran, by moment; the first is before the step.
        optimizer: Name of the optimizer: ``"adamw"``, ``"Muon"``.
        reason: Why there is no step: ``"nothing to train: no parameter requires grad"``; ``""`` if there is one.
        failure: How the backward or the optimizer failed, ``None`` if they did not; ``failed_row`` where.
        backward_ops: What multiplied and added in the backward, of one batch.
        is_loss_wrong: Whether the reason is that the loss that was given is no number to go backward from.
    """

    storages: tuple[StorageLife, ...] = ()
    moments: tuple[Moment, ...] = ()
    optimizer: str = "adamw"
    reason: str = ""
    failure: Failure | None = None
    failed_row: int | None = None
    backward_ops: tuple[BackwardOp, ...] = ()
    is_loss_wrong: bool = False

    @lazy
    def live_bytes(self) -> tuple[int, ...]:
        """Bytes that live, by moment."""
        return tuple(self._add_up(self.storages))

    def _add_up(self, storages: Iterable[StorageLife]) -> Iterator[int]:
        """Yield the bytes of storages that live, by moment."""
        changes = [0] * (len(self.moments) + 1)
        for life in storages:
            changes[life.birth] += life.nbytes
            changes[life.death + 1] -= life.nbytes
        return accumulate(changes[:-1])

    def _peak(self, phase: Phase) -> int | None:
        live = [nbytes for nbytes, moment in zip(self.live_bytes, self.moments, strict=True) if moment.phase == phase]
        return max(live, default=None) if not self.reason else None

    @property
    def forward_peak_bytes(self) -> int | None:
        """The most that lives at once in the forward and the loss, parameters included; ``None`` without a step."""
        return self._peak("forward")

    @property
    def backward_peak_bytes(self) -> int | None:
        """The most that lives at once in the backward."""
        return self._peak("backward")

    @property
    def optimizer_peak_bytes(self) -> int | None:
        """The most that lives at once in the optimizer's step."""
        return self._peak("optimizer")

    @property
    def peak_bytes(self) -> int | None:
        """The most that lives at once; ``None`` without a step."""
        return max(self.live_bytes) if self.live_bytes and not self.reason else None

    @lazy
    def reserved_bytes(self) -> int | None:
        """About what CUDA's caching allocator would reserve from the second step on; ``None`` without a step.

        An estimate: see ``records/allocator.py`` for what it follows.
        """
        if self.peak_bytes is None:
            return None
        allocator = CachingAllocator()
        begins = [(key, life) for key, life in enumerate(self.storages) if not life.birth]
        for key, life in begins:
            if life.category != "optimizer state":  # the first step makes it
                allocator.allocate(key, life.nbytes)
        births: dict[int, list[int]] = {}
        deaths: dict[int, list[int]] = {}
        for key, life in enumerate(self.storages):
            if life.birth:
                births.setdefault(life.birth, []).append(key)
                deaths.setdefault(life.death, []).append(key)
        for step in range(2):
            for moment in range(1, len(self.moments)):
                for key in deaths.get(moment - 1, ()):
                    allocator.free(key)
                phase, before = self.moments[moment].phase, self.moments[moment - 1].phase
                if not step and phase == "optimizer" != before:
                    for key, life in begins:
                        if life.category == "optimizer state" and life.nbytes > 8:  # counts of steps are on the CPU
                            allocator.allocate(key, life.nbytes)
                for key in births.get(moment, ()):
                    allocator.allocate(key, self.storages[key].nbytes)
            for key in deaths.get(len(self.moments) - 1, ()):
                allocator.free(key)
        return allocator.reserved_bytes

    @lazy
    def peak_moment(self) -> int:
        """The first moment at which that is reached."""
        return max(range(len(self.live_bytes)), key=self.live_bytes.__getitem__, default=0)

    @property
    def peak_phase(self) -> Phase | None:
        """What ran then."""
        return self.moments[self.peak_moment].phase if self.peak_bytes is not None else None

    @property
    def peak_row(self) -> int | None:
        """Index of the row whose call, or whose backward, ran then; ``None`` outside all rows."""
        return self.moments[self.peak_moment].row if self.peak_bytes is not None else None

    @lazy
    def held_at_peak(self) -> tuple[Held, ...]:
        """What stood at the peak, by row and category, the largest first."""
        return self.held_at(self.peak_moment) if self.peak_bytes is not None else ()

    def held_at(self, moment: int) -> tuple[Held, ...]:
        """Return what stands at a moment, by row and category, the largest first."""
        sums: dict[tuple[int | None, Category], int] = {}
        for life in self.storages:
            if life.birth <= moment <= life.death and life.nbytes:
                key = life.row, life.category
                sums[key] = sums.get(key, 0) + life.nbytes
        held = [Held(row, category, nbytes) for (row, category), nbytes in sums.items()]
        return tuple(sorted(held, key=lambda one: (-one.nbytes, -1 if one.row is None else one.row, one.category)))

    @lazy
    def peak_share(self) -> Mapping[int, float]:
        """Per row index, the share of the peak that it holds itself; rows that hold nothing are left out."""
        shares: dict[int, float] = {}
        for held in self.held_at_peak:
            if held.row is not None:
                shares[held.row] = shares.get(held.row, 0.0) + held.nbytes / max(self.peak_bytes or 0, 1)
        return shares

    @lazy
    def timeline(self) -> tuple[Point, ...]:
        """What lives at every moment, by category."""
        by_category = zip(
            *(self._add_up(life for life in self.storages if life.category == one) for one in CATEGORIES), strict=True
        )
        return tuple(
            Point(moment.phase, moment.row, nbytes, parts)
            for moment, nbytes, parts in zip(self.moments, self.live_bytes, by_category, strict=True)
        )

    @property
    def state_bytes(self) -> int:
        """Bytes of the optimizer's state, its step counts left out: a number each, and on the CPU beside a GPU."""
        return sum(life.nbytes for life in self.storages if life.category == "optimizer state" and life.nbytes > 8)

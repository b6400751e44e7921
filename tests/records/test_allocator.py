"""CUDA's caching allocator without memory, by hand: as c10/cuda/CUDACachingAllocator.cpp says."""

from __future__ import annotations

import random

import pytest

from modelsummary_ipy.records.allocator import CachingAllocator, round_size
from modelsummary_ipy.records.training import Moment, StorageLife, Training

MIB = 1 << 20


@pytest.mark.parametrize(
    ("nbytes", "reserved"),
    [
        (0, 0), (1, 2 * MIB), (MIB, 2 * MIB), (MIB + 1, 20 * MIB), (10 * MIB - 512, 20 * MIB), (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB), (33 * MIB, 34 * MIB),
    ],
)  # fmt: skip
def test_a_segment_is_of_2_of_20_or_of_the_next_2_mib(nbytes: int, reserved: int) -> None:
    allocator = CachingAllocator()
    allocator.allocate("one", nbytes)
    assert allocator.reserved_bytes == reserved
    least = round_size(nbytes) if nbytes else 0
    assert allocator.allocated_bytes == (34 * MIB if least == 33 * MIB else least)  # a MiB that is left is kept


def test_what_is_left_of_a_block_is_given_out_too() -> None:
    allocator = CachingAllocator()
    for key in range(4096):
        allocator.allocate(key, 1)
    assert allocator.reserved_bytes == 2 * MIB
    allocator.allocate("one more", 1)
    assert allocator.reserved_bytes == 4 * MIB
    for key in range(9):
        allocator.allocate(f"large {key}", 2 * MIB)
    assert allocator.reserved_bytes == 24 * MIB
    allocator.allocate("the tenth", 2 * MIB)
    assert allocator.reserved_bytes == 24 * MIB
    allocator.allocate("the eleventh", 2 * MIB)
    assert allocator.reserved_bytes == 44 * MIB


def test_a_large_block_is_split_only_if_more_than_a_mib_is_left() -> None:
    allocator = CachingAllocator()
    allocator.allocate("a", 15 * MIB)
    assert (allocator.reserved_bytes, allocator.allocated_bytes) == (16 * MIB, 16 * MIB)  # a MiB is no more than one
    allocator.free("a")
    allocator.allocate("b", 14 * MIB)
    assert (allocator.reserved_bytes, allocator.allocated_bytes) == (16 * MIB, 14 * MIB)


def test_the_smallest_block_that_is_large_enough_is_taken() -> None:
    allocator = CachingAllocator()
    for key, size in (("a", 12 * MIB), ("b", 30 * MIB), ("c", 16 * MIB)):
        allocator.allocate(key, size)
    for key in "abc":
        allocator.free(key)
    allocator.allocate("d", 16 * MIB)
    allocator.allocate("e", 30 * MIB)
    assert allocator.reserved_bytes == 58 * MIB


def test_neighbours_that_are_free_again_are_one_block() -> None:
    allocator = CachingAllocator()
    for key in range(10):
        allocator.allocate(key, 2 * MIB)
    for key in (3, 5, 4, 0, 9):
        allocator.free(key)
    allocator.allocate("three", 6 * MIB)
    assert allocator.reserved_bytes == 20 * MIB
    allocator.allocate("two", 4 * MIB)  # 0 and 9 are apart
    assert allocator.reserved_bytes == 40 * MIB


def test_what_is_given_out_is_never_more_than_what_is_reserved() -> None:
    draw = random.Random(1)
    allocator = CachingAllocator()
    live: dict[int, int] = {}
    for key in range(600):
        if live and draw.random() < 0.5:
            gone = draw.choice([*live])
            allocator.free(gone)
            del live[gone]
        live[key] = draw.choice((100, 70_000, MIB, 3 * MIB, 11 * MIB))
        allocator.allocate(key, live[key])
        assert sum(map(round_size, live.values())) <= allocator.allocated_bytes <= allocator.reserved_bytes
    for key in live:
        allocator.free(key)
    assert allocator.allocated_bytes == 0


def test_a_step_reserves_what_its_second_run_needs() -> None:
    moments = tuple(Moment(phase) for phase in ("forward", "forward", "backward", "optimizer"))
    storages = (
        StorageLife(4 * MIB, 0, 3, "parameter"), StorageLife(8 * MIB, 0, 3, "optimizer state"),
        StorageLife(4, 0, 3, "optimizer state"), StorageLife(12 * MIB, 1, 2, "saved activation"),
        StorageLife(4 * MIB, 2, 3, "gradient"),
    )  # fmt: skip
    # The first segment of 20 MiB takes parameter, gradient and state, the activation has one of its own.
    assert Training(storages, moments).reserved_bytes == 32 * MIB
    assert Training(reason="nothing to train").reserved_bytes is None

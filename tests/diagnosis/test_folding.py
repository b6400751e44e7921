"""One cause has one flag, which is typed, and whose sentence is true."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.diagnosis.rules.reshape_fixes import write_reshape_fix
from tests.corpus.meaning_bugs import SoftmaxOverTheQueries


class AttentionThenMean(nn.Module):
    """``batch_first`` is missing; the mean over the steps is right."""

    def __init__(self) -> None:
        super().__init__()
        self.attend, self.head = nn.MultiheadAttention(32, 4), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.attend(x, x, x)[0]).mean(1))


def test_what_follows_of_a_swapped_batch_is_folded_under_it() -> None:
    ms = ModelSummary(AttentionThenMean(), (8, 20, 32))
    (flag,) = ms.flags
    assert (flag.rule, flag.path) == ("sequence-order", "attend")
    assert [ms.rows[row].type_name for row in flag.more] == ["mean"]
    assert flag.message.endswith("; and 1 more row")
    assert flag.numbers == {"shape": (8, 20, 32)}


def test_one_line_that_runs_in_three_blocks_has_one_flag() -> None:
    ms = ModelSummary(nn.Sequential(*(SoftmaxOverTheQueries() for _ in range(3))), (3, 12, 16))
    (flag,) = ms.flags
    assert (flag.rule, flag.code, flag.path) == ("attention-axis", "softmax", "0")
    assert [ms.rows[row].path for row in flag.more] == ["1", "2"]
    (said,) = json.loads(json.dumps(ms.to_dict()))["flags"]
    assert (said["code"], said["more"], said["numbers"]["shape"]) == ("softmax", list(flag.more), [3, 12, 12])


class NotAsked(nn.Module):
    """Each block's second activation is made and not called."""

    class Block(nn.Module):
        def __init__(self, act: bool) -> None:
            super().__init__()
            self.fc, self.act, self.is_active = nn.Linear(8, 8), nn.PReLU(8), act

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.fc(x)) if self.is_active else self.fc(x)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(self.Block(True), self.Block(False)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def test_layers_that_blocks_of_one_class_leave_out_have_one_flag() -> None:
    ms = ModelSummary(NotAsked(), (4, 8))
    (flag,) = ms.flags
    assert (flag.rule, flag.path) == ("unused-layer", "blocks.0.1.act")
    assert [ms.rows[row].path for row in flag.more] == ["blocks.1.1.act", "blocks.2.1.act"]


class RowsByNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.register_buffer("rows", torch.tensor([0, 2, 5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)[self.rows]


def test_rows_taken_by_a_tensor_are_not_one_of_the_samples() -> None:
    ms = ModelSummary(RowsByNumber(), (20, 8))
    assert [flag.rule for flag in ms.flags] == ["batch-lost"]
    assert "[None]" not in ms.flags[0].message
    assert "rows of the 20 samples" in ms.flags[0].message


class OnePairOfConvolutions(nn.Module):
    """Both lose their border: none keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 8, 3, 2), nn.Conv2d(8, 8, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


def test_no_sibling_is_said_to_keep_a_border_that_none_keeps() -> None:
    assert ModelSummary(OnePairOfConvolutions(), (2, 1, 32, 32)).flags == ()


def test_the_fix_of_a_reshape_gives_the_shape_that_was_wanted() -> None:
    cases = {
        ((2, 10, 32), (2, 4, 10, 8)): lambda x: x.view(2, 10, 4, 8).transpose(1, 2),
        ((2, 4, 10, 8), (2, 10, 32)): lambda x: x.transpose(1, 2).flatten(2),
        ((2, 12, 6, 6), (2, 3, 12, 12)): nn.PixelShuffle(2),
        ((2, 3, 12, 12), (2, 12, 6, 6)): nn.PixelUnshuffle(2),
        ((2, 32, 4, 4), (2, 16, 32)): lambda x: x.flatten(2).transpose(1, 2),
        ((2, 27, 8, 8), (2, 192, 9)): lambda x: x.permute(0, 2, 3, 1).reshape(2, -1, 9),
        ((2, 3, 32, 32), (2, 16, 192)): lambda x: nn.functional.unfold(x, 8, stride=8).transpose(1, 2),
        ((15, 32), (5, 3, 32)): lambda x: x.view(3, 5, 32).transpose(0, 1),
        ((2, 6, 12), (6, 24)): lambda x: x.transpose(0, 1).flatten(1),
        ((3, 10, 14), (42, 10)): lambda x: x.transpose(1, 2).reshape(-1, 10),
        ((2, 32, 4, 40), (2, 40, 128)): lambda x: x.permute(0, 3, 1, 2).flatten(2),
        ((2, 3, 5, 4, 4, 24), (2, 12, 20, 24)): lambda x: x.permute(0, 1, 3, 2, 4, 5).reshape(2, 12, 20, 24),
        ((2, 3, 2, 2, 5, 6), (2, 3, 10, 12)): lambda x: x.permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 10, 12),
    }
    written = [
        "view(B, 10, 4, 8).transpose(1, 2)", "transpose(1, 2).flatten(2)", "nn.PixelShuffle(2)",
        "nn.PixelUnshuffle(2)", "flatten(2).transpose(1, 2)", "permute(0, 2, 3, 1).reshape(B, -1, 9)",
        "F.unfold(x, 8, stride=8).transpose(1, 2)", "view(3, 5, 32).transpose(0, 1)", "transpose(0, 1).flatten(1)",
        "transpose(1, 2).reshape(-1, 10)", "permute(0, 3, 1, 2).flatten(2)",
        "permute(0, 1, 3, 2, 4, 5).reshape(B, 12, 20, 24)", "permute(0, 1, 4, 2, 5, 3).reshape(B, 3, 10, 12)",
    ]  # fmt: skip
    assert [write_reshape_fix(*shapes) for shapes in cases] == written
    for (before, after), fix in cases.items():
        assert fix(torch.zeros(before)).shape == after

"""What docstrings, comments and unpacked shapes say of the dims of inputs."""

from __future__ import annotations

import linecache
from textwrap import dedent

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.model.written_dims import match_written_dims, read_written_dims


def read(text: str, name: str) -> tuple[str, ...] | None:
    lines = dedent(text).lstrip("\n").splitlines(keepends=True)
    linecache.cache["<written>"] = sum(map(len, lines)), None, lines, "<written>"
    line = next(at for at, line in enumerate(lines, 1) if "def forward" in line)
    found = read_written_dims("<written>", line)[1].get(name)
    return None if found is None else found.roles


HEAD = "class Net:\n    def forward(self, x, ids, mask=None):\n        "


@pytest.mark.parametrize(
    ("body", "name", "roles"),
    [
        ("# x: (batch, time steps, sensor axes)", "x", ("B", "T", "F")),
        ("# x: (N, timesteps, channels)", "x", ("B", "T", "F")),
        ("# x is a float tensor of shape [B, C, T]", "x", ("B", "F", "T")),
        ("# x / ids: (seq_len, batch, 3)", "ids", ("T", "B", "")),
        ("# ids: (batch,)", "ids", ("B",)),
        ("# (batch, time)", "ids", None),
        ("b, t, c = x.shape", "x", ("B", "T", "F")),
        ("x = x.transpose(1, 2)\n        b, t, c = x.shape", "x", None),
        ("pair = (batch, time)", "ids", None),
        ("n, b, c = x.shape", "x", ("", "", "")),
    ],
)
def test_words_beside_the_name_of_an_input_are_read(body: str, name: str, roles: tuple[str, ...] | None) -> None:
    assert read(HEAD + body, name) == roles


def test_the_docstring_of_the_class_is_read_and_another_forward_is_not() -> None:
    text = '''
        class Other:
            def forward(self, x):
                """x: (T, B, C)"""

        class Net:
            """Classifies.

            x (Tensor): of shape (batch, n_mels, frames)
            """

            def __init__(self, x):  # x: (a, b)
                pass

            def forward(self, x):
                return x
    '''
    lines = dedent(text).lstrip("\n").splitlines(keepends=True)
    linecache.cache["<two>"] = 1, None, lines, "<two>"
    line = [at for at, line in enumerate(lines, 1) if "def forward" in line][1]
    assert read_written_dims("<two>", line)[1]["x"].roles == ("B", "F", "T")


class Tagger(nn.Module):
    """ids: (batch, seq_len), mask: (batch, seq_len)"""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(9, 4)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.emb(ids)


def test_an_input_of_another_rank_is_not_what_the_text_is_about() -> None:
    ids = torch.zeros(5, 3, dtype=torch.long)
    assert match_written_dims(ModelSummary(Tagger(), ids).story.trace)[0].roles == ("B", "T")
    assert match_written_dims(ModelSummary(Tagger(), ids[0]).story.trace) == {}

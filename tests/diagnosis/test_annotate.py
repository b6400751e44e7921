"""The source of a traced forward with what each line made: from files, cells and installed packages."""

from __future__ import annotations

import ast
import linecache
import textwrap
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from modelsummary_ipy.diagnosis.annotate import annotate
from modelsummary_ipy.diagnosis.failures.statements import find_function, list_functions
from modelsummary_ipy.display.render.source_listing import render_listings
from modelsummary_ipy.records.trace import Source
from modelsummary_ipy.summary import ModelSummary
from tests.display.test_render_html import unpack

SOURCE = '''
import torch
from torch import nn


def halve(x):
    """Called by a forward."""
    return x.chunk(2, -1)


class Block(nn.Module):
    def __init__(self, size, out):
        super().__init__()
        self.mix = nn.Linear(size, out)

    def forward(self, x):
        return self.mix(x).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, 8)
        self.blocks = nn.ModuleList([Block(32, 32), Block(32, 32), Block(32, 16)])
        self.norm = nn.LayerNorm(16)

    def forward(self, x, scale=None):
        # to tokens
        x = self.patch(x).flatten(2)
        x = x.transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        a, b = halve(self.norm(x))
        if scale is not None:
            a = a * scale
        return a.mean(1), b
'''


def load(source: str, filename: str) -> dict[str, Any]:
    """Run source as IPython runs a cell: its text is known to linecache alone."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    scope: dict[str, Any] = {"__name__": "made_up"}
    exec(compile(source, filename, "exec"), scope)  # the source above
    return scope


@pytest.fixture(scope="module")
def net() -> ModelSummary:
    ms = ModelSummary(load(SOURCE, "<made-up-1>")["Net"](), (2, 3, 64, 32))
    assert ms.error is None
    return ms


def note(text: str, line: str) -> str:
    """Return what the margin says beside a line of code."""
    (found,) = [one for one in text.splitlines() if one.lstrip().startswith(line)]
    return found.partition("  # ")[2]


def test_each_line_says_what_it_made(net: ModelSummary) -> None:
    text = net.annotated("Net")
    assert note(text, "def forward(self, x, scale=None):") == "B 3 H W = 2 3 64 32"
    assert note(text, "x = self.patch(x).flatten(2)") == "B 32 ⌊H/8⌋·⌊W/8⌋ = 2 32 32"
    assert note(text, "x = x.transpose(1, 2)") == "B ⌊H/8⌋·⌊W/8⌋ 32 = 2 32 32"
    assert note(text, "a, b = halve(self.norm(x))") == "2 × (B ⌊H/8⌋·⌊W/8⌋ 8 = 2 32 8)"
    assert note(text, "return a.mean(1), b") == "(B 8 = 2 8), (B ⌊H/8⌋·⌊W/8⌋ 8 = 2 32 8)"


def test_lines_that_made_nothing_say_nothing(net: ModelSummary) -> None:
    text = net.annotated("Net")
    assert note(text, "a = a * scale") == ""
    assert note(text, "if scale is not None:") == ""
    assert "    # to tokens" in text.splitlines()


def test_rounds_of_a_loop_that_made_different_things_follow_each_other(net: ModelSummary) -> None:
    expected = "B ⌊H/8⌋·⌊W/8⌋ 32 = 2 32 32 then B ⌊H/8⌋·⌊W/8⌋ 16 = 2 32 16"
    assert note(net.annotated("Net"), "x = block(x)") == expected


def test_calls_that_differ_stand_side_by_side(net: ModelSummary) -> None:
    text = net.annotated("Block")
    assert text.splitlines()[1:3] == ["# 1 blocks.0, blocks.1 (2 calls)", "# 2 blocks.2"]
    assert note(text, "return self.mix(x).relu()") == "1: B ⌊H/8⌋·⌊W/8⌋ 32  2: B ⌊H/8⌋·⌊W/8⌋ 16"
    assert note(text, "def forward(self, x):") == "B ⌊H/8⌋·⌊W/8⌋ 32"


def test_a_helper_has_a_listing_of_its_own(net: ModelSummary) -> None:
    listings = annotate(net.story)
    assert [listing.title for listing in listings] == ["Net.forward", "Block.forward", "halve"]
    assert note(net.annotated(), "return x.chunk(2, -1)") == "2 × (B ⌊H/8⌋·⌊W/8⌋ 8 = 2 32 8)"


def test_without_sizes_the_notes_are_shape_comments(net: ModelSummary) -> None:
    text = net.annotated("Net", sizes=False)
    assert note(text, "x = self.patch(x).flatten(2)") == "B 32 ⌊H/8⌋·⌊W/8⌋"
    assert " = 2" not in text


def test_taking_the_notes_away_leaves_the_code_as_it_was_written(net: ModelSummary) -> None:
    for listing in annotate(net.story):
        body = "\n".join(line.text for line in listing.lines)
        assert textwrap.indent(body, "    ") in textwrap.indent(SOURCE, "") or body in SOURCE
        annotated = ast.dump(ast.parse(render_listings([listing])))
        assert annotated == ast.dump(ast.parse(body))


def test_flags_stand_on_their_line() -> None:
    source = """
import torch
class Grows(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv0 = torch.nn.Conv2d(1, 16, 3, padding=5)
    def forward(self, x):
        x = self.conv0(x)
        return x.mean((2, 3))
"""
    lines = ModelSummary(load(source, "<made-up-2>")["Grows"](), (1, 1, 16, 16)).annotated().splitlines()
    at = next(number for number, line in enumerate(lines) if "self.conv0(x)" in line)
    assert "B 16 H+8 W+8" in lines[at]
    assert lines[at + 1].startswith("    #^ warning grown-map: ")


def test_the_line_that_failed_says_so_and_those_before_it_what_they_made() -> None:
    source = """
import torch
class Fails(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 2)
    def forward(self, x):
        x = self.conv(x)
        return self.head(x)
"""
    ms = ModelSummary(load(source, "<made-up-3>")["Fails"](), (2, 3, 16, 16))
    lines = ms.annotated().splitlines()
    assert note(ms.annotated(), "x = self.conv(x)") == "B 8 H-2 W-2 = 2 8 14 14"
    assert lines[-2].strip() == "return self.head(x)"
    assert lines[-1].startswith("    #^ failed: RuntimeError: ")


def test_a_method_other_than_forward_is_the_models_own() -> None:
    source = """
import torch
class Codes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
    def encode(self, x):
        return self.layer(x)
"""
    text = ModelSummary(load(source, "<made-up-4>")["Codes"](), (5, 4), method="encode").annotated()
    assert note(text, "def encode(self, x):") == "B 4 = 5 4"
    assert note(text, "return self.layer(x)") == "B 3 = 5 3"


class InThisFile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> list[Tensor]:
        return [
            self.layer(x)
            for x in (x, y)
        ]  # fmt: skip


def test_classes_of_files_are_read_and_comprehensions_looked_into() -> None:
    ms = ModelSummary(InThisFile(), [(5, 4), (6, 4)])
    text = ms.annotated()
    assert text.startswith(f"# InThisFile.forward · {Path(__file__).name}:")
    assert note(text, "def forward(self, x: Tensor, y: Tensor)") == "x: B 4 = 5 4, y: B2 4 = 6 4"
    assert note(text, "self.layer(x)") == "B 3 = 5 3 then B2 3 = 6 3"


def test_classes_of_installed_packages_are_read() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, vocab_size=99
    )
    ms = ModelSummary(transformers.BertModel(config).eval(), (2, 12))
    text = ms.annotated("BertEmbeddings", sizes=False)
    assert note(text, "inputs_embeds = self.word_embeddings(input_ids)") == "B T 32"
    assert note(text, "position_embeddings = self.position_embeddings(position_ids)") == "1 T 32"


def test_torch_s_own_modules_and_unreadable_code_have_no_listing() -> None:
    assert ModelSummary(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), (2, 3)).annotated() == ""
    scope: dict[str, Any] = {"nn": nn, "__name__": "made_up"}
    exec(  # source without a file
        "class Hidden(nn.Module):\n def __init__(self): super().__init__(); self.l = nn.Linear(3, 3)\n"
        " def forward(self, x): return self.l(x)",
        scope,
    )
    assert ModelSummary(scope["Hidden"](), (2, 3)).annotated() == ""


def test_what_ran_nowhere_is_a_key_error_that_names_what_did(net: ModelSummary) -> None:
    with pytest.raises(KeyError, match="Net, Block"):
        net.annotated("Bloc")


def test_a_path_chooses_the_functions_that_ran_in_it(net: ModelSummary) -> None:
    assert "class" not in net.annotated("blocks.2")
    assert net.annotated("blocks.2").startswith("# Block.forward · ")


def test_the_detail_of_a_row_shows_its_own_lines(net: ModelSummary) -> None:
    page = unpack(net.to_html())
    assert page.count("return self.mix(x).relu()") == 2  # one for each kind of call
    assert page.count("# to tokens") == 1


def test_a_notebook_shows_it_as_it_reads_and_runs_nothing_of_it() -> None:
    source = """
import torch
class Tags(torch.nn.Module):
    def forward(self, x):
        return x.relu() if "<script>" else x
"""
    text: Any = ModelSummary(load(source, "<made-up-5>")["Tags"](), (2, 3)).annotated()
    page = text._repr_html_()
    assert page.startswith('<pre class="ms-source">')
    assert "&quot;&lt;script&gt;&quot; else x  <i># B F = 2 3</i>" in page
    assert "<script>" not in page


PARTS = '''
def first(
    x,
) -> int:
    """A text
at the margin.
    """
# a remark at the margin
    return x


class Net:
    def forward(self, x):
        def inner(y):
            return y
        return inner(x)


if True:
    def second(x):
        return x

third = lambda x: x
'''


@pytest.mark.parametrize(("text", "name"), [
    ("return x", "first"), ("return y", "inner"), ("return inner", "forward"), ("    return x\n\nthird", "second"),
    ("lambda", None),
])  # fmt: skip
def test_the_function_of_a_line_is_found_without_all_of_its_file(tmp_path: Path, text: str, name: str | None) -> None:
    file = tmp_path / "net.py"
    file.write_text(PARTS)
    line = PARTS[: PARTS.index(text)].count("\n") + 1
    found = find_function(Source("", line, "", str(file)))
    whole = [node for node, _ in list_functions(ast.parse(PARTS)) if node.lineno <= line <= (node.end_lineno or 0)]
    assert (found.name if found is not None else None) == name == (whole[-1].name if whole else None)
    assert found is None or ast.dump(found, include_attributes=True) == ast.dump(whole[-1], include_attributes=True)

"""The text: the same story for terminals and logs, within the width there is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsummary_ipy.diagnosis.rules.sequence import name_step
from modelsummary_ipy.display.render.formatting import format_short
from modelsummary_ipy.display.render.frame import to_dict
from modelsummary_ipy.display.render.header import find_failed
from modelsummary_ipy.display.render.html import render_html
from modelsummary_ipy.display.render.markdown import render_markdown
from modelsummary_ipy.display.render.size_cells import format_leaf, format_leaves
from modelsummary_ipy.display.render.text import render_text
from modelsummary_ipy.display.rows import format_arguments
from modelsummary_ipy.records.trace import Source, TensorSpec
from modelsummary_ipy.records.view import View
from tests import stories
from tests.story_builder import StoryBuilder

ALL = View(columns=("input", "output", "formula", "params", "macs", "activation", "source"))


def columns_of(text: str) -> int:
    """Columns of the widest line, wide characters counted twice."""
    return max(
        sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)
        for line in text.splitlines()
    )


@pytest.mark.parametrize("name", stories.STORIES)
def test_the_text_of_a_story_is_as_it_was_read_and_agreed(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.txt", render_text(stories.STORIES[name](), View()) + "\n")


def test_every_column_can_be_shown(golden: Callable[[str, str], None]) -> None:
    golden("two_convs_all_columns.txt", render_text(stories.two_convs(), ALL) + "\n")


@pytest.mark.parametrize("width", [40, 70, 100, 130])
def test_formula_and_source_are_columns_where_there_is_place_and_lines_where_there_is_none(width: int) -> None:
    text = render_text(stories.two_convs(), ALL, width=width)
    assert columns_of(text) <= width
    lines = text.splitlines()
    assert any("formula" in line and line.endswith("source") for line in lines) == (width == 130)
    for cell in ("[B, 16, H + 8, W + 8]", "net.py:9", "net.py:10"):
        assert any(cell in line for line in lines)


def test_a_narrow_terminal_gets_names_above_their_sizes(golden: Callable[[str, str], None]) -> None:
    golden("failed_unet_50_columns.txt", render_text(stories.failed_unet(), View(), width=50) + "\n")


def test_a_long_line_of_a_failure_goes_on_below_its_text() -> None:
    failure = "forward failed in 'up1'\n  reason    " + "word " * 40
    lines = render_text(stories.failed_unet(), View(), failure_text=failure, width=80).splitlines()
    first, second = [line for line in lines if "word" in line][:2]
    assert first.index("word") == second.index("word") > first.index("reason")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
@pytest.mark.parametrize("name", stories.STORIES)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    assert columns_of(render_text(stories.STORIES[name](), View(), width=width)) <= width


@pytest.mark.parametrize("name", stories.STORIES)
def test_a_narrow_text_says_no_less_than_a_wide_one(name: str) -> None:
    story = stories.STORIES[name]()
    narrow = render_text(story, View(), width=44)
    for row in (line for line in render_text(story, View()).splitlines() if "→" in line):
        for size in (word for word in row.replace("→", " ").split("  ") if word.strip().startswith("[")):
            assert " ".join(size.split()) in " ".join(narrow.split())


def test_wide_characters_keep_the_columns_in_line() -> None:
    build = StoryBuilder("Net", (1, 8), (1, 8))
    build.module("模型", "Linear", (1, 8), (1, 8))
    build.module("model", "Linear", (1, 8), (1, 8))
    lines = [line for line in render_text(build.story(), View()).splitlines() if "Linear" in line]
    starts = [
        sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line[: line.index("[")]) for line in lines
    ]
    assert starts[0] == starts[1]


def test_a_flag_stands_under_its_row_with_words_and_a_fix() -> None:
    lines = render_text(stories.two_convs(), View()).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("!") and "conv0" in line)
    assert lines[at + 1].strip().startswith("warning grown-map: a stride-1 convolution grew the feature map")
    assert lines[at + 2].strip() == "fix: padding=1 keeps 256 × 256"
    assert not any(line.startswith("!") and "conv1" in line for line in lines)


def test_the_first_line_says_that_the_model_was_run() -> None:
    assert render_text(stories.real_run(), View()).startswith("ran for real: .item() at net.py:41\n")


def test_a_failure_is_reported_at_its_row_in_the_words_it_was_given() -> None:
    text = render_text(stories.failed_unet(), View(), failure_text="ForwardError: cat\n  reason  64 is not 65")
    lines = [line.strip() for line in text.splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith("✗") and "cat" in line)
    assert lines[at + 3 : at + 5] == ["ForwardError: cat", "reason  64 is not 65"]
    assert sum("→ failed" in line for line in lines) == 3
    assert [line.split()[0] for line in lines if "not reached" in line] == ["conv", "head"]


def test_a_failure_without_an_explanation_shows_torchs_message_and_the_line() -> None:
    text = render_text(stories.failed_unet(), View())
    assert "RuntimeError at unet.py:22: Sizes of tensors must match except in dimension 1." in text
    assert "line    x = torch.cat([x, skip], dim=1)" in text


def test_a_line_of_a_cell_is_named_alike_wherever_it_is_shown() -> None:
    story = stories.failed_unet()
    failure = replace(story.trace.failure, source=Source("In [5]", 3, "forward"))  # type: ignore[type-var]
    failed = replace(story, trace=replace(story.trace, failure=failure))
    assert find_failed(failed).endswith(" at In [5] line 3")
    assert "RuntimeError at In [5] line 3: Sizes" in render_text(failed, View())
    assert to_dict(failed)["failure"]["source"] == "In [5] line 3"
    cat = next(call for call in failed.trace.calls if call.type_name == "cat")
    assert name_step(cat._replace(source=Source("In [5]", 3))) == "cat at In [5] line 3"


def test_a_failure_outside_every_call_is_reported_above_the_table() -> None:
    story = stories.failed_unet()
    failure = replace(story.trace.failure, call=None)  # type: ignore[type-var]
    rows = tuple(row._replace(status="unreached") for row in story.rows)
    lost = replace(story, rows=rows, trace=replace(story.trace, failure=failure))
    text = render_text(lost, View(), failure_text="ForwardError: forward() takes 1 argument")
    assert text.index("ForwardError: forward() takes 1 argument") < text.index("layer")


def test_totals_are_unsure_where_an_operation_is_not_known() -> None:
    text = render_text(stories.bert_like(), View())
    assert "≥ 82.1 G MACs" in text
    assert "not counted in MACs: my::op" in text
    assert "≥" not in render_text(stories.two_convs(), View())


def test_what_is_not_shown_is_said() -> None:
    assert "25 operations not shown" in render_text(stories.bert_like(), View())
    capped = render_text(stories.all_different(500), View(max_rows=100, depth=99))
    assert "400 rows of 500 not shown: to_frame() has them all" in capped
    assert "more rows not shown here" in capped
    assert "(+5 rows)" in render_text(stories.bert_like(num_layers=1), View(depth=2))


def test_a_list_of_modules_in_which_something_ran_is_not_called_not_called() -> None:
    build = StoryBuilder("Net", (1, 8), (1, 8))
    blocks = build.module("blocks", "ModuleList", status="uncalled")
    build.module("blocks.0", "Linear", (1, 8), (1, 8), parent=blocks)
    build.module("blocks.1", "Linear", parent=blocks, status="uncalled")
    lines = {line.split()[0]: line for line in render_text(build.story(), View()).splitlines() if line.strip()}
    assert "not called" not in lines["blocks"]
    assert "not called" in lines["1"]


@pytest.mark.parametrize("text", stories.HOSTILE)
def test_no_name_can_break_a_line_or_move_the_cursor(text: str) -> None:
    shown = render_text(stories.hostile(text), ALL, width=100)
    assert len(shown.splitlines()) == len(shown.split("\n"))
    assert all(char == "\n" or unicodedata.category(char) not in ("Cc", "Cs") for char in shown)
    assert "\u202e" not in shown
    shown.encode()


@settings(max_examples=80, deadline=None)
@given(text=st.text(min_size=1, max_size=40), width=st.integers(20, 120))
def test_any_name_is_one_line_of_printable_text(text: str, width: int) -> None:
    shown = render_text(stories.hostile(text), ALL, width=width)
    assert len(shown.splitlines()) == len(shown.split("\n"))
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown.replace("\n", ""))
    shown.encode()


@pytest.mark.parametrize(
    ("limits", "written"),
    [
        (("H ≤ 65", "H ≥ 62"), "works for 62 ≤ H ≤ 65"),
        (("H and W ≤ 64", "T ≤ 512", "H and W ≥ 32"), "works for 32 ≤ H, W ≤ 64; T ≤ 512"),
        (("H ≤ 65", "H and W ≥ 62"), "works for H ≤ 65; H and W ≥ 62"),
        (("H divisible by 2", "H ≥ 2", "C = 3"), "works for H divisible by 2; H ≥ 2; C = 3"),
    ],
)
def test_limits_below_and_above_are_one_range(limits: tuple[str, ...], written: str) -> None:
    text = render_text(replace(stories.two_convs(), constraints=limits), View())
    assert f"  {written}\n" in text


def test_how_operations_are_shown_is_said_as_the_reader_would_type_it() -> None:
    story = stories.bert_like()
    assert "(show(ops=True) shows them)" in render_text(story, View())
    assert "(--ops shows them)" in render_text(story, View(from_magic=True))


def test_from_a_billion_on_parameters_have_three_digits() -> None:
    story = stories.two_convs()
    param = story.trace.params[0]._replace(num=70_553_706_496)
    big = replace(
        story,
        trace=replace(story.trace, params=(param,)),
        rows=(story.rows[0]._replace(num_params=70_553_706_496), *story.rows[1:]),
    )
    text = render_text(big, View())
    assert "70.6 B parameters" in text
    assert re.search(r"^  Net .* 70.6 B ", text, re.MULTILINE)
    assert "4,800 parameters" in render_text(story, View())


def test_flops_are_shown_once_everywhere_in_the_place_of_macs() -> None:
    story = stories.bert_like()
    macs, flops = View(), View(flops=True)
    texts = [
        (render_text(story, view), render_markdown(story, view), render_html(story, view, packed=False))
        for view in (macs, flops)
    ]
    for in_macs, in_flops in zip(*texts, strict=True):
        assert ("MACs" in in_macs, "FLOPs" in in_macs) == (True, False)
        assert ("MACs" in in_flops, "FLOPs" in in_flops) == (False, True)
    assert story.total_mult_adds is not None
    for text in texts[1]:
        assert format_short(2 * story.total_mult_adds) in text
        assert format_short(story.total_mult_adds) not in text


def test_backward_and_train_are_columns() -> None:
    story = stories.two_convs()
    known = {row.index: 100 + row.index if row.path else None for row in story.rows}
    columns = ("macs", "backward", "train")
    lines = render_text(replace(story, backward=known), View(columns=columns)).splitlines()
    assert any(line.split()[-3:] == ["MACs", "backward", "train"] for line in lines)
    macs = [story.costs[row.index].mult_adds or 0 for row in story.rows]
    conv = next(row.index for row in story.rows if row.path == "conv0")
    flops = render_text(replace(story, backward=known), View(columns=columns, flops=True))
    (shown,) = [line.split() for line in flops.splitlines() if re.match("! +conv0", line)]
    numbers = (2 * macs[conv], 2 * (100 + conv), 2 * (macs[conv] + 100 + conv))
    assert shown[3:] == " ".join(map(format_short, numbers)).split()
    whole = [line for line in lines if line.split()[:1] == [story.trace.model_type]][-1]
    assert whole.split()[-2:] == ["?", "?"]
    assert "?" not in render_text(story, View(columns=columns))  # where no step was traced there is nothing to say


def test_a_line_tells_which_kinds_do_the_work() -> None:
    story = stories.bert_like()
    assert sum(story.mult_adds_by_type.values()) == story.total_mult_adds
    assert "  MACs: Linear 97.1%, scaled_dot_product_attention 2.9%" in render_text(story, View()).splitlines()
    assert "FLOPs: Linear 97.1%" in render_markdown(story, View(flops=True))
    assert "MACs: " not in render_text(stories.two_convs(), View())


def test_the_tensors_of_a_cache_share_a_line() -> None:
    def give(layer: int, what: str, length: int = 16) -> TensorSpec:
        return TensorSpec(f".past_key_values.layers[{layer}].{what}", (2, 4, length, 8), "float32", "cpu")

    logits = TensorSpec(".logits", (2, 16, 100), "float32", "cpu")
    leaves = [logits, *(give(layer, what) for layer in range(3) for what in ("keys", "values")), give(3, "keys", 5)]
    assert [format_leaf(line) for line in format_leaves(leaves)] == [
        ".logits [2, 16, 100]",
        ".past_key_values.layers[0].keys … .past_key_values.layers[2].values 6 × [2, 4, 16, 8]",
        ".past_key_values.layers[3].keys [2, 4, 5, 8]",
    ]


def test_the_arguments_of_an_operation_are_those_that_say_something() -> None:
    """Torch's own Python hands on all fourteen of a Fourier transform, most of them ``None``."""
    arguments = (("n_fft", 400), ("hop_length", 160), ("win_length", None), ("center", True), ("pad_mode", "reflect"))
    assert (
        format_arguments((("input", ...), *arguments)) == "n_fft=400, hop_length=160, center=True, pad_mode='reflect'"
    )
    assert format_arguments((*arguments, ("normalized", False))).endswith("pad_mode='reflect', …")
    assert format_arguments((("1", None), ("2", (slice(None), None)), ("inplace", False))) == "None, (:, None)"


def test_of_many_inputs_every_output_shows_the_first_seven_and_counts_the_rest() -> None:
    build = StoryBuilder("Many", {f"[{place}]": (2, place + 1) for place in range(10)}, (2, 3))
    story = build.story()
    for shown in (render_text(story, View()), render_markdown(story, View()), render_html(story, View(), packed=False)):
        assert "[6]" in shown
        assert "… 3 more inputs" in shown
    assert "[7]" not in render_text(story, View()).partition("input → output")[0]

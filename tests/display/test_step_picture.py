"""The picture of a training step, its table, and what makes up most of a total, against counts by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from bs4 import BeautifulSoup

from modelsummary_ipy.display.outline import build_outline
from modelsummary_ipy.display.render.html import render_html
from modelsummary_ipy.display.render.largest import find_largest, name_rows
from modelsummary_ipy.display.render.step_picture import build_step_picture
from modelsummary_ipy.records.summary import Memory, Story
from modelsummary_ipy.records.training import Moment, StorageLife, Training
from modelsummary_ipy.records.view import View
from tests import stories
from tests.story_builder import StoryBuilder

#: 100 bytes of weights all along; 40 that conv0 saves (moments 1 to 4); at the backward of conv1 60 more; a gradient.
STEP = Training(
    storages=(
        StorageLife(100, 0, 6, "parameter", 2),
        StorageLife(40, 1, 4, "saved activation", 1),
        StorageLife(60, 3, 3, "activation gradient", 2, "backward"),
        StorageLife(30, 4, 6, "gradient", 1, "backward"),
        StorageLife(10, 5, 5, "temporary", None, "optimizer"),
    ),
    moments=(
        Moment("forward"), Moment("forward", 1), Moment("forward", 2), Moment("backward", 2), Moment("backward", 1),
        Moment("optimizer"), Moment("optimizer"),
    ),
)  # fmt: skip


def story(step: Training | None = STEP) -> Story:
    memory = Memory(100, 0, 0, 40, 30, 0, 140, peak_bytes=200)
    return replace(stories.two_convs(), training=step, memory=memory)


def read_heights(path: str) -> list[int]:
    """The height of an area in each column, from the path itself."""
    y, heights = 100, []
    for command, number in re.findall(r"([vh])(-?\d+)", path):
        if command == "v":
            y += int(number)
        else:
            heights += [100 - y] * int(number)
    return heights


def test_areas_are_stacked_as_high_as_their_bytes_and_the_peak_is_marked() -> None:
    picture = build_step_picture(story())
    assert picture is not None
    assert picture.columns == 7
    # of 200 bytes at the peak: weights 100, saved 40, gradients, gradients of activations, temporary
    assert [(at, read_heights(path)) for at, path in reversed(picture.areas)] == [
        (0, [50, 50, 50, 50, 50, 50, 50]),
        (4, [50, 70, 70, 70, 70, 50, 50]),
        (5, [50, 70, 70, 70, 85, 65, 65]),
        (6, [50, 70, 70, 100, 85, 65, 65]),
        (7, [50, 70, 70, 100, 85, 70, 65]),
    ]
    assert (picture.peak_percent, picture.peak) == (50.0, "200 B at the backward of conv1")
    assert [(spot.x, spot.width, spot.row, spot.title) for spot in picture.spots] == [
        (0, 1, None, "100 B at the forward"),
        (1, 1, 1, "140 B at the forward of conv0"),
        (2, 1, 2, "140 B at the forward of conv1"),
        (3, 1, 2, "200 B at the backward of conv1"),
        (4, 1, 1, "170 B at the backward of conv0"),
        (5, 2, None, "140 B at the optimizer"),
    ]
    assert picture.phases == (("forward", "0.0"), ("backward", "42.9"), ("optimizer", "71.4"))


def test_a_long_step_is_drawn_in_few_columns_and_keeps_its_peak() -> None:
    moments = tuple(Moment("forward", 1) for _ in range(5000))
    lives = [StorageLife(10, 0, 4999, "parameter", 1), StorageLife(90, 3217, 3217, "temporary", 1)]
    picture = build_step_picture(story(Training(tuple(lives), moments)))
    assert picture is not None
    assert picture.columns <= 120
    assert max(read_heights(picture.areas[0][1])) == 100
    assert picture.peak == "100 B at the forward of conv0"
    assert picture.peak_percent == pytest.approx(100 * 3217 / 5000, abs=1)


@pytest.mark.parametrize("packed", [True, False])
def test_the_table_says_the_same_with_and_without_a_script(packed: bool) -> None:
    soup = BeautifulSoup(render_html(story(), View(), packed=packed), "lxml")
    rows = [[cell.get_text(strip=True) for cell in row.select("th, td")] for row in soup.select(".ms-peaks tr")]
    assert rows == [
        ["peak of the", "forward", "backward", "optimizer"],
        ["at", "conv0", "conv1", "step"],
        ["temporary", "", "", "10 B"],
        ["activation gradient", "", "60 B", ""],
        ["gradient", "", "", "30 B"],
        ["saved activation", "40 B", "40 B", ""],
        ["parameter", "100 B", "100 B", "100 B"],
        ["all", "140 B", "200 B", "140 B"],
    ]
    assert bool(soup.select("svg.ms-step")) == (not packed)


def test_nothing_is_drawn_where_there_is_no_step() -> None:
    assert build_step_picture(story(None)) is None
    assert build_step_picture(story(Training(reason="nothing to train"))) is None
    assert build_step_picture(replace(story(), memory=None)) is None
    assert ".ms-peaks" not in render_html(stories.two_convs(), View()).partition("<script>")[0]


def test_the_largest_of_each_total_lead_to_their_rows() -> None:
    known = story()
    outline = build_outline(known, View())
    keys = name_rows(outline)
    # 160 and 4,640 of 4,800 parameters; at the peak conv1 holds 100 + 60, conv0 40 of 200 bytes
    assert find_largest(known, outline, keys, "params") == (("conv1", "96.7%", "2"), ("conv0", "3.3%", "1"))
    assert find_largest(known, outline, keys, "held") == (("conv1", "80.0%", "2"), ("conv0", "20.0%", "1"))
    soup = BeautifulSoup(render_html(known, View(), packed=False), "lxml")
    assert [place["data-row"] for place in soup.select(".ms-total small span")] == ["2", "1"] * 3


def test_what_no_layer_holds_is_held_by_the_model_itself_and_the_loss_has_its_name() -> None:
    ran = (Moment("forward"), Moment("forward", 0), Moment("forward"), Moment("backward", 2), Moment("optimizer"))
    lives = (StorageLife(90, 1, 2, "saved activation", 0), StorageLife(10, 2, 2, "temporary", None))
    known = story(replace(STEP, moments=ran, storages=(*lives, StorageLife(30, 0, 4, "parameter", 2))))
    outline = build_outline(known, View())
    found = find_largest(known, outline, name_rows(outline), "held")
    assert [(one.name, one.share) for one in found] == [("Net itself", "69.2%"), ("conv1", "23.1%")]
    picture = build_step_picture(known)
    assert picture is not None
    assert [text for text, _ in picture.lines[0][2]] == ["loss", "conv1", "step"]
    assert "kept for the backward pass, input included, loss excluded" in render_html(known, View(), packed=False)


def test_without_a_step_the_largest_are_what_is_kept_for_the_backward_and_a_number_alone_has_its_type() -> None:
    build = StoryBuilder("Net", (2, 8), (2, 8))
    for path, kept in (("0", 300), ("1", 100), ("2.fc", 0)):
        build.module(path, "Linear", (2, 8), (2, 8), params={"weight": (8, 8)}, activation=kept)
    known = build.story(memory=Memory(768, 0, 64, 400, 768, 1536, 128, 2000))
    outline = build_outline(known, View())
    found = find_largest(known, outline, name_rows(outline), "activation")
    assert [(one.name, one.share) for one in found] == [("0 Linear", "75.0%"), ("1 Linear", "25.0%")]
    words = BeautifulSoup(render_html(known, View(), packed=False), "lxml").get_text(" ")
    assert "most kept for the backward pass: 0 Linear 75.0%, 1 Linear 25.0%" in " ".join(words.split()).replace(
        " ,", ","
    )


def test_the_steps_of_a_loop_are_one_of_the_largest_with_the_first_that_stands_before() -> None:
    build = StoryBuilder("Net", (2, 8), (2, 8))
    for step in range(5):
        build.module("cell", "GRUCell", (2, 8 if step else 4), (2, 8), mult_adds=40)
        build.module("out", "Linear", (2, 8), (2, 2), mult_adds=10)
    known = build.story()
    outline = build_outline(known, View())
    found = find_largest(known, outline, name_rows(outline), "macs")
    assert found == (("cell", "16.0% each of 5", "1"), ("out", "4.0% each of 5", "2"))


def test_weights_that_are_tied_count_where_they_are_first() -> None:
    build = StoryBuilder("Net", (2, 8), (2, 8))
    for path in ("first", "second", "third"):
        build.module(path, "Linear", (2, 8), (2, 8), params={"weight": (8, 8)})
    known = build.story()
    model, first, second, third = known.trace.modules
    tied = (model, first, second._replace(params=first.params), third)
    known = replace(known, trace=replace(known.trace, modules=tied))
    outline = build_outline(known, View())
    assert [one.name for one in find_largest(known, outline, name_rows(outline), "params")] == ["first", "third"]


def test_the_modules_around_all_of_the_largest_are_left_out_but_no_number_is() -> None:
    build = StoryBuilder("Net", (2, 8), (2, 8))
    for path in ("net.stages.3.up", "net.stages.3.down", "net.stages.2.head"):
        build.module(path, "Linear", (2, 8), (2, 8), params={"weight": (8, 8)})

    def names(known: Story) -> list[str]:
        outline = build_outline(known, View())
        return [one.name for one in find_largest(known, outline, name_rows(outline), "params")]

    assert names(build.story()) == ["stages.3.up", "stages.3.down", "stages.2.head"]
    for paths in (["stages.3.layers.0", "stages.3.layers.1"], ["0.up", "0.down"]):
        same = StoryBuilder("Net", (2, 8), (2, 8))
        for path in paths:
            same.module(path, "Linear", (2, 8), (2, 8), params={"weight": (8, 8)})
        assert names(same.story()) == paths


def test_a_name_that_two_blocks_have_is_not_cut() -> None:
    build = StoryBuilder("Net", (2, 8), (2, 8))
    for path, width in (("one.layers.1", 1), ("two.layers.1", 8), ("two.layers.2", 8), ("two.layers.3", 8)):
        build.module(path, "Linear", (2, 8), (2, 8), params={"weight": (8, width)})
    known = build.story()
    outline = build_outline(known, View(fold=False))
    largest = find_largest(known, outline, name_rows(outline), "params")
    assert [one.name for one in largest] == ["two.layers.1", "two.layers.2", "two.layers.3"]


def test_of_layers_that_are_folded_each_is_counted_for_itself() -> None:
    known = stories.bert_like(12)
    outline = build_outline(known, View())
    largest = find_largest(known, outline, name_rows(outline), "params")
    each = [one for one in largest if one.share.endswith(" each of 12")]
    assert each
    sizes = {row.path: row.placed_params for row in known.rows}
    for one in each:
        path = next(path for path in sizes if path.endswith(one.name))
        assert one.share.startswith(f"{100 * sizes[path] / known.total_params:.1f}%")


@pytest.mark.parametrize(("budget", "name", "words"), [(100, "ms-misfit", "does not fit"), (1000, "ms-fits", "fits")])
def test_whether_it_fits_is_said_in_words_and_colour(budget: int, name: str, words: str) -> None:
    memory = Memory(100, 0, 0, 40, 30, 0, 140, peak_bytes=200, budget_bytes=budget, budget_text=f"{budget} B")
    soup = BeautifulSoup(render_html(replace(story(), memory=memory), View(), packed=False), "html.parser")
    [verdict] = soup.select(f"span.{name}")
    assert verdict.text.partition(":")[0] == f"{words} {budget} B"
    assert verdict.parent is not None
    assert verdict.parent.text.count(words) == 1

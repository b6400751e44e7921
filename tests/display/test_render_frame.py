"""The tables of raw numbers: the seed's to the letter, and one with every row and column."""

from __future__ import annotations

import csv
import io
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsummary_ipy.display.render.frame import render_csv, render_json, seed_frame, to_dict, to_frame
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.trace import TensorSpec
from tests import stories
from tests.story_builder import StoryBuilder


def test_the_seeds_worked_example_is_what_it_was() -> None:
    frame = seed_frame(stories.two_convs())
    expected = pd.DataFrame(
        {
            "Name": ["conv0", "conv1"],
            "Type": ["Conv2d", "Conv2d"],
            "InSz": [[1, 1, 256, 256], [1, 16, 264, 264]],
            "OutSz": [[1, 16, 264, 264], [1, 32, 262, 262]],
            "Params": [160, 4640],
        }
    )
    pd.testing.assert_frame_equal(frame.astype(expected.dtypes), expected)
    assert frame["Params"].dtype == "int64"
    assert str(frame).splitlines() == [
        "    Name    Type               InSz              OutSz  Params",
        "0  conv0  Conv2d   [1, 1, 256, 256]  [1, 16, 264, 264]     160",
        "1  conv1  Conv2d  [1, 16, 264, 264]  [1, 32, 262, 262]    4640",
    ]


def test_several_tensors_are_a_list_of_sizes() -> None:
    row = seed_frame(stories.nested_leaves()).set_index("Name").loc["rnn"]
    assert row["InSz"] == [[2, 9, 16], [1, 2, 32], [1, 2, 32]]
    assert row["OutSz"] == [[2, 9, 32], [1, 2, 32], [1, 2, 32]]


def test_only_leaf_modules_are_listed_in_execution_order_call_by_call() -> None:
    frame = seed_frame(stories.bert_like(num_layers=1))
    assert list(frame["Name"]) == [
        "embeddings.word_embeddings", "embeddings.LayerNorm", "encoder.layer.0.query", "encoder.layer.0.key",
        "encoder.layer.0.value", "encoder.layer.0.up", "encoder.layer.0.down", "pooler.dense", "head",
    ]  # fmt: skip
    assert list(seed_frame(stories.repeated_calls(2))["Name"]) == ["cell", "cell", "left", "right", "left", "right"]


def test_a_module_whose_submodules_did_not_run_is_a_leaf_with_their_parameters() -> None:
    build = StoryBuilder("Net", (1, 4), (1, 4))
    attention = build.module("attention", "MultiheadAttention", (1, 4), (1, 4), params={"in_proj_weight": (12, 4)})
    build.module("attention.out_proj", "Linear", parent=attention, params={"weight": (4, 4)}, status="uncalled")
    frame = seed_frame(build.story())
    assert list(frame["Name"]) == ["attention"]
    assert list(frame["Params"]) == [48 + 16]


def test_a_list_of_modules_is_no_leaf_and_neither_is_what_holds_it() -> None:
    build = StoryBuilder("Net", (1, 4), (1, 4))
    encoder = build.module("encoder", "Encoder", (1, 4), (1, 4))
    blocks = build.module("encoder.blocks", "ModuleList", parent=encoder, status="uncalled")
    build.module("encoder.blocks.0", "Linear", (1, 4), (1, 4), parent=blocks)
    build.module("encoder.blocks.1", "Linear", parent=blocks, status="uncalled")
    assert list(seed_frame(build.story())["Name"]) == ["encoder.blocks.0", "encoder.blocks.1"]


def test_sizes_that_are_not_known_are_none() -> None:
    frame = seed_frame(stories.static_net())
    assert list(frame["Name"]) == ["conv0", "conv1", "conv2"]
    assert list(frame["InSz"]) == [None, None, None]
    assert list(frame["Params"]) == [576, 1152, 1728]


def test_a_story_without_rows_is_an_empty_frame_with_its_columns() -> None:
    story = Story(stories.two_convs().trace, ())
    assert list(seed_frame(story).columns) == ["Name", "Type", "InSz", "OutSz", "Params"]
    assert seed_frame(story)["Params"].dtype == "int64"
    assert len(to_frame(story)) == 0
    assert to_frame(story)["num_params"].dtype == "int64"


def test_the_full_frame_has_every_row_and_raw_numbers() -> None:
    story = stories.mixture(3, 16)
    frame = to_frame(story)
    assert len(frame) == len(story.rows)
    assert frame["num_params"].max() == 3 * (16 * 64 + 16 * 3 * 64 * 64)
    assert list(frame.nlargest(1, "num_params")["path"]) == [""]
    assert (frame["path"] == "layers.1.experts.7").sum() == 1


def test_a_row_of_the_full_frame_says_all_that_is_known() -> None:
    row = to_frame(stories.two_convs()).set_index("path").loc["conv0"]
    assert row["inputs"] == (TensorSpec("", (1, 1, 256, 256), "float32", "cpu"),)
    assert row["output_size"] == (1, 16, 264, 264)
    assert row["output_dtype"] == "float32"
    assert row["output_formula"] == ("B", "16", "H + 8", "W + 8")
    assert (row["own_params"], row["num_params"], row["trainable_params"]) == (160, 160, 160)
    # 264 * 264 positions, 16 * 9 multiplications each
    assert row["mult_adds"] == row["own_mult_adds"] == 264 * 264 * 16 * 9
    assert row["flags"] == ("warning grown-map",)
    assert (row["source"], row["status"], row["kind"], row["depth"]) == ("net.py:9", "ran", "module", 1)


def test_unknown_costs_are_missing_values_not_zeros() -> None:
    frame = to_frame(stories.nested_leaves()).set_index("path")
    assert frame["mult_adds"].dtype == "Int64"
    assert frame["mult_adds"].isna().to_dict() == {"": True, "rnn": True, "pack": False, "ragged": False}


def test_the_dict_survives_json_and_agrees_with_the_frame() -> None:
    story = stories.bert_like(flagged=4)
    said = json.loads(json.dumps(to_dict(story)))
    assert said == to_dict(story)
    assert (said["total_params"], said["trainable_params"]) == (story.total_params, story.trainable_params)
    frame = to_frame(story)
    assert [row["num_params"] for row in said["rows"]] == list(frame["num_params"])
    assert said["flags"] == [
        {
            "rule": "batch-lost", "severity": "warning", "row": 39, "path": "encoder.layer.4.key",
            "message": "the batch of 8 moved to dim 1", "fix": "x.transpose(0, 1)",
                "code": "", "numbers": {}, "more": [],
        }
    ]  # fmt: skip


def test_the_dict_says_how_it_failed() -> None:
    failure = to_dict(stories.failed_unet())["failure"]
    assert failure["source"] == "unet.py:22"
    assert stories.failed_unet().rows[failure["row"]].type_name == "cat"


def test_csv_has_the_rows_with_sizes_as_people_write_them() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(stories.nested_leaves()))))
    rnn = next(row for row in rows if row["path"] == "rnn")
    assert rnn["input_size"] == "[[2, 9, 16], [1, 2, 32], [1, 2, 32]]"
    assert rnn["num_params"] == "6144"
    assert rnn["mult_adds"] == ""


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1"])
def test_no_cell_of_a_csv_starts_a_formula(start: str) -> None:
    for row in csv.reader(io.StringIO(render_csv(stories.hostile(start)), newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


@pytest.mark.parametrize("text", stories.HOSTILE)
def test_any_name_survives(text: str) -> None:
    check_survives(text)


@settings(max_examples=60, deadline=None)
@given(text=st.text(min_size=1))
def test_any_text_survives(text: str) -> None:
    check_survives(text)


def check_survives(text: str) -> None:
    story = stories.hostile(text)
    assert seed_frame(story)["Name"][0] == text
    assert to_frame(story)["path"][1] == text
    said = json.loads(render_json(story))
    assert said["rows"][1]["path"] == text
    rows = list(csv.reader(io.StringIO(render_csv(story), newline="")))
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == 1 + len(story.rows)
    render_csv(story).encode()
    render_json(story).encode()

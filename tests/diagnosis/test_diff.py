"""What changed between two summaries."""

from __future__ import annotations

from typing import Any

import lxml.html
import pytest
from torch import nn

from modelsummary_ipy import ModelSummary, Size


class Net(nn.Module):
    def __init__(self, width: int = 8, *, pad: int = 1, last: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=pad)
        self.act = nn.ReLU()
        self.last = last if last is not None else nn.Conv2d(width, 4, 1)

    def forward(self, x: Any) -> Any:
        return self.last(self.act(self.conv(x)))


def summarise(net: nn.Module, text: str = "B=2 3 H=8 W=8") -> ModelSummary:
    return ModelSummary(net, Size(text))


def test_a_summary_does_not_differ_from_itself() -> None:
    net = Net()
    difference = summarise(net).diff(summarise(net))
    assert not difference
    assert str(difference) == "nothing changed"
    assert "nothing changed" in difference._repr_html_()


def test_sizes_that_move_as_their_formula_predicts_are_quiet() -> None:
    net = Net()
    difference = summarise(net, "B=5 3 H=12 W=10").diff(summarise(net))
    assert {change.what for change in difference.changes} == {"moved"}
    assert len(difference) == 4
    assert difference.unexpected == ()
    assert str(difference) == "input [2, 3, 8, 8] → [5, 3, 12, 10]\n4 rows changed as their formulas predict"


def test_a_row_that_changed_in_something_else_is_not_among_those_that_only_moved() -> None:
    old, new = summarise(Net(8)), summarise(Net(8, last=nn.Conv2d(8, 4, 3, padding=1)), "B=5 3 H=8 W=8")
    text = str(new.diff(old))
    assert "last  other parameters" in text
    assert "3 rows changed as their formulas predict" in text, "the model, conv and act"


def test_layers_that_were_frozen_have_no_other_parameters() -> None:
    net = Net()
    old = summarise(net)
    net.last.requires_grad_(False)
    new = summarise(net)
    assert [(change.path, change.what) for change in new.diff(old).changes] == [("last", "frozen")]
    assert str(new.diff(old)).splitlines()[-1].startswith("last  frozen")
    assert str(old.diff(new)).splitlines()[-1].startswith("last  trainable again")


def test_an_edited_layer_is_reported_with_old_and_new() -> None:
    difference = summarise(Net(16)).diff(summarise(Net(8)))
    told = {(change.path, change.what) for change in difference.changes}
    assert told == {("conv", "params"), ("conv", "size"), ("act", "size"), ("last", "params")}
    text = str(difference)
    assert "parameters 260 → 516" in text  # 3·8·9+8 + 8·4+4 and 3·16·9+16 + 16·4+4
    assert (
        "conv  other parameters, another shape  [2, 8, 8, 8] 224 params → [2, 16, 8, 8] 448 params\n"
        "act   another shape                    [2, 8, 8, 8] → [2, 16, 8, 8]\n" in text
    )
    assert "formula" not in text  # of the same sizes no formula predicts anything else


def test_an_added_a_removed_and_a_changed_layer_are_reported() -> None:
    old = summarise(Net())
    new = summarise(Net(last=nn.Sequential(nn.Conv2d(8, 4, 1), nn.Sigmoid())))
    told = {(change.path, change.what) for change in new.diff(old).changes}
    assert {("last", "type"), ("last.0", "added"), ("last.1", "added")} <= told
    back = {(change.path, change.what) for change in old.diff(new).changes}
    assert {("last.0", "removed"), ("last.1", "removed")} <= back


def test_a_size_that_leaves_its_formula_is_unexpected() -> None:
    difference = summarise(Net(pad=2), "B=2 3 H=12 W=12").diff(summarise(Net(pad=1)))
    assert [(c.what, c.expected) for c in difference.changes if c.path == "conv"] == [
        ("settings", None),
        ("size", False),
    ]
    assert "against its formula" in str(difference)


def thin(x: Any, times: int = 2) -> Any:
    """Leave steps of a long sequence out."""
    return x[:, ::times] if x.shape[1] > 6 else x


class Head(nn.Module):
    """It looks at every second step of a long sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: Any) -> Any:
        return self.block(thin(self.first(x)))


def test_rows_that_move_otherwise_than_their_formula_says_are_flagged_where_it_begins() -> None:
    net = Head()
    difference = summarise(net, "B=2 T=4 4").diff(summarise(net, "B=2 T=20 4"))
    assert {change.path: change.what for change in difference.changes} == {
        "": "size", "first": "moved", "block": "size", "block.0": "size", "block.1": "size",
    }  # fmt: skip
    assert [change.path for change in difference.otherwise] == ["", "block", "block.0", "block.1"]
    assert [(flag.path, flag.severity) for flag in difference.flags] == [("block.0", "warning")]
    assert difference.flags[0].message == (
        "[2, 10, 4] at the old sizes, [2, 4, 4] at the new; its formula was [B, ⌈T/2⌉, 4]; the next row follows from it"
    )
    assert summarise(net, "B=3 T=20 4").diff(summarise(net, "B=2 T=20 4")).flags == ()
    assert summarise(Head(), "B=2 T=20 4").diff(summarise(net, "B=2 T=20 4")).flags == ()


def test_every_place_where_it_begins_is_flagged() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.whole, self.two = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.one(thin(x)), self.whole(x), self.two(thin(x, 4))

    net = Twice()
    difference = summarise(net, "B=2 T=4 4").diff(summarise(net, "B=2 T=20 4"))
    assert [flag.path for flag in difference.flags] == ["one", "two"]


def test_a_net_without_layers_is_flagged_itself() -> None:
    class Cut(nn.Module):
        def forward(self, x: Any) -> Any:
            return thin(x) * 2

    net = Cut()
    difference = summarise(net, "B=2 T=4 4").diff(summarise(net, "B=2 T=20 4"))
    assert [(flag.path, flag.row) for flag in difference.flags] == [("", 0)]


def test_a_page_shows_the_flags_it_is_given() -> None:
    net = Head()
    after = summarise(net, "B=2 T=4 4")
    page = lxml.html.fromstring(after.to_html(flags=after.diff(summarise(net, "B=2 T=20 4")).flags))
    flagged = [row.xpath("string(./summary//th)").split()[0] for row in page.find_class("ms-flag")]
    assert flagged == ["0"]
    assert "moved-otherwise" in page.text_content()
    assert "moved-otherwise" not in after.to_html()
    assert after.flags == summarise(net, "B=2 T=4 4").flags


def test_a_run_that_fails_is_reported_where_it_fails() -> None:
    net = Net()
    difference = summarise(net, "B=2 4 H=8 W=8").diff(summarise(net))
    told = {change.path: change.what for change in difference.unexpected}
    assert told["conv"] == "size"
    assert "failed" in str(difference)
    assert "not reached" in str(difference)


def read_table(shown: str) -> list[list[str]]:
    """The cells of each row; a fold is one cell, and the rows in it come after it."""
    rows = lxml.html.fromstring(shown).xpath(".//tbody/tr")
    return [[cell.xpath("string(.//summary)") or cell.text_content() for cell in row.xpath("./td")] for row in rows]


def test_the_html_has_both_side_by_side_and_folds_what_is_equal() -> None:
    layers = [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Dropout(0.1), nn.Identity()]
    edited = [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3), nn.Dropout(0.2)]
    shown = summarise(nn.Sequential(*edited), "8 4").diff(summarise(nn.Sequential(*layers), "8 4"))._repr_html_()
    assert read_table(shown) == [
        ["model", "another shape", "Sequential · [8, 2]", "Sequential · [8, 3]"],
        ["2 rows alike"],
        ["0", "", "Linear 4→4 · [8, 4] · 20 params"],
        ["1", "", "ReLU · [8, 4]"],
        ["2", "other parameters, another shape", "Linear 4→2 · [8, 2] · 10 params", "Linear 4→3 · [8, 3] · 15 params"],
        ["3", "other settings, another shape", "Dropout 0.1 · [8, 2]", "Dropout 0.2 · [8, 3]"],
        ["4", "removed", "Identity · [8, 2]", ""],
    ]
    tree = lxml.html.fromstring(shown)
    assert tree.xpath(".//tr[td='2']//strong/text()") == [
        "Linear 4→2", "[8, 2]", "10 params", "Linear 4→3", "[8, 3]", "15 params",
    ]  # fmt: skip


def test_a_row_that_was_removed_stands_where_it_was_and_settings_alone_are_not_folded() -> None:
    class Edited(Net):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Identity()
            self.conv = nn.Conv2d(3, 8, 3, padding=2, dilation=2)

    class Older(Net):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Sequential(nn.ReLU())

    rows = read_table(summarise(Edited()).diff(summarise(Older()))._repr_html_())
    assert [row[:2] for row in rows] == [
        ["model", "another type"], ["conv", "other settings"], ["act", "another type"], ["act.0", "removed"],
        ["last", ""],
    ]  # fmt: skip


class Scaled(nn.Module):
    """It counts its calls, and says of itself how much it scales."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.calls = scale, 0

    def forward(self, x: Any) -> Any:
        return x * self.scale

    def extra_repr(self) -> str:
        return f"by {self.scale}"


@pytest.mark.parametrize(
    ("old", "new", "was", "now"),
    [
        (nn.Dropout(0.1), nn.Dropout(0.2), "p=0.1", "p=0.2"),
        (
            nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
            "padding_mode='zeros'", "padding_mode='circular'",
        ),
        (Scaled(2), Scaled(3), "by 2", "by 3"),
    ],
)  # fmt: skip
def test_other_settings_alone_are_a_change(old: nn.Module, new: nn.Module, was: str, now: str) -> None:
    before, after = (ModelSummary(nn.Sequential(layer), (2, 3, 8, 8)) for layer in (old, new))
    difference = after.diff(before)
    assert difference
    assert [(change.path, change.what) for change in difference.unexpected] == [("0", "settings")]
    assert str(difference) == f"0  other settings  {was} → {now}"
    row = read_table(difference._repr_html_())[-1]
    assert row[1] == "other settings"
    assert row[2] != row[3]


def test_what_counts_up_and_the_mode_are_no_settings() -> None:
    net = nn.Sequential(Scaled(2), nn.Dropout(0.1))
    before = ModelSummary(net, (2, 3))
    net[0].calls += 1
    assert not ModelSummary(net.eval(), (2, 3)).diff(before)


def test_a_fold_says_that_its_rows_moved_as_predicted_and_how_many_it_leaves_out() -> None:
    layers = [(nn.ReLU, nn.Tanh)[at % 2]() for at in range(150)]
    old, new = (nn.Sequential(*layers, nn.Linear(4, width)) for width in (2, 3))
    rows = read_table(summarise(new, "B=8 4").diff(summarise(old, "B=5 4"))._repr_html_())
    assert rows[1] == ["150 rows as predicted"]
    assert rows[2] == ["0", "", "ReLU · [5, 4]", "ReLU · [8, 4]"]
    assert rows[-2] == ["… 50 more"]
    assert rows[-1][0] == "150"


class Blocks(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(depth))

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def test_blocks_that_changed_alike_are_one_line_and_what_is_in_a_removed_one_is_not_listed() -> None:
    difference = summarise(Blocks(6, 3), "B=2 6").diff(summarise(Blocks(4, 5), "B=2 4"))
    assert str(difference).splitlines() == [
        "input [2, 4] → [2, 6] · parameters 100 → 126",
        "model         another shape                    [2, 4] → [2, 6]",
        "blocks.0–2    another shape                    [2, 4] → [2, 6]",
        "blocks.0–2.0  other parameters, another shape  [2, 4] 20 params → [2, 6] 42 params",
        "blocks.0–2.1  another shape                    [2, 4] → [2, 6]",
        "blocks.3–4    removed                          Sequential [2, 4] 20 params (+2 rows)",
    ]
    shown = [row[0] for row in read_table(difference._repr_html_())]
    assert shown == ["model", "blocks", "blocks.0–2", "blocks.0–2.0", "blocks.0–2.1", "blocks.3–4"]


def test_blocks_that_changed_otherwise_or_do_not_follow_each_other_stay_apart() -> None:
    def build(*widths: int) -> nn.Module:
        return nn.Sequential(*(nn.Sequential(nn.Linear(4, width), nn.Linear(width, 4)) for width in widths))

    lines = str(summarise(build(8, 8, 9, 3, 8), "B=2 4").diff(summarise(build(3, 3, 3, 3, 3), "B=2 4"))).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0–1.0", "0–1.1", "2.0", "2.1", "4.0", "4.1"]


@pytest.mark.parametrize("name", ["<b>x</b>", "a&b", "'\"><script>"])
def test_the_html_escapes_what_the_model_says(name: str) -> None:
    old, new = nn.Sequential(), nn.Sequential()
    old.add_module(name, nn.Linear(4, 2))
    new.add_module(name, nn.Linear(4, 3))
    shown = summarise(new, "2 4").diff(summarise(old, "2 4"))._repr_html_()
    tree = lxml.html.fromstring(shown)
    assert tree.xpath(".//b | .//script") == []
    assert name in [cell.text_content() for cell in tree.xpath(".//td")]

"""Plans as text and HTML, on facts made by hand."""

from __future__ import annotations

import lxml.html
import pytest

from modelsummary_ipy.display.render.plan import Lever, Plan

FOUND = Plan(
    24_000_000_000, "24 GB", 64, 31_200_000_000, 23_100_000_000, "backward", "h.0.fc",
    modules=("h.0", "h.1"), families=(("Block", 2),), mult_adds=1000, added_mult_adds=125,
    patch="for path in ['h.0']:\n    pass\n",
    levers=(Lever("bf16-mixed", 18_000_000_000, "a\nb\n"), Lever("sgd", 31_200_000_000, "c\n"),
            Lever("set_to_none", 33_000_000_000, "optimizer.zero_grad(set_to_none=True)\n", is_assumed=True)),
    num_steps=7,
)  # fmt: skip

TEXT = """\
batch 64: fits 24 GB with 2 checkpoints: 23.1 GB
31.2 GB without; 2 × Block; +12.5% of the step's MACs

for path in ['h.0']:
    pass

other changes, each tried alone and without checkpoints:
  bf16-mixed   18.0 GB  fits
  sgd          31.2 GB  no less
  set_to_none  33.0 GB  without it; assumed in every other line

7 steps traced"""


def test_a_plan_reads_from_the_verdict_to_what_was_tried() -> None:
    assert str(FOUND) == repr(FOUND) == TEXT


def test_the_page_says_the_same_and_nothing_else() -> None:
    page = lxml.html.fromstring(FOUND._repr_html_())
    words = page.text_content().replace("\xa0", " ")
    for line in TEXT.splitlines():
        for part in line.strip(" :").split("  "):
            assert part.strip() in words
    assert [cell.text_content() for cell in page.iter("th") if cell.get("scope") == "row"] == [
        "bf16-mixed", "sgd", "set_to_none",
    ]  # fmt: skip
    assert FOUND._repr_html_() == FOUND._repr_html_()


def test_names_of_the_model_are_escaped() -> None:
    bad = "<img src=x onerror=alert(1)>"
    plan = Plan(
        10,
        "10 B",
        1,
        30,
        20,
        "forward",
        bad,
        modules=(bad,),
        families=((bad, 1),),
        patch=bad,
        levers=(Lever(bad, 9, bad),),
    )
    page = lxml.html.fromstring(plan._repr_html_())
    assert not list(page.iter("img"))
    assert bad in page.text_content()
    assert "\x1b" not in str(Plan(10, "10 B", reason="\x1b[2J"))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"largest_batch": 41, "modules": ("h.0",), "families": (("Block", 1),)},
            "batch 64: does not fit 24 GB: even fully checkpointed it needs 31.0 GB at the backward of fc: "
            "batch 41 fits",
        ),
        ({"largest_batch": 0}, "batch 64: does not fit 24 GB: it needs 31.0 GB at the backward of fc, and no "
                               "checkpoint lowers that: no batch fits"),
        ({"peak_phase": "optimizer", "peak_path": "", "batch": None},
         "does not fit 24 GB: it needs 31.0 GB at the optimizer's step, and no checkpoint lowers that"),
        ({"reason": "nothing to train"}, "no plan: nothing to train"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_a_sentence(options: dict[str, object], line: str) -> None:
    known: dict[str, object] = {"batch": 64, "peak_phase": "backward", "peak_path": "fc", **options}
    plan = Plan(24 * 10**9, "24 GB", peak_before_bytes=31 * 10**9, peak_after_bytes=31 * 10**9, **known)  # type: ignore[arg-type]
    assert str(plan).splitlines()[0] == line


def test_bytes_are_written_in_the_unit_of_the_budget() -> None:
    plan = Plan(2**30, "1 GiB", peak_before_bytes=2**29, peak_after_bytes=2**29)
    assert str(plan) == "fits 1 GiB without a checkpoint: 512 MiB"


def test_what_the_time_did_not_suffice_for_is_named() -> None:
    plan = Plan(10, "10 B", peak_before_bytes=5, peak_after_bytes=5, num_steps=1, untried=("sgd", "lion"), seconds=2.5)
    assert str(plan).endswith("1 step traced; not tried within 2.5 s: sgd, lion")

"""What Tab offers in a line of the magic."""

from __future__ import annotations

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from tests.notebook.test_magics import run


def test_tab_completes_options_choices_and_names(shell: InteractiveShell) -> None:
    def complete(line: str) -> list[str]:
        with provisionalcompleter():
            return [completion.text for completion in shell.Completer.completions(line, len(line))]

    assert "--depth" in complete("%summary model --de")
    assert {"model", "x"} <= set(complete("%summary "))
    assert "B" not in complete("%summary ")
    assert set(complete("%summary model --engine ")) >= {"fake", "real"}
    assert complete("ms = %summary mod")[:1] == ["model"]
    assert complete("%%summary mod")[:1] == ["model"]
    assert "model" not in complete("ms = mod;  # %summ") + complete("other = 1")
    assert not {"In", "Out"} & set(complete("%summary "))


_WAYS = ("foreach", "single", "fused")


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("%summary wo", ["words"]),
        ("%summary words i", ["ids="]),
        ("%summary words ids=(1, 4) ", ["mask=", "use_cache=", "x", "batch", "nets", "--dtype"]),
        ("%summary words ids=", ["x", "nets", "batch"]),
        ("%summary words **ba", ["batch"]),
        ("%summary model.encode f", ["flag="]),
        ("%summary nets['a'] sc", ["scale="]),
        ("%summary model.conv0 i", ["input="]),
        ("ms = %summary model s", ["scale="]),
        ("%summary model --engine=st", ["static"]),
        ("%summary model --engine f", ["fake"]),
        ("%summary model --mode ", ["same", "train", "eval"]),
        ("%summary model --columns input,pa", ["params"]),
        ("%summary model --ignore grown-map,batch-m", ["batch-merged", "batch-mixed", "batch-moved"]),
        ("%summary model --dtype flo", ["float16", "float32", "float64"]),
        ("%summary model --dtype ids=b", ["bfloat16", "bool"]),
        ("%summary model --device c", ["cpu", "cuda"]),
        ("%summary model --expect conv", ["conv0=", "conv1="]),
        ("%summary model --depth ", ["1", "2", "3", "all"]),
        ("%summary model x --op", ["--ops", "--optimizer"]),
        ("%summary model --optimizer adam", ["adam", "adamw", *(f"{n}-{w}" for n in ("adam", "adamw") for w in _WAYS)]),
        ("%summary model --loss nn.M", ["nn.MSELoss()"]),
        ("%summary model --accumulate ", ["2", "4", "8"]),
        ("%summary model --columns zz", ["zz"]),  # nothing fits, and paths and keywords fit no better
        ("%summary model --zz", ["--zz"]),
        ("%summary --ops model x --op", ["--optimizer"]),
        ("%%summary wo", ["words"]),
        ("a = 1\n%summary wo", ["words"]),
    ],
)
def test_tab_offers_what_the_line_may_have_next_and_nothing_else(
    shell: InteractiveShell, line: str, offers: list[str]
) -> None:
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    texts = [completion.text for completion in found]
    assert set(offers) <= set(texts)
    assert not {"print", "range", "Net", "B", "In", "get_ipython"} & set(texts)
    if not line.endswith((" ", "=")):
        assert sorted(texts) == sorted(offers)
    for completion in found:  # what is replaced is what was begun
        assert completion.text.startswith(line[completion.start : completion.end])


def test_tab_inside_an_expression_and_outside_the_magic_is_ipythons_own(shell: InteractiveShell) -> None:
    def complete(cell: str) -> set[str]:
        with provisionalcompleter():
            return {completion.text for completion in shell.Completer.completions(cell, len(cell))}

    assert "B" in complete("%summary model (B, 1, ")
    assert "range" in complete("ran")
    assert "range" in complete("%%summary model\nran")
    assert "shape" in {text.rpartition(".")[2] for text in complete("%summary model x.sha")}


def test_tab_runs_no_code_of_the_users(shell: InteractiveShell) -> None:
    run(
        shell,
        "class Loud:\n    def __getattr__(self, name):\n        raise RuntimeError(name)\n"
        "    @property\n    def model(self):\n        ran.append(1)\n        return model\nran, loud = [], Loud()",
    )
    for line in ("%summary loud.model s", "%summary loud.gone s", "%summary loud[0] s", "%summary model(x)[0] s"):
        with provisionalcompleter():
            list(shell.Completer.completions(line, len(line)))
    assert run(shell, "ran") == []

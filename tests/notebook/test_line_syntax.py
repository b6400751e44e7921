"""The magic's line: words, sizes and expressions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modelsummary_ipy import InputError, Size
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.reading import read_arguments
from modelsummary_ipy.notebook.line_syntax import evaluate, read_words, split_line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("model (1, 3, 224, 224)", ["model", "(1, 3, 224, 224)"]),
        ("nets['a b'] (1, 3) --depth 2", ["nets['a b']", "(1, 3)", "--depth", "2"]),
        ("model x  # what of this (", ["model", "x"]),
        ("model x;", ["model", "x"]),
        ("model x; # quiet", ["model", "x"]),
        ("model f('#', \"a;\")", ["model", "f('#', \"a;\")"]),
        ("nn.Linear(2, 2) (1, 2)", ["nn.Linear(2, 2)", "(1, 2)"]),
        ("m ids=(1, 128):int64 name='it\\'s (' ", ["m", "ids=(1, 128):int64", "name='it\\'s ('"]),
        ("", []),
        ("   ;", []),
    ],
)
def test_a_line_is_split_outside_brackets_and_quotes(line: str, words: list[str]) -> None:
    assert split_line(line) == words


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("model (1, 3", "unclosed '(' in 'model (1, 3'"),
        ("model (1, 3  # with a )", "unclosed '('"),
        ("model 'x", 'unclosed "\'"'),
        ("model 1)", "unmatched ')' in 'model 1)'"),
        ("model (1, 3]", "unmatched ']'"),
    ],
)
def test_what_is_not_in_pairs_is_reported(line: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        split_line(line)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("words", [["2,", "3,", "32"], ["2", "3", "32"], ["2x3x32"]])
def test_numbers_without_parentheses_are_shown_in_parentheses(words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read_words(words, {}, "net")
    assert str(caught.value).endswith("expected a size in parentheses; for example %summary net (2, 3, 32)")


def test_a_name_alone_repeats_its_size_whatever_it_is_elsewhere() -> None:
    ((size,), _) = read_words(["(B=2, S=256, S)"], {"S": 7})
    assert (size.shape, size.dims) == ((2, 256, 256), ("B", "S", "S"))


def test_a_name_that_is_not_defined_is_reported_with_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        evaluate("nt", {"net": 1, "nest": 2, "_nt": 3})
    assert str(caught.value) == "'nt' is not defined; did you mean net or nest?"
    with pytest.raises(InputError, match=r"'net \+' can't be parsed"):
        evaluate("net +", {"net": 1})


def test_what_an_expression_raises_is_one_line() -> None:
    def fail() -> None:
        raise RuntimeError("first line\nsecond line")

    with pytest.raises(InputError) as caught:
        evaluate("fail()", {"fail": fail})
    assert str(caught.value) == "fail(): RuntimeError: first line second line"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_size_is_known_without_an_import_and_a_name_of_the_users_goes_first() -> None:
    assert evaluate("Size('B=8 3')", {}) == Size("B=8 3")
    assert evaluate("Size", {"Size": 7}) == 7


def test_words_are_sizes_data_and_plain_values() -> None:
    data = torch.zeros(2)
    here = {"B": 4, "H": 8, "W": 8, "data": data, "cfg": {"n": 5}}
    args, kwargs = read_words(["(B, 3, H, W)", "data", "ids=(1, 128):int64", "use_cache=False", "n=cfg['n']"], here)
    assert args == [Size("B=4 3 H=8 W=8"), data]
    assert kwargs == {"ids": Size("1 128", dtype="int64"), "use_cache": False, "n": 5}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("(B=8, 3, H=224, W=224)", Size("B=8 3 H=224 W=224")),
        ("[1, 2]", [1, 2]),  # ints in a row: read as a size by ``inputs``, that knows the parameter
        ("1,2", (1, 2)),
        ("(1, 2*3)", (1, 6)),
        ("(1,)", (1,)),
        ("()", ()),
        ("(N=n, 3)", Size("N=7 3")),
        ("(N = n, 3)", Size("N=7 3")),
        ("(N=8)", Size("N=8")),
        ("(n, 3)", Size("n=7 3")),
        ("(n, *shape)", Size("n=7 5 6")),
        ("(1, 2) : int64", Size("1 2:int64")),
        ("[n, 3]:half", Size("n=7 3:float16")),
        ("[(n, 3), (N=2, 4)]", [Size("n=7 3"), Size("N=2 4")]),
        ("((1, 2), (n, 4):bool, 'a, (b')", ((1, 2), Size("n=7 4:bool"), "a, (b")),
        ("{'a': (n, 2), 3: [4]}", {"a": Size("n=7 2"), 3: [4]}),
        ("(n)", 7),
        ("(n == 7)", True),
        ("(True, 1)", (True, 1)),
        ("(0.5, 0.5)", (0.5, 0.5)),
        ("[v for v in shape]", [5, 6]),
        ("{v for v in shape}", {5, 6}),
        ("{v: n for v in shape}", {5: 7, 6: 7}),
        ("{**{'a': 1}}", {"a": 1}),
        ("(1,2)+(3,)", (1, 2, 3)),
        ("shape[0:1]", (5,)),
        ("(lambda: 3)()", 3),
        ("f'{n} x'", "7 x"),
        ("None", None),
        ("'text'", "text"),
        ("{'a': (1, 2)}", {"a": (1, 2)}),
        ("[t, t]", "two"),
    ],
)
def test_a_word_is_read(word: str, value: Any) -> None:
    t = torch.zeros(1)
    read = read_words([word], {"n": 7, "t": t, "shape": (5, 6)})[0][0]
    assert read == ([t, t] if value == "two" else value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x:int64"], "a dtype after 'x', which is not a size"),
        (["(B=1, 0)"], "0 in size"),
        (["(B=1, 2.5)"], "2.5 in size"),
        (["(B=1, x)"], "None in size"),
        (["**d", "a=1"], "'a' twice"),
        (["(B, 3)"], "'B' is not defined"),
        (["a=1", "(1, 2)"], "after a keyword"),
        (["a=1", "a=2"], "'a' twice"),
        (["(1, 2):int46"], "dtype 'int46'"),
    ],
)
def test_a_word_that_makes_no_sense_is_reported(words: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_words(words, {"x": None, "d": {"a": 1}})


def test_stars_spread_arguments() -> None:
    here = {"batch": {"x": 1, "y": 2}, "pair": [3, 4]}
    assert read_words(["*pair", "5"], here) == ([3, 4, 5], {})
    assert read_words(["0", "**batch", "k=3"], here) == ([0], {"x": 1, "y": 2, "k": 3})


def test_every_part_of_a_word_is_evaluated_once() -> None:
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return len(calls)

    assert read_words(["[(count(), 'a'), {'b': count()}, count()]"], {"count": count})[0] == [[(1, "a"), {"b": 2}, 3]]


leaves = st.sampled_from([Size("B=2 3"), Size("7 1:int64"), Size("(5,)"), Size("B=2"), None, True, 0.5, "a (b"])
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=2)
    ),
    max_leaves=6,
)


class Anything(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> None: ...


@given(st.lists(values, min_size=1, max_size=3), st.dictionaries(st.sampled_from("uvw"), values, max_size=2))
def test_inputs_that_are_written_as_a_line_are_read_back(args: list[Any], kwargs: dict[str, Any]) -> None:
    inputs = ModelInputs(tuple(args), kwargs)
    words, named = read_words(split_line(inputs.as_line()), {})
    read = read_arguments(Anything(), words, named)
    assert (read.args, read.kwargs) == (inputs.args, inputs.kwargs)

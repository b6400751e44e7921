"""The report of a failure, on records made by hand: without a model, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.explain import explain
from modelsummary_ipy.records.fixes import Fix
from modelsummary_ipy.records.retraced import Budget, Retraced
from modelsummary_ipy.records.summary import Row, Story
from modelsummary_ipy.records.trace import Call, Failure, InputFact, Link, ModuleFact, Source, TensorSpec, Trace


def make_story(
    *calls: Call, modules: tuple[ModuleFact, ...], message: str, line: str = "", error_type: str = "RuntimeError"
) -> Story:
    """Tell of a forward whose last call failed, without a model."""
    source = Source("net.py", 41, "forward")
    failure = Failure(len(calls) - 1, error_type, message, source, line)
    inputs = (InputFact(calls[0].inputs[0], ("B", "", "H", "W")),)
    trace = Trace(calls, modules, inputs=inputs, failure=failure)
    rows = tuple(
        Row(c.index, c.path, c.type_name, c.kind, c.depth, inputs=c.inputs, status=c.status, call=c.index)
        for c in calls
    )
    return Story(trace, rows)


def spec(*shape: int) -> TensorSpec:
    return TensorSpec("", shape, "float32", "cpu")


NET = ModuleFact(0, ("",), "Net")
POOL = ModuleFact(1, ("pool",), "MaxPool2d", "torch.nn.modules.pooling", parent=0)
HEAD = ModuleFact(
    2, ("head.proj",), "Linear", "torch.nn.modules.linear", parent=0,
    settings={"in_features": 3136, "out_features": 10},
)  # fmt: skip


def unflattened() -> Story:
    return make_story(
        Call(0, "module", "", "Net", None, 0, module=0, inputs=(spec(32, 1, 28, 28),), status="failed"),
        Call(1, "module", "pool", "MaxPool2d", 0, 1, module=1, inputs=(spec(32, 64, 14, 14),),
             outputs=(spec(32, 64, 7, 7),), output_links=(Link(1, 0),)),
        Call(2, "module", "head.proj", "Linear", 0, 1, module=2, inputs=(spec(32, 64, 7, 7),),
             input_links=(Link(1, 0),), status="failed"),
        modules=(NET, POOL, HEAD),
        message="mat1 and mat2 shapes cannot be multiplied (14336x7 and 3136x10)",
        line="return self.proj(x)  # logits",
    )  # fmt: skip


def try_all(ctx: FailureContext, diagnosis: Diagnosis) -> tuple[Fix, ...]:
    """Stand for trials in which the one candidate works."""
    return (Fix(diagnosis.fix.text, None, (spec(32, 10),)),)


def test_the_message_has_the_usual_form() -> None:
    error = explain(unflattened(), find_fixes=try_all)
    assert (error.fix, error.patch) == ("return self.proj(x.flatten(1))", None)
    assert error.message == (
        "forward failed in 'head.proj' (Linear), call 3 of all, at net.py:41\n"
        "  line      return self.proj(x)  # logits\n"
        "  received  float32 [32, 64, 7, 7] from 'pool'\n"
        "  expected  last dim = 3136 (in_features)\n"
        "  reason    64 × 7 × 7 = 3136: the feature map was not flattened\n"
        "  fix       return self.proj(x.flatten(1))\n"
        "  tried     gives [32, 10]\n"
        "  torch     RuntimeError: mat1 and mat2 shapes cannot be multiplied (14336x7 and 3136x10)"
    )


def test_a_fix_that_was_not_tried_is_not_shown() -> None:
    error = explain(unflattened())
    assert (error.fix, error.fixes, error.patch) == ("", (), None)
    assert "fix" not in error.message
    assert error.reason == "64 × 7 × 7 = 3136: the feature map was not flattened"


def test_a_formula_is_beside_its_shape() -> None:
    story = replace(unflattened(), input_formulas={2: (("B", "64", "⌊H/4⌋", "⌊W/4⌋"),)})
    assert "received  float32 [32, 64, 7, 7] = [B, 64, ⌊H/4⌋, ⌊W/4⌋] from 'pool'" in explain(story).message


def test_an_unknown_failure_is_reported_with_torchs_own_message() -> None:
    story = make_story(
        Call(0, "module", "", "Net", None, 0, module=0, inputs=(spec(2, 3),), status="failed"),
        Call(1, "op", "", "polygamma", 0, 1, module=0, inputs=(spec(2, 3),), input_links=(Link(-1, 0),),
             status="failed"),
        modules=(NET,),
        message="polygamma(n, x) does not support negative n.",
        line="y = torch.polygamma(-1, x)",
    )  # fmt: skip
    error = explain(story)
    assert (error.path, error.row, error.source) == ("", 1, "net.py:41")
    assert error.reason == "polygamma(n, x) does not support negative n"
    assert error.fix == ""
    assert error.message == (
        "forward failed in polygamma() in the model, call 2 of all, at net.py:41\n"
        "  line      y = torch.polygamma(-1, x)\n"
        "  received  float32 [2, 3] the model's input\n"
        "  reason    polygamma(n, x) does not support negative n\n"
        "  torch     RuntimeError: polygamma(n, x) does not support negative n."
    )


def test_a_forward_that_failed_outside_every_call_is_reported_too() -> None:
    failure = Failure(None, "TypeError", "unhashable type", None, "")
    error = explain(Story(Trace((), (NET,), failure=failure), ()))
    assert error.message == "forward failed\n  reason    unhashable type\n  raised    TypeError: unhashable type"
    assert (error.path, error.row, error.source, error.sizes) == ("", None, None, ())


def test_only_what_failed_is_explained() -> None:
    with pytest.raises(ValueError, match="did not fail"):
        explain(Story(Trace((), (NET,)), ()))


class Retracer:
    """Answers by the shape of the one input, without a model."""

    def __init__(self, answer: Callable[[tuple[int, ...]], Retraced]) -> None:
        self.answer = answer
        self.traced: list[tuple[int, ...]] = []
        self.budget = Budget(0, 0)

    def within(self, budget: Budget) -> Retracer:
        self.budget = budget
        return self

    def at(self, where: tuple[TensorSpec, ...]) -> Retraced:
        self.traced.append(where[0].shape)
        found = self.answer(where[0].shape)
        self.budget.spend(len(found.trace.calls) if found.trace is not None else 1)
        return found

    def write(self, specs: tuple[TensorSpec, ...]) -> str:
        return str(specs[0].shape)


def test_a_size_is_offered_only_if_the_model_ran_at_it() -> None:
    story = make_story(
        Call(0, "module", "", "Net", None, 0, module=0, inputs=(spec(2, 16),), status="failed"),
        Call(1, "module", "head.proj", "Linear", 0, 1, module=2, inputs=(spec(2, 16),), input_links=(Link(-1, 0),),
             status="failed"),
        modules=(NET, POOL, HEAD),
        message="mat1 and mat2 shapes cannot be multiplied (2x16 and 3136x10)",
    )  # fmt: skip
    fails, works = Retraced(story.trace, "RuntimeError"), Retraced(replace(story.trace, failure=None))
    always_failing = Retracer(lambda shape: fails)

    assert explain(story).sizes == ()
    assert explain(story, always_failing).sizes == ()
    assert (2, 3136) in always_failing.traced
    assert len(always_failing.traced) == len(set(always_failing.traced)) <= 60
    assert explain(story, Retracer(lambda shape: works if shape == (2, 3136) else fails)).sizes == ("(2, 3136)",)
    assert explain(story, Retracer(lambda shape: Retraced(None))).sizes == ()

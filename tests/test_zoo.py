"""Whole architectures: rows equal hooks, totals equal a count, nothing is touched; caches, generation, diffusion."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.tracing import engine as engines
from tests.reference import (
    difference,
    fingerprint,
    list_module_calls,
    quietly,
    watch_with_hooks,
)
from tests.traced import hook_animal, trace_animal
from tests.zoo import ZOO, Animal, find_animal

EVERY_ANIMAL = pytest.mark.parametrize("animal", ZOO, ids=lambda animal: animal.name)


@EVERY_ANIMAL
@pytest.mark.parametrize("engine", ["auto", "real"])
def test_an_architecture_is_reported_as_hooks_see_it_and_left_as_it_was(animal: Animal, engine: Any) -> None:
    traced = trace_animal(animal.name, engine)
    ms = traced.ms
    assert traced.changed == []
    assert ms.error is None
    assert ms.engine == ("real" if engine == "real" or animal.needs_values else "fake")
    hooked = hook_animal(animal.name)
    assert ms.total_params == hooked.num_params
    assert list_module_calls(ms.pipeline.traced.trace, ms.rows) == hooked.calls


def test_a_doubtful_mask_is_passed_on_where_no_real_run_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "REAL_BYTES", 0)
    animal = find_animal("Pix2StructVisionModel")
    with quietly():
        ms = ModelSummary(animal.build(), ModelInputs((), animal.inputs()))
    assert (ms.engine, ms.engine_reason, ms.error) == ("fake", "", None)
    assert [spec.shape for spec in ms["encoder"].inputs] == [(2, 16, 16), (2, 1, 16, 16)]


@pytest.mark.parametrize("engine", ["auto", "real"])
@pytest.mark.parametrize(
    "name", ["GPT2LMHeadModel", "GPTNeoXForCausalLM", "LlamaForCausalLM", "GemmaForCausalLM", "PhiForCausalLM"]
)
def test_a_decoder_without_a_cache_is_reported_as_hooks_see_it(name: str, engine: Any) -> None:
    # Without a cache the library looks whether positions are those of several sequences, and masks them if so.
    with quietly():
        model = find_animal(name).build()
    inputs = {"input_ids": torch.randint(3, 50, (2, 8)), "use_cache": False}
    with quietly():
        ms = ModelSummary(model, ModelInputs((), inputs), engine=engine)
    assert ms.engine == ("real" if engine == "real" else "fake")
    seen, _ = watch_with_hooks(model, "forward", (), inputs)
    assert list_module_calls(ms.pipeline.traced.trace, ms.rows) == seen


def test_the_zoo_has_forty_architectures_of_every_family() -> None:
    assert len(ZOO) >= 40
    assert {animal.family for animal in ZOO} >= {
        "vision", "text", "audio", "encoder-decoder", "multimodal", "experts", "state space", "detection",
        "time series", "diffusion",
    }  # fmt: skip


@EVERY_ANIMAL
def test_sizes_alone_give_the_same_rows_where_no_value_is_asked_for(animal: Animal) -> None:
    from modelsummary_ipy.inputs.size import Size

    if animal.needs_values or animal.name in VALUES_MATTER:
        return
    sizes = {
        name: Size(tuple(value.shape), dtype=str(value.dtype).removeprefix("torch."))
        for name, value in animal.inputs().items()
    }
    with quietly():
        by_size = ModelSummary(animal.build(), ModelInputs((), sizes))
    assert by_size.error is None
    assert by_size.engine == "fake"
    by_data = trace_animal(animal.name, "auto").ms
    ours, theirs = (list_module_calls(ms.pipeline.traced.trace, ms.rows) for ms in (by_size, by_data))
    assert ours == theirs


#: The mask, or which tokens are pictures, decides what is called with what.
VALUES_MATTER = {"BertForSequenceClassification", "MistralModel", "LlavaForConditionalGeneration"}


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM", "MambaForCausalLM"])
def test_a_model_with_its_own_cache_is_summarised_one_token_on(name: str) -> None:
    with quietly():
        model = find_animal(name).build()
        ids = torch.randint(3, 50, (1, 6))
        kept = model(ids, use_cache=True)
        cache = (
            {"past_key_values": kept.past_key_values}
            if "past_key_values" in kept
            else {"cache_params": kept.cache_params}
        )
        inputs = {"input_ids": ids[:, -1:], "use_cache": True, **cache}
        before = fingerprint(model, inputs)
        ms = ModelSummary(model, ModelInputs((), inputs))
        assert difference(before, fingerprint(model, inputs)) == []
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (1, 1, 50)


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_generate_is_summarised_token_by_token(name: str) -> None:
    with quietly():
        model = find_animal(name).build()
        ids = torch.randint(3, 50, (1, 6))
        settings = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
        before = fingerprint(model, ids)
        ms = ModelSummary(model, ModelInputs((ids,), settings), method="generate")
        assert difference(before, fingerprint(model, ids)) == []
    assert ms.error is None
    heads = [row for row in ms.rows if row.path == "lm_head"]
    assert [row.call_index for row in heads] == [0, 1, 2]
    assert {row.outputs[0].shape[-1] for row in heads} == {50}

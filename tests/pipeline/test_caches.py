"""Caches: their bytes and the peaks of prefill and decode, as in real runs of small models of many families."""

from __future__ import annotations

import functools
import gc
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.costs import read_context
from modelsummary_ipy.records.cache import Context
from modelsummary_ipy.records.errors import InputError
from tests.reference import quietly
from tests.tracing.real_step import _Storages

TINY: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 100,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
GROUPED = {**TINY, "num_key_value_heads": 2}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_chunk_size": 16}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def causal(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**settings)
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(config).eval()
        return model

    return build


class Own(nn.Module):
    """One attention layer that takes and gives keys and values in a plain tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Embedding(100, 16), nn.Linear(16, 48), nn.Linear(16, 100)

    def forward(self, ids: Tensor, kv_cache: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        query, key, value = self.qkv(self.embed(ids)).chunk(3, -1)
        if kv_cache is not None:
            key, value = torch.cat([kv_cache[0], key], 1), torch.cat([kv_cache[1], value], 1)
        scores = (query @ key.transpose(1, 2)).softmax(-1)
        return self.out(scores @ value), (key, value)


#: A model, its formula by hand, in float32: 4 bytes, keys and values, 2 layers.
FAMILIES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    # 4 heads of 8
    "full": (causal("GPT2", n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64, bos_token_id=1,
                    eos_token_id=2), f"{4 * 2 * 2 * 4 * 8} · B · T"),
    "alibi": (causal("Bloom", hidden_size=32, n_layer=2, n_head=4, vocab_size=100), "512 · B · T"),
    # 2 heads of 8
    "grouped": (causal("Llama", **GROUPED), "256 · B · T"),
    "one key head": (causal("GPTBigCode", n_embd=32, n_layer=2, n_head=4, vocab_size=100), "128 · B · T"),
    # the last 23 positions are kept: with the next one they make 24
    "sliding": (causal("Mistral", **GROUPED, sliding_window=24), "256 · B · min(T, 23)"),
    "every other layer": (causal("Gemma2", **GROUPED, sliding_window=24, head_dim=8),
                          "128 · B · T + 128 · B · min(T, 23)"),
    # 16 of the latent and 4 of the rotary part, once for all heads
    "latent": (causal("DeepseekV3", **TINY, kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8,
                      v_head_dim=8, first_k_dense_replace=2, num_key_value_heads=4), f"{4 * 2 * (16 + 4)} · B · T"),
    # 64 channels: a window of 4 for the convolution, and states of 4
    "state": (causal("Mamba", hidden_size=32, num_hidden_layers=2, vocab_size=100, state_size=4),
              f"{4 * 2 * 64 * (4 + 4):,} · B"),
    # one layer of each kind; 64 + 2 · 4 channels in the convolution
    "hybrid": (causal("Bamba", **GROUPED, attn_layer_indices=[1], **MAMBA),
               f"128 · B · T + {4 * (72 * 4 + 8 * 8 * 4):,} · B"),
    "hybrid, Jamba": (causal("Jamba", **GROUPED, attn_layer_period=2, attn_layer_offset=1, num_experts=1,
                             mamba_d_state=4), f"128 · B · T + {4 * 64 * (4 + 4):,} · B"),
    "own": (Own, "128 · B · T"),
}  # fmt: skip
#: What latent attention caches differs between releases: keys and values of every head before.
CACHES_LATENT = hasattr(transformers, "__version__") and int(transformers.__version__.split(".")[0]) >= 5


def read_bytes(value: Any) -> int:
    """Bytes of all tensors that a real run gave back, through its objects."""
    seen: dict[int, Tensor] = {}

    def walk(item: Any) -> None:
        if isinstance(item, Tensor):
            seen[id(item)] = item
        elif isinstance(item, dict):
            for each in item.values():
                walk(each)
        elif isinstance(item, (list, tuple)):
            for each in item:
                walk(each)
        elif hasattr(item, "__dict__") and not isinstance(item, (type, nn.Module)):
            walk({name: each for name, each in vars(item).items() if not name.startswith("_")})

    walk(value)
    return sum(tensor.numel() * tensor.itemsize for tensor in seen.values() if tensor.is_floating_point())


def evaluate(formula: str, batch: int, length: int) -> int:
    text = re.sub(r"(?<=\d),(?=\d{3})", "", formula).replace("·", "*").replace("−", "-")
    return int(eval(text, {"B": batch, "T": length, "min": min}))


def run_real(model: nn.Module, batch: int, length: int) -> Any:
    with torch.no_grad():
        return model(torch.zeros(batch, length, dtype=torch.int64))


def take_cache(output: Any) -> Any:
    if isinstance(output, tuple):
        return output[-1]
    return output["past_key_values"] if "past_key_values" in output else output["cache_params"]


@functools.cache
def trace_family(name: str) -> tuple[nn.Module, ModelSummary]:
    """Trace one of ``FAMILIES`` with a context of 40; its real runs leave the model as it is."""
    model = FAMILIES[name][0]()
    with quietly():
        return model, ModelSummary(model, input_size=(2, 6), context=40)


@pytest.mark.parametrize("name", [name for name in FAMILIES if CACHES_LATENT or name != "latent"])
def test_the_formula_is_the_one_by_hand_and_holds_in_real_runs(name: str) -> None:
    by_hand = FAMILIES[name][1]
    model, ms = trace_family(name)
    with quietly():
        assert ms.cache is not None
        assert ms.cache.formula == by_hand
        for batch, length in ((2, 6), (1, 3), (3, 22), (1, 23), (2, 24), (1, 40)):
            real = read_bytes(take_cache(run_real(model, batch, length)))
            assert evaluate(ms.cache.formula, batch, length) == real
        assert ms.cache_bytes == evaluate(by_hand, 2, 6)


def test_four_of_the_layers_of_llama_3_8b() -> None:
    config = transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=4, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, max_position_embeddings=8192, dtype=torch.bfloat16,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    ms = ModelSummary(model, input_size=(1, 64))
    assert ms.cache is not None
    assert ms.cache.formula == "16,384 · B · T"  # 2 bytes · keys and values · 4 layers · 8 heads · 128
    assert ms.cache_bytes == 2 * 2 * 4 * 8 * 128 * 64
    assert ms.cache.lengths[-1] == 131_072


DECODERS: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "vocab_size": 100,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "decoder_start_token_id": 2,
    "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "vocab_size": 100}
#: Of a decoder of 3 layers and 4 heads of 8, in float32: keys and values of its own positions, and of the encoder's.
WITH_ENCODERS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], str]] = {
    "T5": ("T5ForConditionalGeneration", T5, (2, 12), "768 · B · S + 768 · B · T"),
    "as long": ("T5ForConditionalGeneration", T5, (2, 5), "768 · B · S + 768 · B · T"),
    "BART": ("BartForConditionalGeneration", {**DECODERS, "max_position_embeddings": 64}, (2, 12),
             "768 · B · S + 768 · B · T"),
    # 20 positions of the encoder, always: the formula has them as a number
    "Whisper": ("WhisperForConditionalGeneration", {**DECODERS, "max_source_positions": 20, "num_mel_bins": 8},
                (2, 8, 40), f"768 · B · T + {768 * 20:,} · B"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_ENCODERS)
def test_an_encoder_and_a_decoder_have_lengths_of_their_own(name: str) -> None:
    kind, settings, size, by_hand = WITH_ENCODERS[name]
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**settings)).eval()
    encoder = "input_features" if name == "Whisper" else "input_ids"
    data = torch.zeros(size) if name == "Whisper" else torch.zeros(size, dtype=torch.int64)
    ms = ModelSummary(model, {encoder: data, "decoder_input_ids": (2, 5)}, context=16)
    assert ms.cache is not None
    assert ms.cache.formula == by_hand
    assert ms.cache_bytes == 768 * 2 * (5 + (20 if name == "Whisper" else size[1]))
    assert ms.context is not None
    real = [follow_decoder(model, {encoder: data}, length, then=then) for length, then in ((16, False), (15, True))]
    assert [ms.context.prefill_bytes, ms.context.decode_bytes] == real


def follow_decoder(model: nn.Module, encoder: dict[str, Tensor], before: int, *, then: bool) -> int:
    """The peak of a real forward of an encoder and a decoder, or of the step of the decoder that follows it."""
    gc.collect()
    gc.disable()
    try:
        storages = _Storages()
        ids, last = (torch.zeros(2, length, dtype=torch.int64) for length in (before, 1))
        for tensor in [*model.parameters(), *model.buffers(), ids, *encoder.values()]:
            storages.see(tensor)
        storages.live.append(storages.now)
        with torch.no_grad(), storages:
            output = model(**encoder, decoder_input_ids=ids)
            if not then:
                return max(storages.live)
            cache, encoded = output.past_key_values, output.encoder_last_hidden_state
            del output
            storages.see(last)
            begin = len(storages.live)
            model(decoder_input_ids=last, past_key_values=cache, encoder_outputs=(encoded,))
        return max(storages.live[begin:])
    finally:
        gc.enable()


def follow_real(model: nn.Module, batch: int, length: int, parameter: str) -> Context:
    """The peaks of a real prefill, and of a real step after one that is a position shorter."""

    def follow(before: int, then: bool) -> int:
        gc.collect()
        gc.disable()
        try:
            storages = _Storages()
            ids = torch.zeros(batch, before, dtype=torch.int64)
            last = torch.zeros(batch, 1, dtype=torch.int64)
            for tensor in [*model.parameters(), *model.buffers(), ids]:
                storages.see(tensor)
            storages.live.append(storages.now)
            with torch.no_grad(), storages:
                output = model(ids)
                if not then:
                    return max(storages.live)
                cache = take_cache(output)
                del output
                storages.see(last)
                begin = len(storages.live)
                model(last, **{parameter: cache})
            return max(storages.live[begin:])
        finally:
            gc.enable()

    return Context(length, batch, None, follow(length, False), follow(length - 1, True))


@pytest.mark.parametrize("name", FAMILIES)
def test_prefill_and_decode_take_what_they_take_for_real(name: str) -> None:
    model, ms = trace_family(name)
    with quietly():
        assert ms.cache is not None
        assert ms.context is not None
        assert ms.context.reason == ""
        real = follow_real(model, 2, 40, ms.cache.parameter)
        assert (ms.context.prefill_bytes, ms.context.decode_bytes) == (real.prefill_bytes, real.decode_bytes)
        assert ms.context.cache_bytes == read_bytes(take_cache(run_real(model, 2, 40)))


@functools.cache
def fit_grouped() -> ModelSummary:
    """Trace the model with grouped heads with a context of 64 and a budget of a megabyte."""
    return ModelSummary(FAMILIES["grouped"][0](), input_size=(2, 6), context=64, memory=1_000_000)


def test_what_fits_was_measured_and_one_more_was_not_small_enough() -> None:
    make = FAMILIES["grouped"][0]
    budget = 1_000_000
    found = fit_grouped().context
    assert found is not None
    assert found.longest is not None
    assert found.most_batch is not None

    def peak(batch: int, length: int) -> int:
        real = follow_real(make(), batch, length, "past_key_values")
        assert real.peak_bytes is not None
        return real.peak_bytes

    assert peak(2, found.longest) <= budget < peak(2, found.longest + 1)
    assert peak(found.most_batch, 64) <= budget < peak(found.most_batch + 1, 64)


def test_a_table_of_positions_ends_a_context() -> None:
    make = FAMILIES["full"][0]
    with pytest.raises(InputError, match="context=65, and the model has 64 positions"):
        ModelSummary(make(), input_size=(2, 6), context=65)
    found = ModelSummary(make(), input_size=(2, 6), context=64, memory="10GB").context
    assert found is not None
    assert found.longest == 64
    cache = ModelSummary(make(), input_size=(2, 6)).cache
    assert cache is not None
    assert cache.lengths[-1] == 64


class Masked(nn.Module):
    """Has no table of positions, and a mask of 64 × 64."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(100, 8)
        self.register_buffer("mask", torch.ones(64, 64))

    def forward(self, input_ids: Tensor, past_key_values: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.emb(input_ids)
        keys = x if past_key_values is None else torch.cat([past_key_values, x], dim=1)
        length = keys.shape[1]
        scores = x @ keys.transpose(1, 2) * self.mask[:length, :length][-x.shape[1] :]
        return scores @ keys, keys


ENDS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    # positions counted on a mask of ones, two rows in front
    "OPT": (causal("OPT", **{**TINY, "ffn_dim": 64, "word_embed_proj_dim": 32}, max_position_embeddings=64),
            "the model has 64 positions"),
    # a table of sines, from which rows are gathered
    "GPT-J": (causal("GPTJ", n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64, rotary_dim=4,
                     bos_token_id=1, eos_token_id=2), "the model has 64 positions"),
    "CTRL": (causal("CTRL", n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64, dff=64),
             "the model has 64 positions"),
    # a table, and a mask of 64 × 64
    "GPT-Neo": (causal("GPTNeo", hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
                       vocab_size=100, max_position_embeddings=64, bos_token_id=1, eos_token_id=2),
                "the model has 64 positions"),
    "mask": (Masked, "the forward fails there"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_a_context_longer_than_any_table_is_an_error_before_any_work(name: str) -> None:
    make, words = ENDS[name]
    with quietly():
        model = make()
        with pytest.raises(InputError, match=f"context=65, and {words}.*expected 64 or fewer"):
            ModelSummary(model, input_size=(2, 6), context=65)
        run_real(model, 2, 64)
        with pytest.raises((IndexError, RuntimeError)):
            run_real(model, 2, 65)


def test_a_context_beyond_what_rotary_positions_were_trained_for_runs_and_says_so() -> None:
    model = causal("Llama", **GROUPED, max_position_embeddings=64)()
    within, beyond = (ModelSummary(model, input_size=(2, 6), context=length) for length in (64, 65))
    words = "it runs, beyond the 64 positions of the model's configuration"
    assert words not in " ".join(within.to_text().split())
    assert words in " ".join(beyond.to_text().split())
    run_real(model, 2, 65)


def test_a_model_without_a_cache_has_no_context() -> None:
    with pytest.raises(InputError, match=r"context=32,768, and the forward gives no cache back"):
        ModelSummary(nn.Linear(4, 4), (2, 4), context="32k")
    model = FAMILIES["grouped"][0]()
    with pytest.raises(InputError, match="use_cache=True"):
        ModelSummary(model, {"input_ids": (2, 6), "use_cache": False}, context=64)
    assert ModelSummary(model, {"input_ids": (2, 6), "use_cache": False}).cache_bytes is None


@pytest.mark.parametrize("wrong", ["long", "32 kB", -3, 1, 2.5, True, "0", ""])
def test_what_is_no_length_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="two or more"):
        ModelSummary(nn.Linear(4, 4), (2, 4), context=wrong)


def test_a_length_is_read_as_models_are_named() -> None:
    assert [read_context(text) for text in ("32k", "128K", "1M", "1000", 7)] == [32_768, 131_072, 1_048_576, 1000, 7]


def test_the_summary_has_a_line_for_each() -> None:
    ms = fit_grouped()
    ms.pipeline.allow(1000)
    text = str(ms)
    assert "cache 3.07 KB: 256 · B · T bytes" in text
    found = re.search(r"context 64: cache 32.8 KB; (.*) to prefill, (.*) to decode; longest that fits ([\d,]+); ", text)
    assert found is not None


class Stateless(nn.Module):
    """Gives a tuple back, and takes nothing of it."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return x, (x + 1, x - 1)


def test_what_no_parameter_takes_is_no_cache() -> None:
    assert ModelSummary(Stateless(), (2, 4)).cache is None
    assert ModelSummary(nn.LSTM(4, 4), (2, 3, 4)).cache is None


@pytest.mark.parametrize("batch", [3, 4])  # with one more as many as heads, and as many
def test_a_cache_that_is_given_is_an_input(batch: int) -> None:
    model = causal("Llama", **GROUPED)()
    with torch.no_grad():
        cache = model(torch.randint(0, 100, (batch, 7)), use_cache=True).past_key_values
    before = cache.layers[0].keys.clone()
    ms = ModelSummary(model, {"input_ids": torch.zeros(batch, 1, dtype=torch.long), "past_key_values": cache})
    names = [f"past_key_values.layers[{layer}].{kind}" for layer in (0, 1) for kind in ("keys", "values")]
    assert [(given.name, given.shape) for given in ms[""].inputs[1:]] == [(name, (batch, 2, 7, 8)) for name in names]
    length = ms.formulas[0][1][2]
    assert ms.formulas[0][1] == ("B", "2", length, "8")
    assert length.startswith("T + ")
    assert ms.flags == ()
    assert cache.get_seq_length() == 7
    assert torch.equal(before, cache.layers[0].keys)

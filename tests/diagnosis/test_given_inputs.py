"""Models of ``transformers``, and a model around one, given what they don't take; each fix also runs for real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.summary import ModelSummary

_SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
_TEXT = {**_SMALL, "vocab_size": 100, "max_position_embeddings": 64}
_ROWS = {"patch_size": 8, "image_size": 32}


def ids(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.long)


def convnext() -> nn.Module:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1])
    return transformers.ConvNextForImageClassification(config)


def vit() -> nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**_SMALL, **_ROWS, num_labels=10))


def clip() -> nn.Module:
    text = {**_TEXT, "eos_token_id": 99, "bos_token_id": 98}
    config = transformers.CLIPConfig(text_config=text, vision_config={**_SMALL, **_ROWS}, projection_dim=16)
    return transformers.CLIPModel(config)


def clips() -> nn.Module:
    config = transformers.VideoMAEConfig(**_SMALL, **_ROWS, num_frames=8)
    return transformers.VideoMAEForVideoClassification(config)


def bert(kind: Any = transformers.BertForSequenceClassification) -> nn.Module:
    model: nn.Module = kind(transformers.BertConfig(**_TEXT, num_labels=3))
    return model


def t5() -> nn.Module:
    sizes = {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 1,
        "num_heads": 4,
        "vocab_size": 100,
        "use_cache": False,
    }
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_TEXT, num_key_value_heads=3, use_cache=False))


def whisper() -> nn.Module:
    config = transformers.WhisperConfig(
        vocab_size=100, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50,
        max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        use_cache=False,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(vocab_size=100, n_embd=32, n_layer=1, n_head=4, n_positions=64, use_cache=False)
    return transformers.GPT2ForSequenceClassification(config)


def encodec() -> nn.Module:
    sizes = {"num_filters": 8, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 32, "num_lstm_layers": 1}
    return transformers.EncodecModel(transformers.EncodecConfig(**sizes, upsampling_ratios=[4, 2]))


def lxmert() -> nn.Module:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "visual_feat_dim": 48}
    return transformers.LxmertModel(
        transformers.LxmertConfig(**sizes, vocab_size=100, l_layers=1, x_layers=1, r_layers=1)
    )


def summarise(model: nn.Module, given: dict[str, Tensor]) -> ForwardError:
    error = ModelSummary(model.eval(), given).error
    assert error is not None
    return error


Case = tuple[Callable[[], nn.Module], dict[str, Tensor], str, str, str]
CASES: dict[str, Case] = {
    "channels last": (
        convnext, {"pixel_values": torch.rand(2, 64, 64, 3)},
        "the 3 channels come last in pixel_values [2, 64, 64, 3]: the model takes them second (config.num_channels)",
        "model(pixel_values.permute(0, 3, 1, 2))", "pixel_values=(2, 3, 64, 64)",
    ),
    "one grey image": (
        convnext, {"pixel_values": torch.rand(2, 1, 64, 64)},
        "pixel_values [2, 1, 64, 64] has 1 channel, the model takes 3 (config.num_channels)",
        "model(pixel_values.expand(-1, 3, -1, -1))", "pixel_values=(2, 3, 64, 64)",
    ),
    "bytes with their channels last": (
        convnext, {"pixel_values": torch.zeros(2, 64, 64, 3, dtype=torch.uint8)},
        "the 3 channels come last in pixel_values [2, 64, 64, 3]: the model takes them second (config.num_channels); "
        "it is uint8, the weights are float32",
        "model(pixel_values.permute(0, 3, 1, 2).float())", "pixel_values=(2, 3, 64, 64):float32",
    ),
    "no batch": (
        convnext, {"pixel_values": torch.rand(64, 64, 3)},
        "pixel_values [64, 64, 3] is one image, with its 3 channels last",
        "model(pixel_values.permute(2, 0, 1).unsqueeze(0))", "pixel_values=(1, 3, 64, 64)",
    ),
    "channels last beside ids": (
        clip, {"input_ids": ids(2, 8), "pixel_values": torch.rand(2, 32, 32, 3)},
        "the 3 channels come last in pixel_values [2, 32, 32, 3]",
        "pixel_values = pixel_values.permute(0, 3, 1, 2)", "input_ids=(2, 8):int64 pixel_values=(2, 3, 32, 32)",
    ),
    "another size": (
        vit, {"pixel_values": torch.rand(2, 3, 48, 48)},
        "pixel_values is 48 × 48, the positions are those of 32 × 32 (config.image_size)",
        "model(pixel_values=pixel_values, interpolate_pos_encoding=True)", "pixel_values=(2, 3, 32, 32)",
    ),
    "images for clips": (
        clips, {"pixel_values": torch.rand(2, 3, 32, 32)},
        "pixel_values [2, 3, 32, 32] has no dim of frames: the model takes clips, [B, frames, C, H, W]; 8 frames "
        "(config.num_frames)", "", "pixel_values=(2, 8, 3, 32, 32)",
    ),
    "channels before frames": (
        clips, {"pixel_values": torch.rand(2, 3, 8, 32, 32)},
        "the 3 channels are dim 1 of pixel_values [2, 3, 8, 32, 32], the model takes them third (config.num_channels)",
        "model(pixel_values.transpose(1, 2))", "pixel_values=(2, 8, 3, 32, 32)",
    ),
    "ids as numbers": (
        bert, {"input_ids": torch.ones(2, 16)}, "input_ids is float32: ids are integers",
        "model(input_ids.long())", "input_ids=(2, 16):int64",
    ),
    "features as ids": (
        bert, {"input_ids": torch.rand(2, 16, 32)},
        "input_ids [2, 16, 32] are features, where token ids belong: inputs_embeds takes them",
        "model(inputs_embeds=input_ids)", "",
    ),
    "a width": (
        bert, {"inputs_embeds": torch.rand(2, 16, 48)},
        "inputs_embeds [2, 16, 48] has 48 features in dim 2, the model takes 32 (config.hidden_size)",
        "", "inputs_embeds=(2, 16, 32)",
    ),
    "a longer mask": (
        bert, {"input_ids": ids(2, 16), "attention_mask": torch.zeros(2, 20)},
        "attention_mask has 20 steps, input_ids has 16",
        "attention_mask = attention_mask[:, :16]", "input_ids=(2, 16):int64 attention_mask=(2, 16)",
    ),
    "labels of another batch": (
        bert, {"input_ids": ids(2, 16), "labels": ids(3)}, "labels has a batch of 3, input_ids of 2",
        "", "input_ids=(2, 16):int64 labels=(2,):int64",
    ),
    "labels counted from 1": (
        bert, {"input_ids": ids(3, 16), "labels": torch.tensor([1, 2, 3])},
        "cross_entropy of 3 classes takes labels 0 … 2, got 3: they are counted from 1 to 3", "labels = labels - 1", "",
    ),
    "more labels than classes": (
        bert, {"input_ids": ids(2, 16), "labels": torch.tensor([0, 3])},
        "cross_entropy of 3 classes takes labels 0 … 2, got 3",
        "config.num_labels = 4; model = BertForSequenceClassification(config)", "",
    ),
    "a kind of token": (
        bert, {"input_ids": ids(2, 16), "token_type_ids": torch.full((2, 16), 2)},
        "the table has rows 0 … 1, got 2 (config.type_vocab_size)",
        "config.type_vocab_size = 3; model = BertForSequenceClassification(config)", "",
    ),
    "a decoder without tokens": (
        t5, {"input_ids": ids(2, 16)}, "the decoder got no tokens: decoder_input_ids, or labels",
        "model(input_ids=input_ids, decoder_input_ids=input_ids)", "",
    ),
    "no first token": (
        t5, {"input_ids": ids(2, 16), "labels": ids(2, 8)}, "config.decoder_start_token_id is not set",
        "config.decoder_start_token_id = 0; model = T5ForConditionalGeneration(config)", "",
    ),
    "no padding token": (
        gpt2, {"input_ids": ids(2, 16)}, "config.pad_token_id is not set",
        "config.pad_token_id = 0; model = GPT2ForSequenceClassification(config)", "",
    ),
    "heads": (
        llama, {"input_ids": ids(2, 16)},
        "config.num_attention_heads = 4 is not divisible by config.num_key_value_heads = 3",
        "config.num_key_value_heads = 2; model = LlamaForCausalLM(config)", "",
    ),
    "a spectrogram turned": (
        whisper, {"input_features": torch.rand(2, 100, 80), "decoder_input_ids": ids(2, 8)},
        "the 80 (config.num_mel_bins) are dim 2 of input_features [2, 100, 80], and belong in dim 1",
        "input_features = input_features.transpose(1, 2)", "input_features=(2, 80, 100) decoder_input_ids=(2, 8):int64",
    ),
    "a signal without a channel": (
        encodec, {"input_values": torch.rand(2, 400)}, "input_values [2, 400] has 2 dims: the model takes 3, with a 1",
        "model(input_values.unsqueeze(1))", "input_values=(2, 1, 400)",
    ),
    "features of a layer": (
        lxmert, {"input_ids": ids(2, 8), "visual_feats": torch.rand(2, 5, 40), "visual_pos": torch.rand(2, 5, 4)},
        "visual_feats [2, 5, 40] has 40 features in dim 2, 'encoder.visn_fc.visn_fc' takes 48 (config.visual_feat_dim)",
        "", "input_ids=(2, 8):int64 visual_feats=(2, 5, 48) visual_pos=(2, 5, 4):float32",
    ),
    "images that are not given": (
        clip, {"input_ids": ids(2, 8)}, "pixel_values was not given, and the model reads it",
        "model(input_ids=input_ids, pixel_values=torch.rand(input_ids.shape[0], 3, 32, 32))", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "given", "reason", "fix", "sizes"), CASES.values(), ids=list(CASES))
def test_the_input_and_what_is_accepted_are_said(
    make: Callable[[], nn.Module], given: dict[str, Tensor], reason: str, fix: str, sizes: str
) -> None:
    error = summarise(make(), given)
    assert error.reason.startswith(reason)
    assert error.fix == fix
    assert error.sizes == ((sizes,) if sizes else ())
    names = {name for name in given if name in error.message}
    assert names or error.code == "loss"  # no line of the package's alone


class Around(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        if mask is None:
            return self.model(x)[0]
        return self.model(input_ids=x, attention_mask=mask)[0]


@pytest.mark.parametrize(
    ("make", "given", "fix"),
    [
        (convnext, {"x": torch.rand(2, 64, 64, 3)}, "return self.model(x.permute(0, 3, 1, 2))[0]"),
        (bert, {"x": torch.rand(2, 16, 32)}, "return self.model(inputs_embeds=x)[0]"),
        (
            bert,
            {"x": torch.ones(2, 16), "mask": torch.ones(2, 16)},
            "return self.model(input_ids=x.long(), attention_mask=mask)[0]",
        ),
        (vit, {"x": torch.rand(2, 3, 48, 48)}, "return self.model(x, interpolate_pos_encoding=True)[0]"),
    ],
)
def test_the_users_line_is_shown_and_changed(make: Callable[[], nn.Module], given: dict[str, Tensor], fix: str) -> None:
    error = summarise(Around(make()), given)
    assert error.fix == fix
    assert "  line      return self.model(" in error.message
    assert str(error.source).startswith("test_given_inputs.py:")
    assert error.fixes[0].patch is not None


def test_a_mask_that_is_as_large_as_wrong_labels_stays() -> None:
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50
    )
    model = transformers.BertForSequenceClassification(config)
    error = ModelSummary(model, input_ids=(4, 32), attention_mask=(4, 32), labels=(4, 32)).error
    assert error is not None
    assert error.sizes == ("input_ids=(4, 32) attention_mask=(4, 32) labels=(4,)",)


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(self.words(ids), src_key_padding_mask=mask)


def test_that_an_integer_mask_may_mean_either_is_said() -> None:
    ids = torch.arange(48).reshape(4, 12)
    error = ModelSummary(Padded(), (ids, (ids == 0).long())).error
    assert error is not None
    assert error.reason.endswith("it is int64: 1 is taken for a token, as of a tokenizer, and may be padding")
    assert [fix.text.rpartition("=")[2] for fix in error.fixes] == [" 0))", "mask.bool())"]


def test_sizes_are_not_said_to_mend_values() -> None:
    """Boxes beyond their table: any other size would run where nothing is known of its values."""
    model = transformers.LayoutLMModel(transformers.LayoutLMConfig(**_TEXT))
    error = summarise(model, {"input_ids": ids(2, 16), "bbox": torch.full((2, 16, 4), 2000)})
    assert error.sizes == ()
    assert error.reason == (
        "The `bbox`coordinate values should be within 0-1000 range: 'embeddings.x_position_embeddings' has 1024 rows "
        "(config.max_2d_position_embeddings)"
    )


def test_a_negative_index_is_found() -> None:
    """A box that ends before it begins has a negative height."""
    model = transformers.LayoutLMModel(transformers.LayoutLMConfig(**_TEXT))
    boxes = torch.tensor([9, 9, 3, 3]).expand(2, 16, 4).contiguous()
    assert "negative index" in summarise(model, {"input_ids": ids(2, 16), "bbox": boxes}).reason
    with pytest.raises(IndexError):
        model(input_ids=ids(2, 16), bbox=boxes)


class Judge(nn.Module):
    """A picture and its class."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 64)
        self.net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 1))

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        return self.net(torch.cat([image, self.table(labels).view(-1, 1, 8, 8)], 1))


@pytest.mark.parametrize(
    ("inputs", "fix", "sizes"),
    [
        (((4,), (4, 1, 8, 8)), "", "(4, 1, 8, 8) (4,)"),
        ((ids(4), torch.rand(4, 1, 8, 8)), "model(labels, image)", "(4, 1, 8, 8):float32 (4,):int64"),
    ],
)
def test_two_inputs_in_each_others_place_are_said_to_be(inputs: tuple[Any, ...], fix: str, sizes: str) -> None:
    error = ModelSummary(Judge(), inputs).error
    assert error is not None
    assert error.reason == "image got what labels takes, and labels what image takes"
    assert error.fix == fix
    assert error.sizes == (sizes,)


def test_inputs_are_not_said_to_be_exchanged_where_the_other_order_fails() -> None:
    error = ModelSummary(Judge(), ((4, 1, 9, 9), (4,))).error
    assert error is not None
    assert "takes, and" not in error.reason

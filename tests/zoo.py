"""Architectures of ``transformers`` from tiny configurations, without downloads, and diffusion blocks written here.

Every entry makes a randomly initialised model in eval mode and inputs that its forward takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ZOO", "Animal", "find_animal"]


@dataclass(frozen=True, slots=True)
class Animal:
    """One architecture.

    Attributes:
        name: Class of the model.
        family: ``"vision"``, ``"text"``, ``"audio"``, ``"encoder-decoder"``, ``"multimodal"``, ``"experts"``,
            ``"state space"``, ``"detection"``, ``"time series"`` or ``"diffusion"``.
        make: Makes the model.
        give: Makes keyword arguments for its forward.
        needs_values: Whether its forward asks for values, so that no sizes alone can answer.
    """

    name: str
    family: str
    make: Callable[[], nn.Module]
    give: Callable[[], dict[str, Any]]
    needs_values: bool = False

    def build(self) -> nn.Module:
        """Make the model; equal at every call."""
        torch.manual_seed(0)
        return self.make().eval()

    def inputs(self) -> dict[str, Any]:
        """Make the arguments; equal at every call."""
        torch.manual_seed(1)
        return self.give()


ZOO: list[Animal] = []


def find_animal(name: str) -> Animal:
    """Return the architecture of that name."""
    return next(animal for animal in ZOO if animal.name == name)


_SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50,
    "max_position_embeddings": 64,
}  # fmt: skip
_LLAMA = {**_SMALL, "num_key_value_heads": 1, "head_dim": 8}
_EYE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
        "patch_size": 8, "num_channels": 3}  # fmt: skip
_D_MODEL = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}  # fmt: skip


def tokens(batch: int = 2, length: int = 8) -> Tensor:
    return torch.randint(3, 50, (batch, length))


def text() -> dict[str, Any]:
    return {"input_ids": tokens()}


def masked_text() -> dict[str, Any]:
    mask = torch.ones(2, 8, dtype=torch.int64)
    mask[1, 6:] = 0
    return {"input_ids": tokens(), "attention_mask": mask}


def image(size: int = 32) -> Callable[[], dict[str, Any]]:
    return lambda: {"pixel_values": torch.randn(2, 3, size, size)}


def wave() -> dict[str, Any]:
    return {"input_values": torch.randn(2, 2000)}


def pair() -> dict[str, Any]:
    return {"input_ids": tokens(), "decoder_input_ids": tokens(length=5)}


def add(
    family: str,
    config: str,
    model: str,
    settings: dict[str, Any],
    give: Callable[[], dict[str, Any]],
    *,
    needs_values: bool = False,
) -> None:
    """Add an architecture by the names of its configuration and its model."""

    def make() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**settings))

    ZOO.append(Animal(model, family, make, give, needs_values))


def add_composed(family: str, name: str, make: Callable[[Any], nn.Module], give: Callable[[], dict[str, Any]]) -> None:
    """Add an architecture whose configuration is made of others; ``make`` gets the package."""

    def build() -> nn.Module:
        import transformers

        return make(transformers)

    ZOO.append(Animal(name, family, build, give))


# -- vision -------------------------------------------------------------------------------------------------------------

add("vision", "ViTConfig", "ViTForImageClassification", _EYE, image())
add("vision", "DeiTConfig", "DeiTModel", _EYE, image())
add("vision", "BeitConfig", "BeitModel", {**_EYE, "use_relative_position_bias": True}, image())
add("vision", "Dinov2Config", "Dinov2Model", _EYE, image())
add("vision", "ResNetConfig", "ResNetForImageClassification",
    {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"}, image())  # fmt: skip
add("vision", "ConvNextConfig", "ConvNextModel", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}, image())
add("vision", "SwinConfig", "SwinModel",
    {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4},
    image())  # fmt: skip
add("vision", "SegformerConfig", "SegformerForSemanticSegmentation",
    {"hidden_sizes": [8, 16], "depths": [1, 1], "num_encoder_blocks": 2, "sr_ratios": [2, 1], "patch_sizes": [7, 3],
     "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 16},
    image())  # fmt: skip
add("vision", "MobileNetV2Config", "MobileNetV2Model", {"depth_multiplier": 0.35}, image(64))
add("vision", "RegNetConfig", "RegNetModel",
    {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4}, image())  # fmt: skip
add("vision", "PvtConfig", "PvtModel",
    {"image_size": 64, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 2]},
    image(64))  # fmt: skip


def patches() -> dict[str, Any]:
    rows = torch.arange(1.0, 5.0).repeat_interleave(4)
    columns = torch.arange(1.0, 5.0).repeat(4)
    places = torch.stack([rows, columns], dim=-1).expand(2, 16, 2)
    return {"flattened_patches": torch.cat([places, torch.randn(2, 16, 48)], dim=-1)}


# Which patches are padding is told by their values.
add("vision", "Pix2StructVisionConfig", "Pix2StructVisionModel",
    {"hidden_size": 16, "patch_embed_hidden_size": 48, "d_ff": 32, "d_kv": 8, "num_hidden_layers": 2,
     "num_attention_heads": 2, "seq_len": 16}, patches, needs_values=True)  # fmt: skip

# -- text ---------------------------------------------------------------------------------------------------------------

add("text", "BertConfig", "BertForSequenceClassification", _SMALL, masked_text)
add("text", "RobertaConfig", "RobertaModel", {**_SMALL, "max_position_embeddings": 80}, text)
add("text", "DistilBertConfig", "DistilBertModel", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32,
    "vocab_size": 50}, text)  # fmt: skip
add("text", "AlbertConfig", "AlbertModel", {**_SMALL, "embedding_size": 8}, text)
add("text", "ElectraConfig", "ElectraForTokenClassification", {**_SMALL, "embedding_size": 8}, text)
add("text", "DebertaV2Config", "DebertaV2Model",
    {**_SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, text)  # fmt: skip
add("text", "FunnelConfig", "FunnelModel", {"vocab_size": 50, "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 32,
    "block_sizes": [1, 1], "num_decoder_layers": 1}, text)  # fmt: skip
add(
    "text",
    "XLNetConfig",
    "XLNetModel",
    {"vocab_size": 50, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
    text,
)
add("text", "GPT2Config", "GPT2LMHeadModel", {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2}, text)
add("text", "GPTNeoXConfig", "GPTNeoXForCausalLM", _SMALL, text)
add("text", "OPTConfig", "OPTForCausalLM", {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 16}, text)  # fmt: skip
add("text", "BloomConfig", "BloomForCausalLM", {"vocab_size": 50, "hidden_size": 16, "n_layer": 2, "n_head": 2}, text)
add("text", "LlamaConfig", "LlamaForCausalLM", _LLAMA, text)
add("text", "MistralConfig", "MistralModel", {**_LLAMA, "sliding_window": 4}, masked_text)
add("text", "GemmaConfig", "GemmaForCausalLM", _LLAMA, text)
add("text", "Qwen2Config", "Qwen2ForCausalLM", _LLAMA, text)
add("text", "PhiConfig", "PhiForCausalLM", _SMALL, text)
add("text", "LongformerConfig", "LongformerModel", {**_SMALL, "attention_window": 4}, text, needs_values=True)

# -- mixtures of experts, state spaces ----------------------------------------------------------------------------------

#: Whether transformers asks where an expert's weights lie in memory: up to torch 2.10 their product needs it aligned.
_ASKS_FOR_ADDRESSES = tuple(map(int, torch.__version__.split(".")[:2])) <= (2, 10)

add("experts", "MixtralConfig", "MixtralForCausalLM", {**_LLAMA, "num_local_experts": 4}, text,
    needs_values=_ASKS_FOR_ADDRESSES)  # fmt: skip
add("experts", "Qwen2MoeConfig", "Qwen2MoeForCausalLM",
    {**_LLAMA, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
     "num_experts_per_tok": 2}, text, needs_values=_ASKS_FOR_ADDRESSES)  # fmt: skip
add("experts", "SwitchTransformersConfig", "SwitchTransformersModel",
    {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_sparse_encoder_layers": 1,
     "num_decoder_layers": 2, "num_sparse_decoder_layers": 1, "num_heads": 2, "num_experts": 2},
    pair, needs_values=True)  # fmt: skip
add("state space", "MambaConfig", "MambaForCausalLM",
    {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}, text)  # fmt: skip
add("state space", "Mamba2Config", "Mamba2ForCausalLM",
    {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "num_heads": 4, "head_dim": 8,
     "n_groups": 1, "chunk_size": 4}, text)  # fmt: skip
add("state space", "RwkvConfig", "RwkvForCausalLM",
    {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16}, text)  # fmt: skip

# -- encoders with decoders ---------------------------------------------------------------------------------------------

add("encoder-decoder", "T5Config", "T5ForConditionalGeneration",
    {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
     "decoder_start_token_id": 0}, pair)  # fmt: skip
add("encoder-decoder", "BartConfig", "BartForConditionalGeneration",
    {**_D_MODEL, "vocab_size": 50, "max_position_embeddings": 64}, pair)  # fmt: skip
add("encoder-decoder", "MarianConfig", "MarianModel",
    {**_D_MODEL, "vocab_size": 50, "max_position_embeddings": 64, "pad_token_id": 0,
     "decoder_start_token_id": 0}, pair)  # fmt: skip
add("encoder-decoder", "ProphetNetConfig", "ProphetNetModel",
    {"vocab_size": 50, "hidden_size": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_encoder_layers": 1,
     "num_decoder_layers": 1, "num_encoder_attention_heads": 2, "num_decoder_attention_heads": 2,
     "max_position_embeddings": 64}, pair)  # fmt: skip

# -- audio --------------------------------------------------------------------------------------------------------------

_EAR = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2, "vocab_size": 20, "num_feat_extract_layers": 2}  # fmt: skip
add("audio", "Wav2Vec2Config", "Wav2Vec2ForCTC", _EAR, wave)
add("audio", "HubertConfig", "HubertModel", _EAR, wave)
add("audio", "WhisperConfig", "WhisperForConditionalGeneration",
    {**_D_MODEL, "vocab_size": 60, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 16,
     "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
    lambda: {"input_features": torch.randn(2, 8, 40), "decoder_input_ids": tokens(length=4)})  # fmt: skip
add("audio", "ASTConfig", "ASTModel",
    {**_EYE, "num_mel_bins": 16, "max_length": 32, "patch_size": 8, "frequency_stride": 8, "time_stride": 8},
    lambda: {"input_values": torch.randn(2, 32, 16)})  # fmt: skip

# -- several kinds of input at once -------------------------------------------------------------------------------------

_TEXT_PART = {**_SMALL, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}


def image_and_text() -> dict[str, Any]:
    return {"input_ids": tokens(), "pixel_values": torch.randn(2, 3, 32, 32)}


add_composed("multimodal", "CLIPModel", lambda t: t.CLIPModel(
    t.CLIPConfig(text_config=dict(_TEXT_PART), vision_config=dict(_EYE), projection_dim=8)), image_and_text)  # fmt: skip
add_composed("multimodal", "SiglipModel", lambda t: t.SiglipModel(
    t.SiglipConfig(text_config=dict(_TEXT_PART), vision_config=dict(_EYE))), image_and_text)  # fmt: skip
add("multimodal", "ViltConfig", "ViltModel", {**_SMALL, "image_size": 32, "patch_size": 8}, image_and_text)  # fmt: skip


def llava(t: Any) -> nn.Module:
    vision = t.CLIPVisionConfig(**_EYE)
    language = t.LlamaConfig(**_LLAMA)
    return t.LlavaForConditionalGeneration(
        t.LlavaConfig(vision_config=vision, text_config=language, image_token_index=49)
    )


def llava_inputs() -> dict[str, Any]:
    ids = torch.randint(3, 49, (1, 20))
    ids[0, 2:18] = 49  # one token for each of 16 patches
    return {"input_ids": ids, "pixel_values": torch.randn(1, 3, 32, 32)}


add_composed("multimodal", "LlavaForConditionalGeneration", llava, llava_inputs)

# -- detection ----------------------------------------------------------------------------------------------------------

add("detection", "YolosConfig", "YolosForObjectDetection",
    {**_EYE, "image_size": [32, 32], "num_detection_tokens": 5}, image())  # fmt: skip


def detr(t: Any) -> nn.Module:
    backbone = t.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    settings = t.DetrConfig(use_timm_backbone=False, backbone=None, backbone_config=backbone, num_queries=5, **_D_MODEL)
    return t.DetrForObjectDetection(settings)


add_composed("detection", "DetrForObjectDetection", detr, image(64))

# -- time series --------------------------------------------------------------------------------------------------------


def series() -> dict[str, Any]:
    past, future = 6 + 7, 4
    return {
        "past_values": torch.rand(2, past),
        "past_time_features": torch.rand(2, past, 2),
        "past_observed_mask": torch.ones(2, past),
        "future_values": torch.rand(2, future),
        "future_time_features": torch.rand(2, future, 2),
    }


_SERIES = {"prediction_length": 4, "context_length": 6, "num_time_features": 2, "lags_sequence": [1, 2, 7], "d_model": 16,
           "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
           "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}  # fmt: skip
add("time series", "TimeSeriesTransformerConfig", "TimeSeriesTransformerModel", _SERIES, series)
add("time series", "InformerConfig", "InformerModel", _SERIES, series)
add("time series", "AutoformerConfig", "AutoformerModel", {**_SERIES, "moving_average": 3, "label_length": 2},
    series)  # fmt: skip
add("time series", "PatchTSTConfig", "PatchTSTModel",
    {"num_input_channels": 2, "context_length": 16, "patch_length": 4, "patch_stride": 4, "d_model": 16,
     "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32},
    lambda: {"past_values": torch.rand(2, 16, 2)})  # fmt: skip
add("time series", "PatchTSMixerConfig", "PatchTSMixerModel",
    {"num_input_channels": 2, "context_length": 16, "patch_length": 4, "patch_stride": 4, "d_model": 16, "num_layers": 1},
    lambda: {"past_values": torch.rand(2, 16, 2)})  # fmt: skip

# -- diffusion, written here --------------------------------------------------------------------------------------------


def embed_steps(steps: Tensor, width: int) -> Tensor:
    """Sines and cosines of a diffusion step."""
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=steps.device) / (width // 2))
    angles = steps[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class StepBlock(nn.Module):
    """A residual block that is told the step, as in a diffusion U-Net."""

    def __init__(self, width: int, out: int, steps: int) -> None:
        super().__init__()
        self.norm0, self.norm1 = nn.GroupNorm(2, width), nn.GroupNorm(2, out)
        self.conv0, self.conv1 = nn.Conv2d(width, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.step = nn.Linear(steps, out)
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        y = self.conv0(F.silu(self.norm0(x))) + self.step(F.silu(step))[:, :, None, None]
        return self.skip(x) + self.conv1(F.silu(self.norm1(y)))


class CrossAttention(nn.Module):
    """Pixels that look at a text."""

    def __init__(self, width: int, context: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(context, width), nn.Linear(context, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        batch, width, height, breadth = x.shape
        pixels = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in (self.q(pixels), self.k(context), self.v(context))
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(y).transpose(1, 2).reshape(batch, width, height, breadth)


class DiffusionUNet(nn.Module):
    """Two levels down, a middle that looks at a text, two levels up with skips."""

    def __init__(self, width: int = 8, context: int = 12) -> None:
        super().__init__()
        self.width = width
        self.steps = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.stem = nn.Conv2d(4, width, 3, padding=1)
        self.down = nn.ModuleList([StepBlock(width, width, 4 * width), StepBlock(width, 2 * width, 4 * width)])
        self.shrink = nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1)
        self.middle = StepBlock(2 * width, 2 * width, 4 * width)
        self.attention = CrossAttention(2 * width, context)
        self.up = nn.ModuleList([StepBlock(4 * width, width, 4 * width), StepBlock(2 * width, width, 4 * width)])
        self.head = nn.Sequential(nn.GroupNorm(2, width), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1))

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> dict[str, Tensor]:
        step = self.steps(embed_steps(timestep, self.width))
        x, skips = self.stem(sample), []
        for block in self.down:
            x = block(x, step)
            skips.append(x)
        x = self.attention(self.middle(self.shrink(x), step), encoder_hidden_states)
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        for block in self.up:
            x = block(torch.cat([x, skips.pop()], dim=1), step)
        return {"sample": self.head(x)}


class DiTBlock(nn.Module):
    """A transformer block whose norms are shifted and scaled by the step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm0 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        shift0, scale0, gate0, shift1, scale1, gate1 = self.modulation(step)[:, None].chunk(6, dim=-1)
        y = self.norm0(x) * (1 + scale0) + shift0
        x = x + gate0 * self.attention(y, y, y, need_weights=False)[0]
        return x + gate1 * self.mlp(self.norm1(x) * (1 + scale1) + shift1)


class DiT(nn.Module):
    """A diffusion transformer over patches."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.patches = nn.Conv2d(4, width, 2, stride=2)
        self.position = nn.Parameter(torch.zeros(1, 64, width))
        self.labels = nn.Embedding(11, width)
        self.blocks = nn.ModuleList(DiTBlock(width) for _ in range(2))
        self.head = nn.Linear(width, 2 * 2 * 4)

    def forward(self, latents: Tensor, steps: Tensor, labels: Tensor) -> Tensor:
        x = self.patches(latents)
        height, width = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2) + self.position[:, : height * width]
        condition = embed_steps(steps, self.width) + self.labels(labels)
        for block in self.blocks:
            x = block(x, condition)
        x = self.head(x).unflatten(1, (height, width)).unflatten(-1, (2, 2, 4))
        return torch.einsum("bhwpqc->bchpwq", x).flatten(4, 5).flatten(2, 3)


def unet_inputs() -> dict[str, Any]:
    return {
        "sample": torch.randn(2, 4, 16, 16),
        "timestep": torch.tensor([3, 900]),
        "encoder_hidden_states": torch.randn(2, 7, 12),
    }


ZOO.append(Animal("DiffusionUNet", "diffusion", DiffusionUNet, unet_inputs))
ZOO.append(Animal("DiT", "diffusion", DiT, lambda: {
    "latents": torch.randn(2, 4, 16, 16), "steps": torch.tensor([3, 900]), "labels": torch.tensor([1, 10])}))  # fmt: skip

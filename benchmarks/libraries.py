"""Small models of some thirty libraries, for ``zoos`` and ``sizes``; each is left out where its library is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["list_models"]

Built = tuple[nn.Module, tuple[Any, ...]]

_MODELS: dict[str, Callable[[], Built]] = {}


def _model(build: Callable[[], Built]) -> Callable[[], Built]:
    """Register what builds a model and its arguments; the first word of its name is its library."""
    _MODELS[build.__name__] = build
    return build


def list_models() -> Iterator[tuple[str, Callable[[], Built]]]:
    """List the models whose library is there, by name."""
    for name, build in _MODELS.items():
        if find_spec(name.split("__")[0]) is not None:
            yield name.replace("__", " "), build


def _get(path: str) -> Any:
    module, name = path.rsplit(".", 1)
    return getattr(import_module(module), name)


def _add(name: str, path: str, settings: dict[str, Any], *inputs: Callable[[], Any]) -> None:
    """Register a model that one class builds from settings."""
    _MODELS[name] = lambda: (_get(path)(**settings), tuple(make() for make in inputs))


def _floats(*size: int) -> Callable[[], Tensor]:
    return lambda: torch.rand(*size)


def _ids(most: int, *size: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(0, most, size)


# -- diffusers and peft -----------------------------------------------------------------------------------------------

_UNET = {"layers_per_block": 1, "block_out_channels": (32, 64), "norm_num_groups": 8}
_TEXT = {"cross_attention_dim": 32, "attention_head_dim": 8}
_DIT = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "num_layers": 2, "patch_size": 2}
_add(
    "diffusers__unet", "diffusers.UNet2DModel",
    {"sample_size": 32, **_UNET, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
     "up_block_types": ("AttnUpBlock2D", "UpBlock2D")},
    _floats(2, 3, 32, 32), _ids(9, 2),
)  # fmt: skip
_add(
    "diffusers__unet_of_texts", "diffusers.UNet2DConditionModel",
    {"sample_size": 32, **_UNET, **_TEXT, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
     "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")},
    _floats(2, 4, 32, 32), _ids(9, 2), _floats(2, 77, 32),
)  # fmt: skip
_add(
    "diffusers__controlnet", "diffusers.ControlNetModel",
    {**_UNET, **_TEXT, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
     "conditioning_embedding_out_channels": (16, 32)},
    _floats(2, 4, 32, 32), _ids(9, 2), _floats(2, 77, 32), _floats(2, 3, 64, 64),
)  # fmt: skip
_add(
    "diffusers__autoencoder", "diffusers.AutoencoderKL",
    {"block_out_channels": (32, 64), "down_block_types": ("DownEncoderBlock2D",) * 2,
     "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 8},
    _floats(2, 3, 32, 32),
)  # fmt: skip
_add(
    "diffusers__vq", "diffusers.VQModel",
    {"block_out_channels": (32,), "latent_channels": 3, "norm_num_groups": 8, "num_vq_embeddings": 64},
    _floats(2, 3, 32, 32),
)  # fmt: skip
_add(
    "diffusers__dit", "diffusers.DiTTransformer2DModel",
    {**_DIT, "sample_size": 16, "num_embeds_ada_norm": 10, "norm_num_groups": 4},
    _floats(2, 4, 16, 16), _ids(9, 2), _ids(9, 2),
)  # fmt: skip
_add(
    "diffusers__sd3", "diffusers.SD3Transformer2DModel",
    {**_DIT, "sample_size": 16, "joint_attention_dim": 32, "caption_projection_dim": 32, "pooled_projection_dim": 32,
     "out_channels": 4, "pos_embed_max_size": 16},
    _floats(2, 4, 16, 16), _floats(2, 20, 32), _floats(2, 32), _ids(9, 2),
)  # fmt: skip
_add(
    "diffusers__flux", "diffusers.FluxTransformer2DModel",
    {"patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
     "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8)},
    _floats(2, 64, 16), _floats(2, 20, 32), _floats(2, 32), _floats(2), _floats(64, 3), _floats(20, 3),
)  # fmt: skip
_add(
    "diffusers__wan", "diffusers.WanTransformer3DModel",
    {**_DIT, "patch_size": (1, 2, 2), "out_channels": 4, "text_dim": 32, "freq_dim": 32, "ffn_dim": 64,
     "rope_max_seq_len": 32},
    _floats(1, 4, 2, 16, 16), _ids(9, 1), _floats(1, 12, 32),
)  # fmt: skip


@_model
def peft__lora_bert() -> Built:
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertModel(BertConfig(vocab_size=100, **sizes))
    return get_peft_model(model, LoraConfig(r=4, target_modules=["query", "value"])), (torch.ones(2, 16).long(),)


# -- graphs, volumes, equations ---------------------------------------------------------------------------------------

for _name, _path in (("gat", "GAT"), ("gin", "GIN"), ("sage", "GraphSAGE"), ("gcn", "GCN")):
    _add(
        f"torch_geometric__{_name}", f"torch_geometric.nn.{_path}",
        {"in_channels": 16, "hidden_channels": 32, "num_layers": 2, "out_channels": 8},
        _floats(20, 16), _ids(20, 2, 60),
    )  # fmt: skip
_add("egnn_pytorch__layer", "egnn_pytorch.EGNN", {"dim": 32}, _floats(2, 16, 32), _floats(2, 16, 3))
_add(
    "point_transformer_pytorch__layer", "point_transformer_pytorch.PointTransformerLayer",
    {"dim": 32, "pos_mlp_hidden_dim": 16, "attn_mlp_hidden_mult": 2}, _floats(2, 16, 32), _floats(2, 16, 3),
)  # fmt: skip
_NET = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
_volume = _floats(1, 1, 32, 32, 32)
_add("monai__unet", "monai.networks.nets.UNet", {**_NET, "channels": (8, 16, 32), "strides": (2, 2)}, _volume)
_add("monai__segresnet", "monai.networks.nets.SegResNet", {"init_filters": 8}, _volume)
_add("monai__vnet", "monai.networks.nets.VNet", {}, _volume)
_add(
    "monai__attention_unet", "monai.networks.nets.AttentionUnet",
    {**_NET, "channels": (8, 16, 32), "strides": (2, 2)}, _volume,
)  # fmt: skip
_add(
    "monai__swin_unetr", "monai.networks.nets.SwinUNETR",
    {"in_channels": 1, "out_channels": 2, "feature_size": 12}, _floats(1, 1, 64, 64, 64),
)  # fmt: skip
_add(
    "neuralop__fno", "neuralop.models.FNO",
    {"n_modes": (8, 8), "hidden_channels": 16, "in_channels": 1, "out_channels": 1, "n_layers": 2},
    _floats(2, 1, 32, 32),
)  # fmt: skip
_add("siren_pytorch__net", "siren_pytorch.SirenNet", {"dim_in": 2, "dim_hidden": 32, "dim_out": 3, "num_layers": 3},
     _floats(100, 2))  # fmt: skip


@_model
def torchdiffeq__node() -> Built:
    from torchdiffeq import odeint

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.layer(y).tanh()  # type: ignore[no-any-return]

    class Solver(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field = Field()

        def forward(self, y: Tensor) -> Tensor:
            return odeint(self.field, y, torch.linspace(0, 1, 5), method="rk4")[-1]  # type: ignore[no-any-return]

    return Solver(), (torch.rand(3, 4),)


# -- transformers of text, images, tables -----------------------------------------------------------------------------

_VIT = {"image_size": 64, "patch_size": 8, "num_classes": 10, "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 128}
_image = _floats(2, 3, 64, 64)
for _name, _path in (
    ("vit", "ViT"), ("simple_vit", "simple_vit.SimpleViT"), ("deepvit", "deepvit.DeepViT"), ("rvt", "rvt.RvT"),
    ("parallel_vit", "parallel_vit.ViT"), ("small_dataset", "vit_for_small_dataset.ViT"),
):  # fmt: skip
    _add(f"vit_pytorch__{_name}", f"vit_pytorch.{_path}", _VIT, _image)
_add("vit_pytorch__cait", "vit_pytorch.cait.CaiT", {**_VIT, "cls_depth": 1}, _image)
_add("vit_pytorch__xcit", "vit_pytorch.xcit.XCiT", {**_VIT, "cls_depth": 1}, _image)
_add("vit_pytorch__pit", "vit_pytorch.pit.PiT", {**_VIT, "dim": 32, "depth": (1, 1), "heads": 2}, _image)
_add(
    "vit_pytorch__levit", "vit_pytorch.levit.LeViT",
    {"image_size": 64, "num_classes": 10, "dim": (32, 64, 96), "depth": (1, 1, 1), "heads": (2, 2, 2), "mlp_mult": 2},
    _image,
)  # fmt: skip
_add(
    "vit_pytorch__cross_vit", "vit_pytorch.cross_vit.CrossViT",
    {"image_size": 64, "num_classes": 10, "depth": 1, "sm_patch_size": 8, "lg_patch_size": 16, "sm_dim": 32,
     "lg_dim": 64}, _image,
)  # fmt: skip
_add(
    "vit_pytorch__cvt", "vit_pytorch.cvt.CvT",
    {"num_classes": 10, "s1_emb_dim": 32, "s2_emb_dim": 64, "s3_emb_dim": 96, "s1_depth": 1, "s2_depth": 1,
     "s3_depth": 1}, _image,
)  # fmt: skip
_add(
    "vit_pytorch__nest", "vit_pytorch.nest.NesT",
    {"image_size": 64, "patch_size": 4, "dim": 32, "heads": 2, "num_hierarchies": 3, "block_repeats": (1, 1, 1),
     "num_classes": 10}, _image,
)  # fmt: skip
_add(
    "vit_pytorch__max_vit", "vit_pytorch.max_vit.MaxViT",
    {"num_classes": 10, "dim": 32, "dim_head": 16, "depth": (1, 1, 1)}, _floats(1, 3, 224, 224),
)  # fmt: skip
_PATCHES = {"image_size": 32, "patch_size": 8, "num_classes": 10, "dim": 32, "depth": 2}
_small = _floats(2, 3, 32, 32)
_add("g_mlp_pytorch__vision", "g_mlp_pytorch.gMLPVision", _PATCHES, _small)
_add("mlp_mixer_pytorch__mixer", "mlp_mixer_pytorch.MLPMixer", {**_PATCHES, "channels": 3}, _small)
_add(
    "timesformer_pytorch__timesformer", "timesformer_pytorch.TimeSformer",
    {**_PATCHES, "num_frames": 4, "heads": 2, "dim_head": 16}, _floats(2, 4, 3, 32, 32),
)  # fmt: skip
_tokens = _floats(2, 50, 64)
_add("conformer__conformer", "conformer.Conformer", {"dim": 64, "depth": 2, "dim_head": 16, "heads": 4}, _tokens)
_add(
    "performer_pytorch__performer", "performer_pytorch.Performer",
    {"dim": 64, "depth": 2, "heads": 4, "dim_head": 16}, _tokens,
)  # fmt: skip
_add(
    "linformer__linformer", "linformer.Linformer", {"dim": 64, "seq_len": 50, "depth": 2, "heads": 4, "k": 16}, _tokens
)
_add(
    "nystrom_attention__nystromformer", "nystrom_attention.Nystromformer",
    {"dim": 64, "depth": 1, "heads": 2, "dim_head": 16, "num_landmarks": 16}, _tokens,
)  # fmt: skip
_add(
    "reformer_pytorch__reformer", "reformer_pytorch.Reformer",
    {"dim": 64, "depth": 1, "heads": 4, "bucket_size": 16}, _floats(2, 64, 64),
)  # fmt: skip
_add(
    "perceiver_pytorch__perceiver", "perceiver_pytorch.Perceiver",
    {"num_freq_bands": 4, "depth": 1, "max_freq": 10.0, "num_latents": 16, "latent_dim": 32, "latent_dim_head": 16,
     "cross_dim_head": 16, "num_classes": 10}, _floats(2, 24, 24, 3),
)  # fmt: skip
_add("slot_attention__slots", "slot_attention.SlotAttention", {"num_slots": 5, "dim": 32}, _floats(2, 100, 32))
_add("soft_moe_pytorch__moe", "soft_moe_pytorch.SoftMoE", {"dim": 32, "seq_len": 64, "num_experts": 4},
     _floats(2, 64, 32))  # fmt: skip
_add("vector_quantize_pytorch__vq", "vector_quantize_pytorch.VectorQuantize", {"dim": 32, "codebook_size": 64},
     _floats(2, 50, 32))  # fmt: skip
_add("vector_quantize_pytorch__fsq", "vector_quantize_pytorch.FSQ", {"levels": [8, 5, 5, 5]}, _floats(2, 50, 4))
_add(
    "iTransformer__forecaster", "iTransformer.iTransformer",
    {"num_variates": 7, "lookback_len": 48, "dim": 32, "depth": 1, "heads": 2, "dim_head": 16,
     "pred_length": (12, 24)}, _floats(2, 48, 7),
)  # fmt: skip
_add("titans_pytorch__memory", "titans_pytorch.NeuralMemory", {"dim": 32, "chunk_size": 16}, _floats(2, 64, 32))
_add("kornia__hardnet", "kornia.feature.HardNet", {"pretrained": False}, _floats(4, 1, 32, 32))
_add(
    "denoising_diffusion_pytorch__unet", "denoising_diffusion_pytorch.Unet",
    {"dim": 16, "dim_mults": (1, 2), "flash_attn": False}, _small, _ids(9, 2),
)  # fmt: skip


@_model
def x_transformers__decoder() -> Built:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=64, depth=2, heads=4, rotary_pos_emb=True)
    return TransformerWrapper(num_tokens=100, max_seq_len=64, attn_layers=layers), (torch.ones(2, 32).long(),)


@_model
def open_clip__clip() -> Built:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=8, image_size=64)
    text = CLIPTextCfg(context_length=16, vocab_size=100, width=64, heads=2, layers=2)
    return CLIP(32, vision, text), (torch.rand(2, 3, 64, 64), torch.ones(2, 16).long())


@_model
def pytorch_tabnet__tabnet() -> Built:
    from pytorch_tabnet.tab_network import TabNet

    return TabNet(16, 4, group_attention_matrix=torch.eye(16)), (torch.rand(8, 16),)


@_model
def rtdl_revisiting_models__transformer() -> Built:
    from rtdl_revisiting_models import FTTransformer

    settings = FTTransformer.get_default_kwargs(1)
    model = FTTransformer(n_cont_features=4, cat_cardinalities=[3, 5], d_out=1, **settings)
    return model, (torch.rand(6, 4), torch.ones(6, 2).long())


@_model
def zuko__spline_flow() -> Built:
    import zuko

    class Density(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = zuko.flows.NSF(4, 3, transforms=2, hidden_features=(32,))

        def forward(self, x: Tensor, given: Tensor) -> Tensor:
            return self.flow(given).log_prob(x)  # type: ignore[no-any-return]

    return Density(), (torch.rand(6, 4), torch.rand(6, 3))


# -- restorers of pictures, and detectors -----------------------------------------------------------------------------

_RESTORERS: dict[str, dict[str, Any]] = {
    "Compact.__arch.SRVGG.SRVGGNetCompact": {},
    "DCTLSA.__arch.dctlsa.DCTLSA": {},
    "DITN.__arch.DITN_Real.DITN_Real": {},
    "FBCNN.__arch.FBCNN.FBCNN": {},
    "MixDehazeNet.__arch.MixDehazeNet.MixDehazeNet": {},
    "MoSR.__arch.mosr_arch.MoSR": {},
    "NAFNet.__arch.NAFNet_arch.NAFNet": {},
    "OmniSR.__arch.OmniSR.OmniSR": {},
    "PLKSR.__arch.PLKSR.PLKSR": {},
    "RealCUGAN.__arch.upcunet_v3.UpCunet2x": {},
    "RealCUGAN.__arch.upcunet_v3.UpCunet3x": {},
    "RetinexFormer.__arch.retinexformer_arch.RetinexFormer": {},
    "SAFMN.__arch.safmn.SAFMN": {"dim": 36},
    "SCUNet.__arch.SCUNet.SCUNet": {},
    "SPAN.__arch.span.SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    "SwiftSRGAN.__arch.SwiftSRGAN.Generator": {},
}
for _path, _settings in _RESTORERS.items():
    _add(f"spandrel__{_path.rpartition('.')[2]}", f"spandrel.architectures.{_path}", _settings, _floats(1, 3, 64, 64))

for _name in ("yolov8n", "yolo11n", "yolov10n"):
    _settings = {"cfg": f"{_name}.yaml", "verbose": False}
    _add(f"ultralytics__{_name}", "ultralytics.nn.tasks.DetectionModel", _settings, _floats(1, 3, 320, 320))
_add(
    "ultralytics__rtdetr", "ultralytics.nn.tasks.RTDETRDetectionModel",
    {"cfg": "rtdetr-resnet50.yaml", "verbose": False}, _floats(1, 3, 320, 320),
)  # fmt: skip

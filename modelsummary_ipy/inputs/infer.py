"""A size that may work where none was given: from the layers that come first, and from the names of the parameters.

Nothing here knows that a size works: the caller traces the candidates, the likeliest first, and keeps one that runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import isqrt
from typing import Any

from torch import Tensor, nn

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.reading import read_call
from modelsummary_ipy.inputs.signature import list_positional, read_signature
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import ModuleFact, ParamFact

#: Batch of a made-up input: at 1 a ``squeeze`` may bite that bites at no other, and batch norms refuse to train.
_B = 2
_T = 16
#: Widths of a square feature map, the usual ones first; nets that end in a fixed Linear accept just one.
_WIDTHS = (64, 32, 28, 224, 128, 256, 96, 48, 227, 299, 84, 40, 16, 512, 8, 4)
_LENGTHS = (64, 128, 256, 1024, 16000, 400, 100, 32, 16)
_VOLUMES = ((16, 64, 64), (32, 32, 32), (16, 112, 112), (8, 224, 224))
_FIRST = 3  # how many consumers are looked at
_MOST = 48  # how many candidates are offered at the most

#: Attributes that hold the size of the image that a layer is for.
_PICTURES = ("img_size", "image_size", "input_size", "input_resolution", "resolution")
#: Last words of parameter names whose tensors count or point at something.
COUNTED = ("ids", "id", "tokens", "token", "labels", "label", "targets", "indices", "index", "idx")
_STEPS = ("t", "time", "times", "timestep", "timesteps", "step", "steps", "sigma", "noise_level")
_MASKS = ("mask", "masks", "attention_mask", "padding_mask")


#: What the configuration of a model may hold about its inputs.
_HINTS = (
    "image_size", "crop_size", "num_channels", "num_mel_bins", "max_length", "max_source_positions",
    "context_length", "num_input_channels", "num_frames", "frames_per_clip", "in_channels", "sample_size",
    "sample_frames", "pooled_projection_dim",
)  # fmt: skip
#: What it calls the width of the text that conditions a denoiser, the surest first.
_TEXTS = ("caption_channels", "joint_attention_dim", "text_dim", "text_embed_dim", "cross_attention_dim")
#: What it calls what it is to free from noise.
_LATENTS = ("sample", "hidden_states")
#: What a denoiser takes besides what it is to free from noise, also where its signature does without.
_CONDITIONS = ("timestep", "encoder_hidden_states", "pooled_projections", "class_labels", "img_ids", "txt_ids")
#: The same where its signature requires it.
_REQUIRED_CONDITIONS = (*_CONDITIONS, "encoder_attention_mask", "controlnet_cond")


def read_parameters(model: nn.Module, method: str) -> tuple[list[str], list[str], dict[str, int]]:
    """Return the parameters a forward can't do without, those that matter if all are optional, and its config."""
    signature = read_signature(model, method)
    if signature is None:
        return ["input"], [], {}
    parameters, positional = signature.parameters, list_positional(signature)
    required = [p.name for p in positional if p.default is p.empty]
    config = getattr(model, "config", None)
    stated: dict[str, int] = {}
    for part in (config, *_find_parts(config)):
        for name in (*_HINTS, *_TEXTS):
            if type(value := getattr(part, name, None)) is int:
                stated.setdefault(name, value)
    denoised = next((p.name for p in positional[:1] if p.name in _LATENTS), "")
    if denoised and "timestep" in parameters and set(required) <= {denoised, *_REQUIRED_CONDITIONS}:
        main_names = dict.fromkeys([denoised, *(name for name in _CONDITIONS if name in parameters), *required])
        return [], list(main_names), stated
    main = str(getattr(model, "main_input_name", ""))  # what transformers' models call it
    if not required and main in parameters:
        sees = getattr(config, "vision_config", None) is not None or "image_size" in stated
        more = ["input_ids", "pixel_values"] if sees else []
        more += ["decoder_input_ids"] if getattr(config, "is_encoder_decoder", False) else []
        return [], [main, *(name for name in more if name in parameters and name != main)], stated
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    return required or [p.name for p in positional[:1]] or (["input"] if takes_any else []), [], stated


def _find_parts(config: Any, depth: int = 3) -> list[Any]:
    """List the configurations inside a configuration: of its vision, its text, its encoder."""
    held = getattr(config, "__dict__", None)  # some libraries keep a dict, which has no attributes of its own
    if type(held) is not dict or depth == 0:
        return []
    inner = [value for value in held.values() if isinstance(getattr(value, "model_type", None), str)]
    return [*inner, *(part for value in inner for part in _find_parts(value, depth - 1))]


def read_example(model: nn.Module, method: str) -> ModelInputs | None:
    """Read the input that a LightningModule has as its example: a tensor, a tuple of arguments, a dict of keywords.

    One that the forward does not take, such as a size, is none.
    """
    given = getattr(model, "example_input_array", None) if method == "forward" else None
    if not isinstance(given, (Tensor, tuple, list, Mapping)):
        return None
    args = tuple(given) if isinstance(given, (tuple, list)) else () if isinstance(given, Mapping) else (given,)
    try:
        return read_call(model, args, dict(given) if isinstance(given, Mapping) else {})
    except InputError:
        return None


def list_candidates(
    modules: Sequence[ModuleFact],
    required: Sequence[str],
    main: Sequence[str] = (),
    hints: Mapping[str, int] | None = None,
    params: Sequence[ParamFact] = (),
) -> Iterator[ModelInputs]:
    """Offer arguments that the model may take, the likeliest first.

    Args:
        modules: The model's modules, in registration order.
        required: Names of the parameters that forward can't do without, in order; the first one if it has only optional
            ones.
        main: The parameters that matter of a model whose parameters are all optional; they are given by keyword.
        hints: Numbers of the model's configuration: ``image_size``, ``num_channels``, ``num_mel_bins``.
        params: The model's parameters and buffers: tables of positions among them show how many patches there are.
    """
    sizes = list(dict.fromkeys(_list_sizes(modules, _find_widths(modules, params))))
    if main:
        # All that matter, then the first alone: a text without an image, where the two must agree.
        offered: set[tuple[tuple[str, Size], ...]] = set()
        unclassed = [name for name in main if name != "class_labels"]  # nets without classes refuse any
        for names in (unclassed, main, main[:1]):
            for size in sizes[: _MOST // 2]:
                for known in _list_known(main[0], size, hints or {}):
                    given = {main[0]: known, **{name: _list_known(name, size, hints or {})[0] for name in names[1:]}}
                    if (key := tuple(given.items())) not in offered:
                        offered.add(key)
                        yield ModelInputs((), given)
        return
    if len(required) <= 1:
        named = [stated for name in required for stated in _list_known(name, sizes[0], hints or {})]
        for size in list(dict.fromkeys([*named, *sizes]))[:_MOST]:
            yield ModelInputs((size,) * len(required), {}, tuple(required))
        return
    for count, size in enumerate(sizes):
        choices = [
            _list_choices(name, size, sizes, hints or {}, first=not position) for position, name in enumerate(required)
        ]
        for number, chosen in enumerate(product(*choices)):
            if number + count >= _MOST:
                break
            yield ModelInputs(tuple(chosen), {}, tuple(required))


def _list_known(name: str, size: Size, hints: Mapping[str, int]) -> list[Size]:
    """List sizes for a parameter whose name is known; the size at hand for any other."""
    if found := _list_of_denoiser(name, hints):
        return [*found, size] if name in _LATENTS else found
    if name.rpartition("_")[2] in COUNTED:
        return [Size((_B, _T), dtype="int64")]
    width = hints.get("image_size", hints.get("crop_size"))
    if name.startswith("pixel_values") and width:
        channels = hints.get("num_channels", 3)
        frames = hints.get("num_frames", hints.get("frames_per_clip"))
        clips = [Size((_B, frames, channels, width, width))] if frames else []
        return [*clips, Size((_B, channels, width, width)), size]
    if name in ("input_features", "input_values") and "num_mel_bins" in hints:
        bins, length = hints["num_mel_bins"], hints.get("max_length", hints.get("max_source_positions", 512) * 2)
        return [Size((_B, bins, length)), Size((_B, length, bins)), size]
    if name == "input_values":
        return [Size((_B, 16000)), size]
    if name == "past_values" and "context_length" in hints:
        rest = (hints["num_input_channels"],) if "num_input_channels" in hints else ()
        return [Size((_B, hints["context_length"], *rest)), size]
    return [size]


def _list_of_denoiser(name: str, hints: Mapping[str, int]) -> list[Size]:
    """List sizes of what a denoiser takes: feature maps, a video or a sequence of latents, a step, and a condition."""
    if name == "timestep":
        return [Size((_B,))]
    if name == "class_labels":
        return [Size((_B,), dtype="int64")]
    if name == "encoder_hidden_states" and (widths := [hints[width] for width in _TEXTS if width in hints]):
        return [Size((_B, _T, widths[0]))]
    if name == "pooled_projections" and "pooled_projection_dim" in hints:
        return [Size((_B, hints["pooled_projection_dim"]))]
    if name in ("img_ids", "txt_ids"):
        return [Size((_T, 3))]
    if name == "encoder_attention_mask":
        return [Size((_B, _T))]
    if name == "controlnet_cond":  # an image, of which the latents are an eighth
        return [Size((_B, 3, *(8 * hints.get("sample_size", 32),) * 2))]
    channels = hints.get("in_channels")
    if name in _LATENTS and channels:
        width, frames = hints.get("sample_size", 32), hints.get("sample_frames", hints.get("num_frames", 4))
        maps = [Size((_B, channels, width, width)), Size((_B, channels, frames, width, width))]
        sequence, film = Size((_B, _T, channels)), Size((_B, frames, channels, width, width))
        return [*maps, sequence, film] if "sample_size" in hints else [sequence, *maps, film]
    return []


def _list_choices(name: str, size: Size, sizes: list[Size], hints: Mapping[str, int], *, first: bool) -> list[Size]:
    """List sizes for one of several parameters: by its name, else like the first one, else like another consumer's."""
    last = name.lower().rpartition("_")[2]
    if last in _STEPS:
        return [Size((_B,)), Size((_B,), dtype="int64"), Size((_B, 1))]
    if name.lower() in _MASKS or last == "mask":
        return [Size(size.shape[:2]), size]
    if name.lower() == "edge_index":
        return [Size((2, _T), dtype="int64")]
    if last in COUNTED:
        return [Size((_B, _T), dtype="int64"), Size((_B,), dtype="int64")]
    known = _list_known(name, size, hints)
    if first or known != [size]:
        return known
    others = [other for other in sizes if other != size]
    unlike = [other for other in others if len(other.shape) != len(size.shape)]
    alike = [other for other in others if len(other.shape) == len(size.shape) and other.shape[2:] == size.shape[2:]]
    return [size, *unlike[:2], Size((_B,), dtype="int64"), *alike[:2]]


def _list_sizes(modules: Sequence[ModuleFact], image_sizes: Sequence[tuple[int, int]]) -> Iterator[Size]:
    """List sizes that the first layers take, the first layer's first."""
    consumers = [sizes for fact in modules if (sizes := list(_sizes_of(fact, image_sizes)))]
    for sizes in consumers[:_FIRST]:
        yield from sizes
    yield from (Size((_B, 3, 64, 64)), Size((_B, _T, 8)), Size((_B, 8)), Size((_B, _T), dtype="int64"))


def _find_widths(modules: Sequence[ModuleFact], params: Sequence[ParamFact]) -> list[tuple[int, int]]:
    """Find the image sizes that layers are made for, or that a table of positions has patches for."""
    found: list[tuple[int, int]] = []
    patch = 0
    for fact in modules:
        for name in _PICTURES if "hidden_size" not in fact.settings else ():  # a recurrent layer's ``input_size``
            stated = fact.settings.get(name)
            pair = (stated, stated) if type(stated) is int else stated
            if isinstance(pair, tuple) and len(pair) == 2 and all(type(side) is int and side > 3 for side in pair):
                found.append(pair)
        patch = patch or _find_patch(fact)
    for param in params:
        if patch and any("pos" in name for name in param.names) and 2 <= len(param.shape) <= 3:
            count = param.shape[-2]
            sides = [
                isqrt(count - extra) for extra in range(min(count, 6)) if isqrt(count - extra) ** 2 == count - extra
            ]
            found += [(side * patch, side * patch) for side in sides if side > 1]
    return list(dict.fromkeys(found))


def _find_patch(fact: ModuleFact) -> int:
    """Return the side of the patches that a layer cuts an image into; 0 if it is no such layer."""
    kernel, stride = fact.settings.get("kernel_size"), fact.settings.get("stride")
    if isinstance(kernel, tuple) and len(kernel) == 2 and kernel == stride and kernel[0] == kernel[1] > 1:
        return kernel[0] if isinstance(kernel[0], int) else 0
    features = fact.settings.get("in_features")
    return next((side for _, side in _read_pictures(features)), 0) if isinstance(features, int) else 0


def _read_pictures(features: int) -> Iterator[tuple[int, int]]:
    """Read a number of features as channels of a square, ``(3, 16)`` for 768."""
    for channels in (1, 3):
        side = isqrt(features // channels)
        if side > 1 and channels * side * side == features:
            yield channels, side


def _sizes_of(fact: ModuleFact, image_sizes: Sequence[tuple[int, int]]) -> Iterator[Size]:
    """List inputs that one layer takes; none for a layer that takes anything, or is made of others."""
    settings = fact.settings
    kernel = settings.get("kernel_size")
    if isinstance(channels := settings.get("in_channels"), int) and kernel is not None:
        channels = channels or 3  # a lazy one takes any number
        rank = len(kernel) if isinstance(kernel, tuple) else 2
        if rank == 2:
            yield from (Size((_B, channels, *sides)) for sides in image_sizes)
        yield from _maps(channels, rank, transposed=bool(settings.get("transposed")))
    elif (
        isinstance(features := settings.get("in_features"), int) and fact.type_name != "NonDynamicallyQuantizableLinear"
    ):
        yield from _features(features or 8, image_sizes)
    elif isinstance(features := settings.get("in1_features"), int):
        yield from (Size((_B, features)), Size((_B, settings["in2_features"])))
    elif isinstance(settings.get("num_embeddings"), int):  # whether integers go there, its trace tells
        yield Size((_B, _T))
        yield Size((_B,))
    elif isinstance(shape := settings.get("normalized_shape"), tuple):
        yield Size((_B, _T, *shape))
        yield Size((_B, *shape))
        if len(shape) == 1:
            yield from _patches(shape[0], image_sizes)
    elif isinstance(width := settings.get("input_size"), int) and width and "hidden_size" in settings:
        yield from (Size((_B, _T, width)), Size((_B, width)))
    elif isinstance(width := settings.get("embed_dim", settings.get("d_model")), int):
        yield Size((_B, _T, width))
    elif isinstance(channels := settings.get("num_features", settings.get("num_channels")), int):
        yield from _norm_sizes(fact.type_name, channels or 8)


def _maps(channels: int, rank: int, *, transposed: bool) -> Iterator[Size]:
    if transposed:
        yield from (Size((_B, channels, *(width,) * rank)) for width in (1, 4, 8))
    if rank == 1:
        yield from (Size((_B, channels, length)) for length in _LENGTHS)
    elif rank == 3:
        yield from (Size((_B, channels, *sizes)) for sizes in _VOLUMES)
    else:
        yield from (Size((_B, channels, width, width)) for width in _WIDTHS)


def _features(features: int, image_sizes: Sequence[tuple[int, int]]) -> Iterator[Size]:
    """A vector, a sequence of vectors, or an image that is flattened, whole or in patches, into so many features."""
    yield Size((_B, features))
    for channels, width in _read_pictures(features):
        if width > 3:
            yield Size((_B, channels, width, width))
    yield Size((_B, _T, features))
    yield from _patches(features, image_sizes)


def _patches(features: int, image_sizes: Sequence[tuple[int, int]]) -> Iterator[Size]:
    """Images whose patches have so many features."""
    for channels, side in _read_pictures(features):
        widths = [(width, width) for width in _WIDTHS if width > side and width % side == 0]
        for sides in (*image_sizes, *widths[:4]):
            yield Size((_B, channels, *sides))


def _norm_sizes(type_name: str, channels: int) -> Iterator[Size]:
    ranks: dict[str, Any] = {"1": ((), (_T,)), "2": ((32, 32),), "3": ((8, 16, 16),)}
    for rest in ranks.get(type_name[-2:-1], ((32, 32), (_T,), ())):
        yield Size((_B, channels, *rest))

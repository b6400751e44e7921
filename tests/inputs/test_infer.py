"""A size that works where none was given."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.tracing import engine
from tests.models import CASES, Case
from tests.reference import quietly
from tests.zoo import ZOO


def runs(case: Case) -> bool:
    summary = ModelSummary(case.make(), method=case.method)
    return summary.engine != "static" and summary.error is None


@pytest.mark.filterwarnings("ignore")  # some of the models warn of themselves when they are made
def test_nine_in_ten_models_are_summarised_without_a_size() -> None:
    cases = [case for case in CASES if case.infer and not case.needs_values]
    found = [case.name for case in cases if runs(case)]
    assert len(cases) > 80
    assert len(found) >= 0.9 * len(cases), sorted({case.name for case in cases} - set(found))


@pytest.mark.slow
def test_nine_in_ten_architectures_are_summarised_without_a_size() -> None:
    found = []
    for animal in ZOO:
        with quietly():
            summary = ModelSummary(animal.build())
        if summary.engine != "static" and summary.error is None:
            found.append(animal.name)
            assert {fact.given for fact in summary.pipeline.traced.trace.inputs} == {"inferred"}
    assert len(found) >= 0.9 * len(ZOO), sorted({animal.name for animal in ZOO} - set(found))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("Wav2Vec2ForCTC", [(2, 16000)]),
        ("ViltModel", [(2, 16), (2, 3, 32, 32)]),
        ("PatchTSTModel", [(2, 16, 2)]),
        ("LlavaForConditionalGeneration", [(2, 16)]),  # a text alone: a picture has to agree with its tokens
    ],
)
def test_the_name_of_a_parameter_and_the_configuration_say_the_size(name: str, shapes: list[Any]) -> None:
    with quietly():
        summary = ModelSummary(next(animal for animal in ZOO if animal.name == name).build())
    assert summary.error is None
    assert [fact.spec.shape for fact in summary.pipeline.traced.trace.inputs] == shapes


def test_a_clip_has_as_many_frames_as_the_configuration_says() -> None:
    from transformers import VideoMAEConfig, VideoMAEModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with quietly():
        summary = ModelSummary(VideoMAEModel(VideoMAEConfig(image_size=32, patch_size=8, num_frames=4, **sizes)))
    assert summary.error is None
    assert [fact.spec.shape for fact in summary.pipeline.traced.trace.inputs] == [(2, 4, 3, 32, 32)]


def test_the_configuration_of_a_part_says_the_size_too() -> None:
    class Config:
        model_type = "outer"

        def __init__(self) -> None:
            self.encoder_config = Inner()

    class Inner:
        model_type = "inner"
        num_mel_bins, max_source_positions = 12, 40

    class Listens(nn.Module):
        main_input_name = "input_features"

        def __init__(self) -> None:
            super().__init__()
            self.config = Config()
            self.norm = nn.LayerNorm(12)

        def forward(self, input_features: Any = None) -> Any:
            return self.norm(input_features)

    summary = ModelSummary(Listens())
    assert summary.error is None
    assert [fact.spec.shape for fact in summary.pipeline.traced.trace.inputs] == [(2, 80, 12)]


def test_what_a_recurrent_layer_takes_is_no_image() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lstm = nn.Conv2d(1, 8, 3, padding=1), nn.LSTM(8, 4, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.lstm(self.conv(x).mean(2).transpose(1, 2))

    assert ModelSummary(Reads()).pipeline.traced.trace.inputs[0].spec.shape == (2, 1, 64, 64)


@pytest.mark.parametrize("config", [{"in_channels": 3}, None, 3, "resnet", object()])
def test_a_configuration_that_is_none_says_nothing(config: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    model.config = config
    summary = ModelSummary(model)
    assert summary.error is None
    assert [fact.spec.shape for fact in summary.pipeline.traced.trace.inputs] == [(2, 4)]


class Patches(nn.Module):
    """A vision transformer's beginning: patches by a convolution, and a learned position for each and a class token."""

    def __init__(self, side: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 8, patch, stride=patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, (side // patch) ** 2 + 1, 8))
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, image: Any) -> Any:
        tokens = self.proj(image).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(image), -1, -1), tokens], 1) + self.pos_embed


class LinearPatches(nn.Module):
    """Patches by a reshape and a linear layer, and positions that are no parameter."""

    def __init__(self, side: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.norm = nn.LayerNorm(3 * patch * patch)
        self.proj = nn.Linear(3 * patch * patch, 8)
        self.positions = torch.zeros((side // patch) ** 2, 8)

    def forward(self, image: Any) -> Any:
        rows = image.unfold(2, self.patch, self.patch).unfold(3, self.patch, self.patch)
        tokens = rows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        return self.proj(self.norm(tokens)) + self.positions


class SaysItsSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.img_size = (40, 72)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 40 * 72, 2)

    def forward(self, image: Any) -> Any:
        assert image.shape[2:] == self.img_size
        return self.head(self.conv(image).flatten(1))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Patches(384, 16), (2, 3, 384, 384)),
        (Patches(70, 14), (2, 3, 70, 70)),
        (LinearPatches(32, 8), (2, 3, 32, 32)),
        (SaysItsSize(), (2, 3, 40, 72)),
    ],
    ids=["384", "70", "linear", "said"],
)
def test_the_image_that_patches_are_for_is_found(model: nn.Module, shape: tuple[int, ...]) -> None:
    summary = ModelSummary(model)
    assert summary.error is None
    assert [fact.spec.shape for fact in summary.pipeline.traced.trace.inputs] == [shape]


def test_a_size_that_a_real_run_refuses_was_not_found() -> None:
    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            if self.fc(x).sum().item() != float("inf"):
                raise ValueError("no")
            return x

    summary = ModelSummary(Refuses())
    assert summary.engine == "static"
    assert summary.error is None


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Conv2d(5, 2, 3), (2, 5, 64, 64)),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (2, 784)),
        (nn.Embedding(9, 4), (2, 16)),
        (nn.LSTM(7, 3), (2, 16, 7)),
        (nn.LayerNorm(12), (2, 16, 12)),
        (nn.Conv3d(1, 2, 3), (2, 1, 16, 64, 64)),
        (nn.TransformerEncoderLayer(8, 2), (2, 16, 8)),
    ],
)
def test_the_first_consumer_says_the_size(model: nn.Module, shape: tuple[int, ...]) -> None:
    summary = ModelSummary(model)
    assert summary.error is None
    assert summary.rows[0].inputs[0].shape == shape
    assert {fact.given for fact in summary.pipeline.traced.trace.inputs} == {"inferred"}


def test_a_net_that_takes_one_size_only_is_found_by_trying() -> None:
    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 6, 5)
            self.fc = nn.Linear(6 * 12 * 12, 10)

        def forward(self, x: Any) -> Any:
            return self.fc(torch.max_pool2d(self.conv(x), 2).flatten(1))

    assert ModelSummary(LeNet()).rows[0].inputs[0].shape == (2, 1, 28, 28)


class Towers(nn.Module):
    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.one(one) + self.other(other)


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        (Towers(nn.Linear(8, 4), nn.Linear(5, 4)), [(2, 8), (2, 5)]),
        (Towers(nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3)), [(2, 3, 64, 64), (2, 1, 64, 64)]),
        (nn.Bilinear(2, 3, 4), [(2, 2), (2, 3)]),
    ],
    ids=["vectors", "images", "bilinear"],
)
def test_every_tower_gets_what_its_first_layer_takes(model: nn.Module, shapes: list[Any]) -> None:
    ms = ModelSummary(model)
    assert [leaf.shape for leaf in ms.rows[0].inputs] == shapes
    model(*map(torch.zeros, shapes))


def test_transformers_say_what_matters() -> None:
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    assert ModelSummary(BertModel(BertConfig(**small))).rows[0].inputs[0].dtype == "int64"
    vit = ModelSummary(ViTModel(ViTConfig(**small, image_size=48, patch_size=16)))
    assert vit.rows[0].inputs[0].shape == (2, 3, 48, 48)


def test_what_can_t_be_found_is_the_static_table_and_a_word_on_what_to_give() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            if tuple(x.shape) != (7, 11, 3):
                raise ValueError("no")
            return self.fc(x)

    summary = ModelSummary(Picky())
    assert summary.engine == "static"
    assert summary.error is None
    assert summary["fc"].num_params == 12
    assert summary.engine_reason == "no input given, and none was found that works for forward(x): give one"


def test_static_stays_static() -> None:
    assert ModelSummary(nn.Linear(2, 2), engine="static").engine == "static"


def test_looking_for_a_size_prints_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 3)

        def forward(self, x: Any) -> Any:
            print("hello", x.shape[1])
            return self.fc(x)

    ModelSummary(Loud())
    assert capsys.readouterr().out == "hello 12\n"


def test_an_inferred_size_carries_no_warning_about_sizes() -> None:
    for model in (
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Sequential(nn.Linear(4, 2), nn.ReLU()),
        nn.GRU(4, 4, batch_first=True),
    ):
        assert [flag for flag in ModelSummary(model).flags if flag.severity != "note"] == []


class Denoiser(nn.Module):
    """A net that frees latents from noise, with the names and the configuration that such nets have."""

    def __init__(self, latents: str, is_classed: bool = False, **config: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=4, **config)
        self.latents = latents
        self.enter = nn.Conv2d(4, 8, 3, padding=1) if latents == "map" else nn.Linear(4, 8)
        self.time = nn.Linear(1, 8)
        self.text = nn.Linear(self.config.joint_attention_dim, 8)
        self.classes = nn.Embedding(10, 8) if is_classed else None

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        timestep: Tensor | None = None,
        class_labels: Tensor | None = None,
    ) -> Tensor:
        assert timestep is not None
        assert encoder_hidden_states is not None
        assert (class_labels is None) == (self.classes is None)
        told = self.time(timestep[:, None]) + self.text(encoder_hidden_states).mean(1)
        if self.classes is not None:
            told = told + self.classes(class_labels)
        x = self.enter(hidden_states)
        assert x.dim() == (4 if self.latents == "map" else 3)
        return x + (told[:, :, None, None] if self.latents == "map" else told[:, None])


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda: Denoiser("map", sample_size=16, joint_attention_dim=12), [(2, 4, 16, 16), (2,), (2, 16, 12)]),
        (lambda: Denoiser("sequence", joint_attention_dim=12), [(2, 16, 4), (2,), (2, 16, 12)]),
        (
            lambda: Denoiser("sequence", is_classed=True, joint_attention_dim=12),
            [(2, 16, 4), (2,), (2, 16, 12), (2,)],
        ),
    ],
    ids=["map", "sequence", "of classes"],
)
def test_a_denoiser_gets_the_step_and_the_text(make: Callable[[], nn.Module], shapes: list[Any]) -> None:
    summary = ModelSummary(make())
    assert summary.error is None
    assert [fact.spec.shape for fact in summary.pipeline.traced.trace.inputs] == shapes


class Positioned(nn.Module):
    """A denoiser with places, masks and pooled words, as Flux and PixArt have, and a picture that steers it."""

    config = SimpleNamespace(in_channels=4, pooled_projection_dim=6, joint_attention_dim=12, sample_size=8)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        controlnet_cond: Tensor,
        encoder_hidden_states: Tensor | None = None,
        timestep: Tensor | None = None,
        pooled_projections: Tensor | None = None,
        img_ids: Tensor | None = None,
    ) -> Tensor:
        assert encoder_hidden_states is not None
        masked = encoder_hidden_states * encoder_attention_mask[..., None]
        return hidden_states + sum(x.sum() for x in (masked, pooled_projections, img_ids, controlnet_cond))


def test_a_denoiser_gets_places_masks_pooled_words_and_a_picture_eight_times_as_large() -> None:
    inputs = ModelSummary(Positioned()).pipeline.traced.trace.inputs
    assert {fact.spec.name: fact.spec.shape for fact in inputs} == {
        "hidden_states": (2, 4, 8, 8), "encoder_hidden_states": (2, 16, 12), "timestep": (2,),
        "pooled_projections": (2, 6), "img_ids": (16, 3), "encoder_attention_mask": (2, 16),
        "controlnet_cond": (2, 3, 64, 64),
    }  # fmt: skip


class Tabular(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(rows, 4) for rows in (5, 7, 9)])
        self.head = nn.Linear(3 * 4 + 6, 2)

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        embedded = [table(categories[:, place]) for place, table in enumerate(self.tables)]
        return self.head(torch.cat([*embedded, numbers], 1))


class Clips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        batch, frames, channels, height, width = clip.shape
        maps = self.conv(clip.reshape(batch * frames, channels, height, width))
        return maps.mean((2, 3)).view(batch, frames, 8)


class Points(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv1d(3, 16, 1), nn.ReLU())

    def forward(self, points: Tensor) -> Tensor:
        return self.mlp(points.transpose(1, 2)).amax(2)


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 28 * 28)
        self.net = nn.Sequential(nn.Conv2d(2, 4, 4, 2, 1), nn.Flatten(), nn.Linear(4 * 14 * 14, 1))

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        return self.net(torch.cat([image, self.table(labels).view(-1, 1, 28, 28)], 1))


class Ratings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items, self.head = nn.Embedding(50, 8), nn.Embedding(70, 8), nn.Linear(2 * 8 + 5, 1)

    def forward(self, user: Tensor, item: Tensor, features: Tensor) -> Tensor:
        return self.head(torch.cat([self.users(user), self.items(item), features], -1)).squeeze(-1)


class Offsets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 4)
        self.register_buffer("offsets", torch.tensor([0, 10, 20]))

    def forward(self, fields: Tensor) -> Tensor:
        return self.table(fields + self.offsets).flatten(1)


class Draws(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.net = nn.Embedding(10, 8), nn.Linear(16 + 8, 64)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.net(torch.cat([noise, self.table(labels)], 1))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Tabular, [("int64", (2, 16)), ("float32", (2, 6))]),
        (Clips, [("float32", (2, 16, 3, 64, 64))]),
        (Points, [("float32", (2, 64, 3))]),
        (Judge, [("float32", (2, 1, 28, 28)), ("int64", (2,))]),
        (Ratings, [("int64", (2, 16)), ("int64", (2, 16)), ("float32", (2, 16, 5))]),
        (Offsets, [("int64", (2, 3))]),
        (Draws, [("float32", (2, 16)), ("int64", (2,))]),
    ],
)
def test_a_size_that_a_failure_names_is_tried_next(make: Callable[[], nn.Module], found: list[Any]) -> None:
    summary = ModelSummary(make())
    assert summary.error is None
    specs = [fact.spec for fact in summary.pipeline.traced.trace.inputs]
    assert [(spec.dtype, spec.shape) for spec in specs] == found


def test_a_size_of_which_the_forward_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(8, 4), nn.Linear(9973, 2)

        def forward(self, x: Tensor) -> Tensor:
            while x.shape[1] == 9973:
                self.head(x)
            return self.head(self.first(x))

    monkeypatch.setattr(engine, "INFER_SECONDS", 0.5)
    assert ModelSummary(Endless()).engine == "static"

"""Models as textbooks write them, without a bug: what the mutations break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Original:
    """A clean model and what to pass."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Any


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in ((3, 8), (8, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if a == b else []
        self.features, self.pool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)))


class _Block(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(b), nn.BatchNorm2d(b)
        self.short = nn.Conv2d(a, b, 1, stride) if stride > 1 or a != b else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.short(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.stages = nn.Sequential(_Block(8, 8, 1), _Block(8, 16, 2), _Block(16, 32, 2))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.stages(self.stem(x)), 1).flatten(1))


class _Double(nn.Sequential):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(
            nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(),
            nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(),
        )  # fmt: skip


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = _Double(1, 8), _Double(8, 16), _Double(16, 32)
        self.up2, self.dec2 = nn.ConvTranspose2d(32, 16, 2, 2), _Double(32, 16)
        self.up1, self.dec1 = nn.ConvTranspose2d(16, 8, 2, 2), _Double(16, 8)
        self.out, self.pool = nn.Conv2d(8, 2, 1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.one(x)
        b = self.two(self.pool(a))
        c = self.three(self.pool(b))
        b = self.dec2(torch.cat([self.up2(c), b], dim=1))
        a = self.dec1(torch.cat([self.up1(b), a], dim=1))
        return self.out(a)


class TextConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 24)
        self.convs = nn.ModuleList(nn.Conv1d(24, 16, k, padding=k // 2) for k in (3, 5))
        self.out = nn.Linear(32, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids).transpose(1, 2)
        pooled = [torch.relu(conv(x)).amax(dim=2) for conv in self.convs]
        return self.out(torch.cat(pooled, dim=1))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 24)
        self.rnn = nn.LSTM(24, 20, 2, batch_first=True, bidirectional=True)
        self.norm, self.out = nn.LayerNorm(40), nn.Linear(40, 9)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.norm(self.rnn(self.embed(ids))[0])).log_softmax(dim=-1)


class Sentiment(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.score, self.out = nn.GRU(12, 20, batch_first=True), nn.Linear(20, 1), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.rnn(x)
        weights = torch.softmax(self.score(torch.tanh(hidden)), dim=1)
        return self.out((weights * hidden).sum(dim=1))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.softmax(q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5, dim=-1)
        return self.out((scores @ v).transpose(1, 2).reshape(b, t, c))


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attend = nn.LayerNorm(width), SelfAttention(width, 4)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, 8)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, 32)), nn.Parameter(torch.zeros(1, 17, 32))
        self.layers, self.norm, self.head = nn.Sequential(_Layer(32), _Layer(32)), nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        return self.head(self.norm(self.layers(x))[:, 0])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(100, 32), nn.Embedding(64, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder, self.out = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.places(torch.arange(ids.shape[1]))
        return self.out(self.encoder(x).mean(dim=1))


class Attends(nn.Module):
    """Queries over a memory, with torch's own attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.memory = nn.Linear(16, 32), nn.Linear(24, 32)
        self.attend, self.out = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 3)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, kv = self.query(x), self.memory(memory)
        return self.out(q + self.attend(q, kv, kv)[0]).mean(dim=1)


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.mean, self.logvar = nn.Linear(16 * 49, 8), nn.Linear(16 * 49, 8)
        self.grow = nn.Linear(8, 16 * 49)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.down(x).flatten(1)
        mean, logvar = self.mean(y), self.logvar(y)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        return self.up(self.grow(z).view(-1, 16, 7, 7)), mean, logvar


class Gated(nn.Module):
    """Squeeze-and-excite between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.squeeze, self.excite, self.out = nn.Linear(16, 4), nn.Linear(4, 16), nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))))
        x = F.relu(self.conv2(x * gate[:, :, None, None]))
        return self.out(x.mean(dim=(2, 3)))


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(8, 8, 3, padding=2 * d, dilation=d) for d in (1, 2, 4))
        self.out = nn.Conv1d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = x + torch.relu(conv(x)[:, :, : x.shape[2]])
        return self.out(x)


class SpeechToText(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, (2, 1), 1), nn.BatchNorm2d(8), nn.ReLU())
        self.rnn, self.out = nn.GRU(8 * 20, 32, batch_first=True), nn.Linear(32, 30)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x.permute(0, 3, 1, 2).flatten(2)
        return self.out(self.rnn(x)[0]).log_softmax(dim=-1)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
    )


def critic() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 16, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 8), nn.Flatten(), nn.Sigmoid(),
    )  # fmt: skip


ORIGINALS = [
    Original("LeNet", LeNet, (8, 1, 28, 28)),
    Original("VGG", Vgg, (8, 3, 32, 32)),
    Original("ResNet", ResNet, (8, 3, 32, 32)),
    Original("UNet", UNet, (4, 1, 48, 48)),
    Original("text CNN", TextConvolution, [torch.zeros(8, 30, dtype=torch.int64)]),
    Original("tagger", Tagger, [torch.zeros(8, 30, dtype=torch.int64)]),
    Original("sentiment", Sentiment, (8, 30, 12)),
    Original("ViT", VisionTransformer, (8, 3, 32, 32)),
    Original("encoder", Encoder, [torch.zeros(8, 30, dtype=torch.int64)]),
    Original("attention", Attends, [(8, 5, 16), (8, 11, 24)]),
    Original("VAE", Autoencoder, (8, 1, 28, 28)),
    Original("gated", Gated, (8, 3, 24, 24)),
    Original("causal", Causal, (8, 8, 50)),
    Original("speech", SpeechToText, (8, 1, 40, 60)),
    Original("MLP", mlp, (8, 20)),
    Original("critic", critic, (8, 3, 32, 32)),
]

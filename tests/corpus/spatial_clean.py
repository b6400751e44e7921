"""Maps that grow, shrink and collapse because they are meant to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import clean


class _Chomp(nn.Module):
    def __init__(self, surplus: int) -> None:
        super().__init__()
        self.surplus = surplus

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.surplus].contiguous()


@clean("uneven-padding", (2, 3, 24, 24))
class PaddedByALayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(3, 8, 3))
        self.body = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(5)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.head(x))


@clean("grown-map", (2, 3, 24, 24))
class MergedLayers(nn.Module):
    """Three layers as one: the kernel of one is convolved with that of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.conv, self.narrow = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.widen.weight.flip(2, 3).permute(1, 0, 2, 3)
        both = F.conv2d(first, self.conv.weight, padding=2).flip(2, 3).permute(1, 0, 2, 3)
        return self.narrow(F.conv2d(x, both, padding=1))


@clean("grown-map", (2, 4, 50))
def causal_net() -> nn.Module:
    layers: list[nn.Module] = []
    for level in range(3):
        reach = 2 * 2**level
        conv = nn.Conv1d(4, 4, 3, padding=reach, dilation=2**level)
        layers += [nn.utils.parametrizations.weight_norm(conv), _Chomp(reach), nn.ReLU(), nn.Dropout(0.1)]
    return nn.Sequential(*layers)


@clean("grown-map", (1, 3, 64, 64))
class FullyConvolutional(nn.Module):
    """Pads by 100 in front and crops what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=100)
        self.body = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.score, self.up = nn.Conv2d(8, 5, 7), nn.ConvTranspose2d(5, 5, 8, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.score(self.body(self.first(x))))
        return y[:, :, 40 : 40 + x.shape[2], 40 : 40 + x.shape[3]]


@clean("grown-map", (2, 3, 64, 64))
class PatchCritic(nn.Module):
    """Kernels of 4 can't keep a map: these grow it by one, as the well-known ones do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 4, stride=2, padding=2), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, stride=1, padding=2),
            nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 4, stride=1, padding=2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@clean("grown-map", (2, 1, 28, 28))
def autoencoder_that_grows_back() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=2), nn.ReLU(),
        nn.Conv2d(8, 1, 3, padding=2),
    )  # fmt: skip


@clean("grown-map", (2, 16, 1, 1))
def generator() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(16, 8, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


@clean("grown-map", (2, 3, 48, 48))
class ValidConvolutions(nn.Module):
    """A U-Net as first written: valid convolutions, the skips cropped to meet."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.mid = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.up, self.out = nn.ConvTranspose2d(8, 8, 2, stride=2), nn.Conv2d(16, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.down(x))
        y = self.up(F.relu(self.mid(F.max_pool2d(skip, 2))))
        edge = (skip.shape[2] - y.shape[2]) // 2
        return self.out(torch.cat([skip[:, :, edge : edge + y.shape[2], edge : edge + y.shape[3]], y], 1))


@clean("grown-map", (2, 6, 40))
class LocalAttentionByUnfold(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 5, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        around = F.pad(self.conv(x), (2, 2)).unfold(2, 5, 1)
        return (around * around.mean(-1, keepdim=True).softmax(-2)).sum(-1)


class _Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


@clean("collapsed-map", (2, 3, 64, 64))
def squeeze_and_excite() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), _Gate(8), nn.Conv2d(8, 8, 3, 2, 1), _Gate(8))


@clean("collapsed-map", (2, 3, 32, 32))
class PyramidPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, 2, 1)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(8, 4, 3, padding=1), nn.ReLU()) for bins in (1, 2, 3, 6)
        )
        self.out = nn.Conv2d(24, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        pooled = [F.interpolate(level(x), x.shape[2:], mode="bilinear") for level in self.levels]
        return self.out(torch.cat([x, *pooled], 1))


@clean("collapsed-map", (2, 3, 64, 64))
def critic_down_to_one() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 4, 2, 1), nn.Conv2d(16, 1, 4), nn.Sigmoid(),
        nn.Flatten(),
    )  # fmt: skip


@clean("odd-map", (2, 3, 33, 47))
class ResizesToWhatItMeets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.one(x)
        return self.out(torch.cat([skip, F.interpolate(self.two(skip), size=skip.shape[2:])], 1))


@clean("grown-map", (2, 3, 64, 64))
class Inception(nn.Module):
    """A stem of valid convolutions, then factored ones that keep the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(3, 2))
        self.a = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, (1, 7), padding=(0, 3)))
        self.b = nn.Sequential(nn.Conv2d(8, 4, (7, 1), padding=(3, 0)), nn.Conv2d(4, 4, 5, padding=2))
        self.pool = nn.AvgPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([self.a(x), self.b(x), self.pool(x)], 1)


@clean("grown-map", (2, 8, 16, 16))
class GrownAndTakenBack(nn.Module):
    """All the padding of two convolutions on the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(8, 16, 3, padding=2), nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.norm(self.conv1(F.relu(x))))) + x)


@clean("collapsed-map", (2, 3, 32, 32))
class HourglassOfFive(nn.Module):
    """Down to 1 × 1 and up again."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(3 if i == 0 else 8, 8, 3, 2, 1) for i in range(5))
        self.middle, self.up = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for down in self.down:
            x = F.relu(down(x))
            sides.append(x)
        x = self.middle(x)
        for side in reversed(sides[:-1]):
            x = self.up(F.interpolate(x, scale_factor=2)) + side
        return x


@clean("collapsed-map", (2, 3, 320, 320))
class AHeadForEachScale(nn.Module):
    """A single-shot detector: the last of its maps is 1 × 1, and each map has a head of the same kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 32, stride=32)
        self.scales = nn.ModuleList(nn.Conv2d(8, 8, 3, stride=2, padding=1) for _ in range(4))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.Conv2d(8, 24, 1)) for _ in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for scale in self.scales:
            maps.append(scale(maps[-1]))
        boxes = [head(one).flatten(2) for head, one in zip(self.heads, maps, strict=True)]
        return torch.cat(boxes, dim=2)


@clean("unread-result", (2, 3, 64, 64))
class KeysPooledByConvolutions(nn.Module):
    """A multiscale vision transformer: keys and values are thinned out by a convolution of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.q = nn.Conv2d(3, 16, 7, stride=4, padding=3), nn.Conv2d(16, 16, 1)
        self.pool = nn.Conv2d(16, 16, 3, stride=8, padding=1, groups=16, bias=False)
        self.out = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k = self.q(x).flatten(2).transpose(1, 2), self.pool(x).flatten(2).transpose(1, 2)
        x = F.scaled_dot_product_attention(q, k, k)
        return self.out(x.mean(1))


@clean("vanished-features", (2, 3, 16, 24))
class ConvexUpsampling(nn.Module):
    """A flow at four times the size: each pixel is a weighted mean of its nine neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = nn.Conv2d(3, 2, 3, padding=1)
        self.mask = nn.Conv2d(3, 9 * 4 * 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        mask = self.mask(x).view(batch, 1, 9, 4, 4, height, width).softmax(dim=2)
        near = F.unfold(4 * self.flow(x), kernel_size=3, padding=1).view(batch, 2, 9, 1, 1, height, width)
        return (mask * near).sum(dim=2).permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, 4 * height, 4 * width)

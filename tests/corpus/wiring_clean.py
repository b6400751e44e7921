"""Ties, teachers, towers and tokens; dtypes and axes that are meant."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import clean


@clean("unused-layer", (2, 7), dtypes="int64")
class TiedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(self.embed(ids), self.out.weight)


@clean("unused-layer", (4, 8))
class WeightByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.scale = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.fc.weight.t(), self.fc.bias) * self.scale.weight.norm()


@clean("unused-layer", (4, 8))
class FunctionalCall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        weights = {name: value * 0.9 for name, value in self.net.named_parameters()}
        return torch.func.functional_call(self.net, weights, (x,))


@clean("unregistered-layer", (4, 8))
class TeacherOutOfTheWay(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        self._teacher = [copy.deepcopy(self.student).requires_grad_(False)]

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self._teacher[0](x)
        return F.mse_loss(self.student(x), wanted)


@clean("unused-layer", (2, 3, 16, 16))
class FrozenAndUnused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.average = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@clean("unused-layer", (2, 10, 16))
class MaskToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            x = torch.where(mask[..., None], self.mask_token, x)
        return self.layer(x)


@clean("unused-layer", (2, 8))
class BranchNotTaken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.aux = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, extra: bool = False) -> Tensor:
        x = self.body(x)
        return self.aux(x) if extra else x


@clean("unused-layer", (2, 8))
class OtherMethods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 2), nn.Linear(2, 8)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


@clean("unused-layer", (2, 8), method="encode")
class OneMethodOfTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(8, 2), nn.Linear(2, 8)

    def encode(self, x: Tensor) -> Tensor:
        return self.down(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.encode(x))


@clean("unused-layer", (2, 8))
class OneOfManyHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 8)
        self.heads = nn.ModuleDict({name: nn.Linear(8, 2) for name in ("a", "b", "c")})

    def forward(self, x: Tensor, task: str = "b") -> Tensor:
        return self.heads[task](self.body(x))


@clean("unused-layer", (2, 8))
class ExpertsByName(nn.Module):
    """A container of its own whose forward picks by name."""

    class Experts(nn.ModuleDict):
        def forward(self, x: Tensor) -> Tensor:
            return self[f"expert_{x.shape[1] % 3}"](x)

    def __init__(self) -> None:
        super().__init__()
        self.experts = self.Experts({f"expert_{i}": nn.Linear(8, 8) for i in range(3)})

    def forward(self, x: Tensor) -> Tensor:
        return self.experts(x)


@clean("repeated-layer", (2, 3, 16, 16), (2, 3, 16, 16))
class SiameseTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        tower = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.left = self.right = tower
        self.out = nn.Linear(8, 1)

    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return self.out(torch.cat([self.left(one), self.right(two)], 1))


@clean("repeated-layer", (2, 3, 32, 32))
class HeadOverLevels(nn.Module):
    """One head for every level of a pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        one = self.stem(x)
        return [self.head(one), self.head(self.down(one))]


@clean("repeated-layer", (2, 8))
class SharedActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        act = nn.PReLU()
        self.net = nn.Sequential(nn.Linear(8, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@clean("repeated-layer", (2, 8))
class SharedByCalls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.depth = nn.Linear(8, 8), 5

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.depth):
            x = x + torch.tanh(self.layer(x))
        return x


@clean("unregistered-layer", (2, 8))
class AlsoRegistered(nn.Module):
    """A plain list of layers that are registered by their own names as well."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.order = [self.two, self.one, self.two]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.order:
            x = layer(x)
        return x


# -- dtype ------------------------------------------------------------------------------------------------------------


@clean("strange-dtype", (2, 6, 16))
class RotaryInFloat(nn.Module):
    """Norms and rotary terms in float32 inside a bfloat16 block."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.out = nn.Linear(16, 32, dtype=torch.bfloat16), nn.Linear(16, 16, dtype=torch.bfloat16)
        self.weight = nn.Parameter(torch.ones(16, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        x = self.weight * (wide * wide.pow(2).mean(-1, keepdim=True).rsqrt()).to(x.dtype)
        angle = torch.arange(6).float()[:, None] * torch.linspace(0, 1, 16)
        q, k = self.qk(x).chunk(2, -1)
        q = (q * angle.cos()).to(x.dtype)
        return self.out((q @ k.transpose(1, 2)).softmax(-1) @ x).float()


@clean("strange-dtype", (2, 8), dtypes="float64")
def model_in_doubles() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)).double()


@clean("strange-dtype", (2, 8))
class DoublesForPrecision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.double().cumsum(-1).float()).double()


# -- features ---------------------------------------------------------------------------------------------------------


@clean("wrong-axis", (4, 3, 16, 16))
class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(self.norm(self.conv(x).permute(0, 2, 3, 1)))
        return x.permute(0, 3, 1, 2)


@clean("wrong-axis", (2, 1, 20, 64))
class MixesFrequencies(nn.Module):
    """A Linear over the last dim of a spectrogram, on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.mix = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + self.mix(x)


@clean("wrong-axis", (2, 3, 32, 32))
class TokenMixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix, self.norm = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 16), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.patch(x).flatten(2).transpose(1, 2))
        return x + self.mix(x.transpose(1, 2)).transpose(1, 2)


@clean("declared-size", (2, 3, 32, 32), expect={"down": "B 8 H/2 W/2", "": [("_", 10), None]})
class Declared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.out = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.down(x)
        return self.out(x.mean((2, 3))), x


@clean("unregistered-layer", (4, 8))
class WrapperAroundALayer(nn.Module):
    """A solver wraps the model's own function anew at every call."""

    class Perturbed(nn.Module):
        def __init__(self, function: nn.Module) -> None:
            super().__init__()
            self.function = function

        def forward(self, time: float, y: Tensor) -> Tensor:
            return self.function(y) * time

    def __init__(self) -> None:
        super().__init__()
        self.function = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        perturbed = self.Perturbed(self.function)
        for _ in range(3):
            x = x + perturbed(0.1, x)
        return x


@clean("wrong-axis", (2, 16, 48))
class TokensMixedByConvolutions(nn.Module):
    """As many tokens as features, the tokens mixed by convolutions of kernel 1."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norms = nn.Linear(48, 16), nn.ModuleList(nn.LayerNorm(16) for _ in range(4))
        self.tokens = nn.ModuleList(nn.Sequential(nn.Conv1d(16, 32, 1), nn.Conv1d(32, 16, 1)) for _ in range(2))
        self.features = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 16)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in range(2):
            x = x + self.tokens[block](self.norms[2 * block](x))
            x = x + self.features[block](self.norms[2 * block + 1](x))
        return x.mean(1)


@clean("unread-result", (2, 6))
class KeepsItsResult(nn.Module):
    """Nothing is returned, and what was made is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> None:
        self.last = self.fc(x)


@clean("unread-result", (2, 3, 16, 16))
class AnchorsOfEachImage(nn.Module):
    """A detector's anchors: of sizes alone, joined for each image, and then of all images."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.boxes = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 4, 1)
        self.register_buffer("cell", torch.rand(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        offsets = self.boxes(features).permute(0, 2, 3, 1).reshape(-1, 4)
        levels = []
        for stride in (2, 4):
            shift = torch.arange(0, features.shape[-1]) * stride
            y, x = torch.meshgrid(shift, shift[: 4 // stride], indexing="ij")
            levels.append(torch.stack((x, y, x, y), dim=2).view(-1, 4) + self.cell)
        anchors = [torch.cat(of_image) for of_image in [levels] * features.shape[0]]
        scale = offsets.exp().mean(0, keepdim=True)
        return torch.cat(anchors, dim=0) * scale

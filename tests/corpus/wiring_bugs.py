"""Layers that are not registered, not called, or one where several were meant; dtypes that leave the model's."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import bug

# -- unregistered -----------------------------------------------------------------------------------------------------


@bug("unregistered-layer", ("hidden[0]", "Linear"), (4, 10))
class ListOfLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(10, 16)
        self.hidden = [nn.Linear(16, 16) for _ in range(3)]
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.out(x)


@bug("unregistered-layer", ("heads['class']", "Linear"), (4, 3, 16, 16))
class DictOfHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.heads = {"class": nn.Linear(8, 10), "box": nn.Linear(8, 4)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.body(x)
        return {name: head(x) for name, head in self.heads.items()}


@bug("unregistered-layer", ("encoder.branches[0]", "Sequential"), (2, 3, 16, 16))
class BranchesInATuple(nn.Module):
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = tuple(nn.Sequential(nn.Conv2d(3, 4, k, padding=k // 2), nn.ReLU()) for k in (1, 3, 5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([branch(x) for branch in self.branches], 1)

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.out = self.Encoder(), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.encoder(x))


@bug("unregistered-layer", ("", "mul"), (4, 8))
class ListOfParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scales = [nn.Parameter(torch.ones(8)) for _ in range(2)]
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        for scale in self.scales:
            x = self.fc(x * scale)
        return x


@bug("unregistered-layer", ("(Linear)", "Linear"), (4, 8))
class LayerMadeInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(x))
        return nn.Linear(x.shape[1], 3)(x)


@bug("unregistered-layer", ("", "matmul"), (4, 8))
class WeightThatIsNoParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(8, 5, requires_grad=True)
        self.norm = nn.LayerNorm(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x @ self.weight)


# -- unused -----------------------------------------------------------------------------------------------------------


@bug("unused-layer", ("bn2", "BatchNorm2d"), (4, 3, 16, 16))
class NormUsedTwice(nn.Module):
    """The first norm stands where the second was meant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn1(self.conv2(x)))
        return self.out(x.mean((2, 3)))


@bug("unused-layer", ("blocks.2.shortcut", "Conv2d"), (2, 8, 16, 16))
class ForgottenShortcut(nn.Module):
    class Plain(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv, self.shortcut = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x) + self.shortcut(x))

    class Forgets(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x) + x)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(self.Plain(8), self.Plain(8), self.Forgets(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


@bug("unused-layer", ("layers.3", "Linear"), (4, 8))
class LoopThatEndsEarly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for number in range(len(self.layers) - 1):
            x = torch.relu(self.layers[number](x))
        return x


@bug("unused-layer", ("head", "Sequential"), (4, 3, 16, 16))
class HeadNeverCalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3))


@bug("unused-layer", ("", "NothingOfItRuns"), (2, 3, 16, 16))
class NothingOfItRuns(nn.Module):
    """An option without a value turns the whole network off: what comes out is the input."""

    def __init__(self, upsampler: str = "") -> None:
        super().__init__()
        self.upsampler = upsampler
        self.first, self.up = nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        y = (x - 0.5) * 2
        if self.upsampler == "pixelshuffle":
            y = self.up(self.first(y))
        return y / 2 + 0.5


@bug("unused-layer", ("decoder", "GRU"), (4, 7, 8))
class EncoderTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRU(8, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, state = self.encoder(x)
        x, _ = self.encoder(x, state)
        return self.out(x)


# -- repeated ---------------------------------------------------------------------------------------------------------


@bug("repeated-layer", ("body.0", "Linear"), (4, 16))
class TimesSix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Sequential(*[nn.Linear(16, 16)] * 6), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x))


@bug("repeated-layer", ("stage.blocks.0", "Block"), (2, 8, 12, 12))
class OneBlockInAStage(nn.Module):
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            return x + F.relu(self.norm(self.conv(x)))

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            block = OneBlockInAStage.Block()
            self.blocks = nn.Sequential(*(block for _ in range(3)))

        def forward(self, x: Tensor) -> Tensor:
            return self.blocks(x)

    def __init__(self) -> None:
        super().__init__()
        self.stage, self.out = self.Stage(), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.stage(x))


@bug("repeated-layer", ("layers.0", "TransformerEncoderLayer"), (2, 6, 16))
class SharedInAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers = nn.ModuleList([layer] * 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


# -- dtype ------------------------------------------------------------------------------------------------------------


@bug("strange-dtype", ("", "mul"), (4, 10))
class NumpyConstant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(10, 6)
        self.window = torch.from_numpy(np.hanning(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self.window


@bug("strange-dtype", ("scale", "div"), (4, 3, 8, 8))
class StandardDeviationInDoubles(nn.Module):
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("std", torch.tensor(np.array([0.2, 0.3, 0.4])).view(3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return (x - 0.5) / self.std

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 3, 1), self.Scale()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.scale(self.conv(x)))


@bug("strange-dtype", ("", "add"), (2, 5, 8))
class FloatConstantInAHalfModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8, dtype=torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + torch.linspace(0, 1, 8)


# -- features ---------------------------------------------------------------------------------------------------------


@bug("wrong-axis", ("2", "Linear"), (4, 3, 16, 16))
def linear_on_a_map() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Linear(16, 10))


@bug("wrong-axis", ("norm", "LayerNorm"), (2, 4, 32))
class NormOverTheLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv1d(4, 32, 5, padding=2), nn.LayerNorm(32), nn.Conv1d(32, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.norm(self.conv(x))))


@bug("wrong-axis", ("stages.1.mlp.0", "Linear"), (2, 3, 48, 48))
class MlpWithoutPermute(nn.Module):
    class Stage(nn.Module):
        def __init__(self, a: int, b: int, permutes: bool) -> None:
            super().__init__()
            self.down = nn.Conv2d(a, b, 2, 2)
            self.mlp = nn.Sequential(nn.Linear(b, b * 2), nn.GELU(), nn.Linear(b * 2, b))
            self.permutes = permutes

        def forward(self, x: Tensor) -> Tensor:
            x = self.down(x)
            if self.permutes:
                return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return x + self.mlp(x)

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(self.Stage(3, 8, True), self.Stage(8, 12, False))
        self.out = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.stages(x))


# -- no batch, declared -----------------------------------------------------------------------------------------------


@bug("batchless-input", ("0", "Conv2d"), (3, 32, 32), severity="note")
def picture_without_a_batch() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))


@bug("batchless-input", ("rnn", "GRU"), (12, 8), severity="note")
class SequenceWithoutABatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


@bug(
    "declared-size", ("conv0", "Conv2d"), (2, 1, 28, 28), severity="error",
    expect={"conv0": "B 16 H W"}, ignore=["grown-map"],
)  # fmt: skip
class DeclaredToKeepTheMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(1, 16, 3, padding=5), nn.Conv2d(16, 32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(self.conv0(x))


@bug("declared-size", ("", "DeclaredTen"), (8, 20), severity="error", expect={"": "B 10"})
class DeclaredTen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


@bug(
    "declared-size", ("", "DeclaredBatchThatIsNone"), (16, 20), severity="error", expect={"": "B 16"},
    ignore=["batch-moved"],
)  # fmt: skip
class DeclaredBatchThatIsNone(nn.Module):
    """Sixteen samples, sixteen features: only one sample more tells them apart."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).t()


# --- nothing is returned


@bug("unread-result", ("", "ReturnsNothing"), (2, 6))
class ReturnsNothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> None:
        x = self.fc(x)
        x = x.relu()


@bug("unread-result", ("", "ReturnsALayer"), (2, 6))
class ReturnsALayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> nn.Module:
        return nn.Softmin(self.fc(x))  # type: ignore[arg-type]  # is what beginners write

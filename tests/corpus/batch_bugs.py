"""The batch is lost, folded, moved, multiplied, squeezed away or written down."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.corpus import bug

# -- folded -----------------------------------------------------------------------------------------------------------


@bug("batch-folded", ("", "view"), (8, 1, 28, 28))
class ViewCutsTheChannels(nn.Module):
    """The tutorial's 400 for a map that holds 800 numbers a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 32, 5)
        self.fc1 = nn.Linear(400, 84)
        self.fc2 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 16 * 5 * 5)
        return self.fc2(F.relu(self.fc1(x)))


class _Trunk(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip


@bug("batch-folded", ("head", "reshape"), (4, 3, 32, 32))
class ReshapeInAHead(nn.Module):
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classify = nn.Sequential(nn.Linear(8 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.classify(x.reshape(-1, 8 * 8 * 8))

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = _Trunk(16), self.Head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).softmax(-1)


@bug("batch-folded", ("", "view"), (4, 3, 64, 64))
class ViewKeepsTheMapForgetsTheChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = _Trunk(12)
        self.fc = nn.Linear(16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x).view(-1, 16 * 16))


@bug("batch-folded", ("", "cat"), (8, 3, 16, 16))
class BranchesAlongTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3, padding=1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)])
        return self.fc(self.pool(x).flatten(1))


@bug("batch-folded", ("merge", "cat"), (4, 10, 16))
class PooledAlongTheBatch(nn.Module):
    class Merge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(16, 32), nn.Linear(16, 32)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((self.left(x.mean(1)), self.right(x.amax(1))), dim=0)

    def __init__(self) -> None:
        super().__init__()
        self.merge, self.out = self.Merge(), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.merge(x)))


# -- lost -------------------------------------------------------------------------------------------------------------


@bug("batch-lost", ("", "mean"), (8, 20, 32))
class MeanOverTheBatch(nn.Module):
    """Meant to pool the time."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.fc = nn.Linear(32, 64), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.project(x)).mean(0))


@bug("batch-lost", ("", "mean"), (16, 3, 32, 32))
class MeanOverBatchAndMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.fc = _Trunk(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x).mean(dim=(0, 2, 3)))


@bug("batch-lost", ("blocks.1.gate", "mean"), (8, 16, 8, 8))
class GateOverTheBatch(nn.Module):
    """Squeeze-and-excite that squeezes the samples too; the output's size says nothing."""

    class Gate(nn.Module):
        def __init__(self, width: int, dims: tuple[int, ...]) -> None:
            super().__init__()
            self.down, self.up, self.dims = nn.Linear(width, 4), nn.Linear(4, width), dims

        def forward(self, x: Tensor) -> Tensor:
            gate = torch.sigmoid(self.up(torch.relu(self.down(x.mean(self.dims)))))
            return x * gate.view(-1, x.shape[1], 1, 1)

    class Block(nn.Module):
        def __init__(self, dims: tuple[int, ...]) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1)
            self.gate = GateOverTheBatch.Gate(16, dims)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.gate(torch.relu(self.conv(x)))

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(self.Block((2, 3)), self.Block((0, 2, 3)), self.Block((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


@bug("batch-lost", ("", "getitem"), (8, 12, 16))
class LastSampleForLastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out[-1])


@bug("batch-lost", ("pool", "max"), (8, 12, 16))
class MaxOverTheBatch(nn.Module):
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.max(dim=0)[0]

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32))
        self.pool, self.fc = self.Pool(), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.body(x)))


# -- moved ------------------------------------------------------------------------------------------------------------


@bug("batch-moved", ("", "stack"), (8, 12, 16))
class StepsStackedInFront(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(16, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(x.shape[0], 32)
        steps = []
        for step in range(x.shape[1]):
            hidden = self.cell(x[:, step], hidden)
            steps.append(self.out(hidden))
        return torch.stack(steps)


@bug("batch-moved", ("", "transpose"), (8, 12, 16))
class TransposeLeftStanding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 32)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 2, enable_nested_tensor=False)
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).transpose(0, 1)
        return self.out(self.encoder(x))


@bug("batch-moved", ("", "t"), (8, 24))
class TransposedScores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(24, 48), nn.ReLU())
        self.out = nn.Linear(48, 6)
        self.scale = nn.Parameter(torch.ones(6, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.out(self.body(x)).t() * self.scale)


# -- squeezed ---------------------------------------------------------------------------------------------------------


@bug("batch-squeezed", ("", "squeeze"), (1, 3, 32, 32))
class SqueezeOfABatchOfOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.pool, self.fc = _Trunk(8), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.trunk(x)).squeeze())


@bug("batch-squeezed", ("head", "squeeze"), (8, 3, 32, 32))
class SqueezeThatWillBite(nn.Module):
    """Nothing is wrong at a batch of 8; the last batch of an epoch has one sample."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).mean((2, 3), keepdim=True).squeeze()

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), self.Head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)))


@bug("batch-squeezed", ("", "squeeze"), (4, 10))
class SqueezeThenSoftmax(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score, self.value = nn.Linear(1, 1), nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(-1)
        weights = self.score(x).squeeze().softmax(dim=1)
        return (weights.unsqueeze(-1) * self.value(x)).sum(1)


# -- written down -----------------------------------------------------------------------------------------------------


@bug("batch-fixed", ("", "view"), (8, 3, 16, 16))
class ViewWithTheBatchWritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).view(8, -1))


@bug("batch-fixed", ("", "zeros"), (16, 20, 12))
class FirstStateForSixteen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(12, 32, batch_first=True), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(1, 16, 32), torch.zeros(1, 16, 32)
        return self.out(self.rnn(x, state)[0][:, -1])


@bug("batch-fixed", ("embed", "expand"), (4, 9, 24))
class TokenForFour(nn.Module):
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 24))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.token.expand(4, -1, -1), x], dim=1)

    def __init__(self) -> None:
        super().__init__()
        self.embed = self.Embed()
        self.layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.embed(x))[:, 0]


# -- among the features -----------------------------------------------------------------------------------------------


@bug("batch-merged", ("", "flatten"), (1, 1, 28, 28))
class FlattenWithoutAStart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3, stride=2), nn.Linear(8 * 13 * 13, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(torch.relu(self.conv(x))))


@bug("batch-merged", ("features", "view"), (1, 3, 16, 16))
class ViewOfEverything(nn.Module):
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).view(-1)

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = self.Features(), nn.Sequential(nn.Linear(6 * 256, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@bug("batch-folded", ("", "view"), (4, 3, 8, 8))
class ViewThatOnlyDividesForFour(nn.Module):
    """A sample holds 192 numbers, a row 256: three rows of four samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(256, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).view(-1, 256))

"""Models that run and do not train as they were meant to: activations and losses, gradients, results that are lost."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import Size
from tests.corpus import bug

CLASSES = Size("4", dtype="int64")


class Mlp(nn.Module):
    """Makes of two layers of 16 and one of 5 those that its forward mentions."""

    def __init__(self) -> None:
        super().__init__()
        for name, width in (("a", 16), ("b", 16), ("out", 5)):
            if name in type(self).forward.__code__.co_names:
                self.add_module(name, nn.Linear(16, width))


# --- activations and losses


@bug("wrong-activation", ("criterion", "CrossEntropyLoss"), [(4, 16), CLASSES])
class SoftmaxBeforeCrossEntropy(Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.softmax, self.criterion = nn.Softmax(dim=1), nn.CrossEntropyLoss()

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return self.criterion(self.softmax(self.out(F.relu(self.a(x)))), target)


@bug("wrong-activation", ("", "cross_entropy"), [(4, 16), CLASSES], severity="note")
class LogSoftmaxBeforeCrossEntropy(Mlp):
    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self.out(F.relu(self.a(x))).log_softmax(-1), target)


@bug("wrong-activation", ("", "binary_cross_entropy_with_logits"), [(4, 16), (4,)])
class SigmoidBeforeLogits(Mlp):
    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(torch.sigmoid(self.out(x))[:, 0], target)


@bug("wrong-activation", ("", "nll_loss"), [(4, 16), CLASSES])
class LogitsToNll(Mlp):
    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(self.out(F.relu(self.a(x))), target)


@bug("wrong-activation", ("", "softmax"), (4, 16))
class SoftmaxTwice(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(self.out(F.relu(self.a(x))).softmax(-1), dim=1)


@bug("wrong-activation", ("", "masked_fill"), (2, 7, 16))
class MaskBehindTheSoftmax(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        weights = (self.a(x) @ self.b(x).transpose(1, 2)).softmax(-1)
        later = torch.ones(x.size(1), x.size(1)).triu(1).bool()
        return self.out(weights.masked_fill(later, float("-inf")) @ x)


@bug("strange-order", ("b", "Linear"), (4, 16), severity="note")
class NoActivationBetween(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.b(F.dropout(self.a(x), 0.1, self.training))))


@bug("strange-order", ("", "sigmoid"), (4, 16))
class SigmoidOfRelu(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(F.relu(self.out(x)))


@bug("strange-order", ("4", "Dropout"), (4, 16))
def without_its_last_layer() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Dropout())


# --- gradients, and results that are lost


@bug("no-gradient", ("", "argmax"), (4, 16))
class ArgmaxInThePath(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(self.out(F.relu(self.a(x))).argmax(-1), 5).float() @ self.out.weight + self.b(x)


@bug("no-gradient", ("", "detach"), (4, 16))
class ForgottenDetach(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(x)).detach())


@bug("no-gradient", ("", "data"), (4, 16))
class ReadByData(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(x)).data)


@bug("no-gradient", ("body", "Sequential"), (4, 16), severity="note")
class LayersUnderNoGrad(Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.body(x)
        return self.out(h)


@bug("unread-result", ("a", "Linear"), (4, 16))
class OverwrittenResult(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        h = F.relu(self.b(x))
        return self.out(h)


@bug("unread-result", ("", "add"), (4, 16))
class AddedToItself(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        skip = x  # noqa: F841  # that is the bug
        h = F.relu(self.a(x))
        return self.out(h + h)


# --- axes


@bug("batch-mixed", ("", "mean"), (8, 16))
class StandardisedOverTheBatch(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.out((h - h.mean()) / (h.std() + 1e-6))


@bug("wrong-axis", ("", "normalize"), (3, 12, 16))
class CosineAttentionAlongTheSteps(Mlp):
    """``F.normalize`` has dim 1 by default, on (B, T, F) the steps."""

    def forward(self, x: Tensor) -> Tensor:
        q, k = F.normalize(self.a(x)), F.normalize(self.b(x))
        return self.out((10 * q @ k.transpose(1, 2)).softmax(-1) @ x)


@bug("wrong-axis", ("", "glu"), (3, 8, 20))
class GateOfPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(8, 32, 3, padding=1), nn.Conv1d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.glu(self.conv(x), dim=-1))


@bug("wrong-axis", ("", "mean"), (2, 3, 16, 16))
class ExcitesTheWidth(nn.Module):
    """Squeeze and excite: the mean goes over height and width, dims 2 and 3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.gate(x.mean((1, 2))))[:, :, None, None]


@bug("wrong-axis", ("", "mean"), (2, 12, 16), severity="note")
class MeanOverTheClasses(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(x))).mean(-1)


@bug("uneven-sides", ("", "cat"), (2, 1, 32, 32))
class SkipJoinedOnTheHeight(nn.Module):
    """It runs at sizes that 4 divides alone."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up1, self.up2 = nn.ConvTranspose2d(16, 8, 2, 2), nn.ConvTranspose2d(8, 1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.down1(x))
        return self.up2(torch.cat([self.up1(F.relu(self.down2(skip))), skip], dim=2))


@bug("uneven-padding", ("branches.0", "Conv1d"), (3, 8, 20), severity="note")
class OneBranchUnpadded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv1d(8, 8, k, padding=p) for k, p in ((3, 0), (5, 2)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(branch(x)).amax(2) for branch in self.branches], 1)


@bug("unread-result", ("", "transpose"), (4, 12, 16))
class TurnedAndNotKept(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        h.transpose(1, 2)
        return h.softmax(-1)


@bug("unread-result", ("mix", "Linear"), (4, 16))
class LayerWithoutAName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.mix = nn.Linear(16, 12), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        self.mix(h)
        return torch.relu(h)


@bug("wrong-axis", ("", "add"), [(4, 16), (4, 3, 16)])
class RepeatedInAnotherOrder(Mlp):
    def forward(self, x: Tensor, choices: Tensor) -> Tensor:
        return self.out(self.a(x).repeat(choices.size(1), 1) + choices.flatten(0, 1))


@bug("reshape-swap", ("", "view"), (2, 10, 16))
class HeadsFoldedByView(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        q, k = (layer(x).view(x.size(0) * 4, x.size(1), 4) for layer in (self.a, self.b))
        return (torch.bmm(q, k.transpose(1, 2)).softmax(-1) @ k).view(x.shape)


@bug("wrong-axis", ("", "softmax"), (4, 9, 16))
class ClassesOfTheSteps(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(self.out(F.relu(self.a(x))), dim=1)


# --- what a layer is given


@bug("swapped-roles", ("rnn", "GRU"), (4, 6, 50))
class ChannelsForSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(6, 32, 3, padding=1), nn.GRU(50, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(F.relu(self.conv(x)))[0][:, -1]


@bug("swapped-roles", ("encoder", "TransformerEncoderLayer"), (2, 3, 16, 16))
class ChannelsAttendToChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, 2, 1)
        self.encoder = nn.TransformerEncoderLayer(64, 4, 64, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(self.conv(x).flatten(2)).mean(2)


@bug("swapped-roles", ("decoder", "LSTM"), [(4, 9, 16), (4, 6, 16)])
class StatesInTheWrongOrder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = (nn.LSTM(16, 16, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        _, (h, c) = self.encoder(x)
        return self.decoder(y, (c, h))[0]


@bug("swapped-roles", ("", "getitem"), (4, 9, 16))
class LastStepOfBothDirections(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(16, 8, bidirectional=True, batch_first=True), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


@bug("lasting-dropout", ("", "dropout"), (4, 16))
class DropoutByDefault(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.dropout(F.relu(self.a(x)), 0.5))


@bug("lasting-dropout", ("(Dropout)", "Dropout"), (4, 16))
class DropoutMadeInTheForward(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(nn.Dropout(0.5)(F.relu(self.a(x))))


@bug("wrong-activation", ("", "log"), [(4, 16), CLASSES])
class LogarithmOfLogits(Mlp):
    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(torch.log(self.out(F.relu(self.a(x)))), target)


@bug("no-gradient", ("", "detach"), (4, 16))
class DetachedOutput(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(x))).detach()


@bug("unread-result", ("", "IgnoresTheMemory"), [(4, 9, 16), (4, 7, 16)], severity="note")
class IgnoresTheMemory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(50, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.size(1)]


@bug("unused-layer", ("positions", "Table"), (4, 9, 16))
class ForgottenPositions(Mlp):
    def __init__(self) -> None:
        super().__init__()
        self.positions = Table()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.a(x)))

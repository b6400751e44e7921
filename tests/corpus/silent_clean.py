"""Look-alikes of ``silent_bugs.py``: the same operations, in public code's style, where they are right."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import Size
from tests.corpus import clean

# --- along, or over, the batch


@clean("batch-mixed", [(6, 20), (6, 20)])
class ContrastiveLoss(nn.Module):
    """Cross-entropy of the (B, B) similarities, both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.scale = nn.Linear(20, 8), nn.Linear(20, 8), nn.Parameter(torch.ones([]))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = F.normalize(self.a(x), dim=-1), F.normalize(self.b(y), dim=-1)
        logits = self.scale.exp() * a @ b.t()
        target = torch.arange(x.size(0))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


@clean("batch-mixed", [(6, 20), (6, 20)])
class BarlowTwins(nn.Module):
    """Features are standardised over the batch; the loss is of their (D, D) correlations."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = self.project(x), self.project(y)
        a = (a - a.mean(0)) / a.std(0)
        b = (b - b.mean(0)) / b.std(0)
        c = a.T @ b / x.size(0)
        on = (torch.diagonal(c) - 1).pow(2).sum()
        return on + 0.005 * (c.pow(2).sum() - torch.diagonal(c).pow(2).sum())


@clean("batch-mixed", [(6, 20), (6, 20)])
class VicReg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(20, 12)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a, b = self.project(x), self.project(y)
        same = F.mse_loss(a, b)
        spread = sum(F.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() for z in (a, b))
        a = a - a.mean(dim=0)
        cov = a.T @ a / (x.shape[0] - 1)
        return same + spread + (cov - torch.diag(cov.diagonal())).pow(2).sum() / 12


@clean("batch-mixed", (12, 20))
class NtXent(nn.Module):
    """Both views are on the batch, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, views: Tensor) -> Tensor:
        n = views.size(0) // 2
        z = F.normalize(self.net(views), dim=1)
        similar = z @ z.T / 0.5
        similar = similar.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
        target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
        return F.cross_entropy(similar, target)


@clean("batch-mixed", (5, 9, 8))
class StepByStepCumsum(nn.Module):
    """Cumulative mean along the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        count = torch.arange(1, x.size(1) + 1).view(1, -1, 1)
        return self.fc(x.cumsum(1) / count)


@clean("batch-mixed", (10, 24, 3))
class TransmittanceAlongRays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, points: Tensor) -> Tensor:
        out = self.field(points)
        colour, alpha = out[..., :3].sigmoid(), 1 - torch.exp(-out[..., 3].relu())
        seen = torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], -1).cumprod(-1)[:, :-1]
        return ((alpha * seen)[..., None] * colour).sum(1)


@clean("batch-mixed", (4, 18, 16))
class FourierMixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.ff = nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + torch.fft.fft2(x).real)
        return x + self.ff(x).relu()


@clean("batch-mixed", (8, 8, 16, 10, 10))
class TemporalShift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[:2]
        moved = torch.zeros_like(x)
        moved[:, :-1, :4] = x[:, 1:, :4]
        moved[:, 1:, 4:8] = x[:, :-1, 4:8]
        moved[:, :, 8:] = x[:, :, 8:]
        maps = self.conv(moved.view(b * t, 16, 10, 10))
        return self.head(maps.mean((2, 3))).view(b, t, -1).mean(1)


@clean("batch-mixed", (6, 3, 16, 16))
class MixUp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = 0.7 * x + 0.3 * x[torch.randperm(x.size(0))]
        return self.net(x)


@clean("batch-mixed", (4, 40, 3))
class NearestNeighbours(nn.Module):
    """An edge convolution: gathered by flat indices that stay within a cloud."""

    def __init__(self) -> None:
        super().__init__()
        self.edge, self.head = nn.Linear(6, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        index = torch.cdist(x, x).topk(5, largest=False).indices
        flat = (index + torch.arange(b).view(-1, 1, 1) * n).view(-1)
        near = x.reshape(b * n, c)[flat].view(b, n, 5, c)
        middle = x[:, :, None].expand_as(near)
        edges = self.edge(torch.cat([near - middle, middle], -1)).relu()
        return self.head(edges.max(2)[0].max(1)[0])


@clean("batch-mixed", [(20, 8), Size("2 60", dtype="int64")])
class GraphConvolution(nn.Module):
    """Rows are nodes: messages run along them, and come back to them."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(8, 16), nn.Linear(16, 4)

    def gather(self, h: Tensor, edges: Tensor) -> Tensor:
        out = torch.zeros_like(h)
        return out.index_add(0, edges[1], h[edges[0]])

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        x = self.gather(self.w1(x), edges).relu()
        return self.gather(self.w2(x), edges)


@clean("batch-mixed", (4, 3, 8, 8))
class WeightStandardisation(nn.Module):
    """Statistics over the input channels of a kernel, not over samples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        w = self.conv.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.conv.bias)


@clean("batch-mixed", [(6, 16), (6, 5)])
class ProcessesEachSample(nn.Module):
    """A loop over the samples, each as a batch of one."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.mix = nn.Linear(16, 8), nn.Linear(5, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([self.fc(x[i : i + 1]) + self.mix(y[i : i + 1]) for i in range(x.size(0))], 0)


@clean("batch-mixed", (12, 4, 10))
class StepsFirst(nn.Module):
    """(T, B, C): a recurrent net as torch has it, pooled over its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(10, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(out.mean(0))


@clean("batch-mixed", (6, 3, 12, 12))
class MinibatchDiscrimination(nn.Module):
    """The last layer of a critic: one channel of the deviation over the minibatch."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(9, 8, 3, 2, 1)
        self.head = nn.Linear(72, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c1(x).relu()
        std = x.std(0, unbiased=False).mean().view(1, 1, 1, 1).expand(x.size(0), 1, *x.shape[2:])
        return self.head(self.c2(torch.cat([x, std], 1)).relu().flatten(1))


# --- two axes of one size


@clean("wrong-axis", [(2, 3, 32, 32), (2, 16)])
class TimeOnTheChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.time = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(16, 32)
        self.out = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.out(self.stem(x) + self.time(t)[:, :, None, None])


@clean("wrong-axis", (2, 3, 24, 24))
class LayerScaleChannelsLast(nn.Module):
    """ConvNeXt: channels go last for the norm and the scale, and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 24, 7, padding=3, groups=24)
        self.norm, self.up, self.down = nn.LayerNorm(24), nn.Linear(24, 48), nn.Linear(48, 24)
        self.gamma = nn.Parameter(1e-6 * torch.ones(24))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


@clean("wrong-axis", (4, 10, 16))
class TokenMixer(nn.Module):
    """MLP-Mixer: a Linear over the steps, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.tokens = nn.Sequential(nn.Linear(10, 20), nn.GELU(), nn.Linear(20, 10))
        self.channels = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.n1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.n2(x))
        return self.head(x.mean(1))


@clean("wrong-axis", (4, 16, 16))
class TokenMixerOfASquare(nn.Module):
    """As many tokens as features, and each Linear on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.tokens, self.channels = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.n2(x))


@clean("wrong-axis", (4, 24, 7))
class LinearForecast(nn.Module):
    """A forecast of each channel: a Linear over the time is what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.season, self.trend = nn.Linear(24, 8), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        trend = F.avg_pool1d(F.pad(x, (2, 2), mode="replicate"), 5, 1)
        return (self.season(x - trend) + self.trend(trend)).transpose(1, 2)


@clean("wrong-axis", (6, 6, 16))
class CausalAsManyStepsAsSamples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        t = x.size(1)
        scores = self.q(x) @ self.k(x).transpose(1, 2)
        later = torch.ones(t, t, dtype=torch.bool).triu(1)
        return scores.masked_fill(later, float("-inf")).softmax(-1) @ self.v(x)


@clean("wrong-axis", [(4, 10, 32), (4, 10)])
class MaskOfKeys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, 8).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / 8**0.5
        scores = scores.masked_fill(keep[:, None, None, :] == 0, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c))


@clean("wrong-axis", (4, 3, 64))
class PointNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv1d(3, 32, 1), nn.ReLU(), nn.Conv1d(32, 64, 1))
        self.head = nn.Linear(64, 10)

    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.local(points).max(2)[0])


@clean("wrong-axis", (2, 8, 6, 6))
class ChannelAttention(nn.Module):
    """Attention between channels: C × C scores."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        weights = torch.softmax(flat @ flat.transpose(1, 2), -1)
        return self.gamma * (weights @ flat).view_as(x) + x


@clean("wrong-axis", (3, 16, 4))
class Outer(nn.Module):
    """Positions of rows and of columns over a pair map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        pair = self.a(x)[:, :, None] + self.b(x)[:, None]
        pair = (pair + pair.transpose(1, 2)) / 2
        return self.out(pair.relu()).squeeze(-1)


@clean("wrong-axis", (2, 3, 16, 16))
class CoordinateChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(b, 1, h, w)
        columns = torch.linspace(-1, 1, w).view(1, 1, 1, w).expand(b, 1, h, w)
        return self.conv(torch.cat([x, rows, columns], 1))


# --- the batch of the output


@clean("batch-folded", (4, 3, 32, 32))
class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 24, 8, 8), nn.Parameter(torch.zeros(1, 1, 24))
        self.layer, self.head = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True), nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1)
        return self.head(self.layer(x)[:, 0])


@clean("batch-folded", (4, 3, 16, 16))
class TestTimeAugmentation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, image: Tensor) -> Tensor:
        plain, flipped = self.net(torch.cat([image, image.flip(-1)], 0)).chunk(2, 0)
        return (plain.softmax(-1) + flipped.softmax(-1)) / 2


@clean("batch-folded", (3, 5, 3, 16, 16))
class FramesInAFold(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.rnn, self.head = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, video: Tensor) -> Tensor:
        b, t = video.shape[:2]
        steps = self.cnn(video.flatten(0, 1)).view(b, t, -1)
        return self.head(self.rnn(steps)[0][:, -1])


@clean("batch-lost", (2, 12, 8))
class RelativeBias(nn.Module):
    """A (heads, T, T) bias of a table is added to the scores of every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.qkv = nn.Parameter(torch.zeros(23, 2)), nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        places = torch.arange(t)
        bias = self.table[places[:, None] - places[None] + t - 1].permute(2, 0, 1)
        return ((q @ k.transpose(-1, -2) + bias).softmax(-1) @ v).transpose(1, 2).reshape(b, t, c)


# --- reshapes


@clean("reshape-swap", (2, 10, 32))
class HeadsTurned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (layer(x).view(b, t, 4, 8).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).contiguous().view(b, t, 32))


@clean("reshape-swap", (2, 3, 12, 12))
class PixelShuffleByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        y = self.body(x).view(b, 3, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return y.reshape(b, 3, h * 2, w * 2)


@clean("reshape-swap", (2, 3, 32, 32))
class PatchesByPermute(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.pixels = nn.Linear(192, 40), nn.Linear(40, 192)

    def forward(self, image: Tensor) -> Tensor:
        b, c, h, w = image.shape
        x = image.reshape(b, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        x = self.pixels(self.embed(x)).view(b, h // 8, w // 8, 8, 8, c)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


@clean("reshape-swap", (2, 3, 32, 32))
class BoxesPermuted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, 4, 1), nn.Conv2d(16, 3 * 9, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        out = self.head(self.stem(image))
        out = out.permute(0, 2, 3, 1).reshape(out.size(0), -1, 9)
        return out[..., :4], out[..., 4:].sigmoid()


@clean("reshape-swap", (2, 12, 10, 10))
class ShuffledChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(12, 12, 1, groups=3), nn.Conv2d(12, 12, 3, padding=1, groups=12)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = self.a(x).view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.b(x)


@clean("reshape-swap", (2, 3, 24, 24))
class Windows(nn.Module):
    """Swin: windows onto the batch, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.layer = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        x = x.view(b, h // 6, 6, w // 6, 6, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 36, c)
        x = self.layer(x).view(b, h // 6, w // 6, 6, 6, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return x.permute(0, 3, 1, 2)


@clean("reshape-swap", (3, 9, 10))
class BothDirectionsTurned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(10, 16, batch_first=True, bidirectional=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        return self.head(state.transpose(0, 1).reshape(x.size(0), -1))


# --- attention


@clean("attention-axis", (3, 12, 16))
class SlotsCompete(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slots, self.norm = nn.Parameter(torch.randn(1, 5, 16)), nn.LayerNorm(16)
        self.q, self.k, self.v, self.gru = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.GRUCell(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        slots, k, v = self.slots.expand(x.size(0), -1, -1), self.k(x), self.v(x)
        for _ in range(2):
            weights = torch.einsum("bid,bjd->bij", self.q(self.norm(slots)), k).softmax(dim=1) + 1e-8
            updates = torch.einsum("bij,bjd->bid", weights / weights.sum(-1, keepdim=True), v)
            slots = self.gru(updates.reshape(-1, 16), slots.reshape(-1, 16)).view_as(slots)
        return slots


@clean("attention-axis", (2, 16, 9, 9))
class EfficientAttention(nn.Module):
    """Linear attention: keys over positions, queries over features."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Conv2d(16, 96, 1), nn.Conv2d(32, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = (part.reshape(b, 4, 8, h * w) for part in self.qkv(x).chunk(3, 1))
        context = torch.einsum("bhdn,bhen->bhde", k.softmax(-1), v)
        out = torch.einsum("bhde,bhdn->bhen", context, q.softmax(-2))
        return self.out(out.reshape(b, -1, h, w))


@clean("attention-axis", (3, 12, 16))
class AdditivePooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score, self.head = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1)), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).softmax(1)
        return self.head((weights * x).sum(1))


@clean("attention-axis", (2, 9, 16))
class MixtureOfExperts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(16, 4), nn.Parameter(torch.randn(4, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gate(x).softmax(-1)
        return torch.einsum("bte,btc,ecd->btd", gates, x, self.experts)


@clean("attention-axis", (2, 9, 16))
class SoftMoE(nn.Module):
    """Slots: dispatched by a softmax over tokens, combined by one over slots."""

    def __init__(self) -> None:
        super().__init__()
        self.phi, self.expert = nn.Parameter(torch.randn(16, 6)), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        logits = x @ self.phi
        slots = logits.softmax(1).transpose(1, 2) @ x
        return logits.softmax(2) @ self.expert(slots)


@clean("attention-axis", (2, 16, 9, 9))
class NonLocalBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Conv2d(16, 2, 1), nn.Conv2d(16, 2, 1), nn.Conv2d(16, 16, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        query = self.query(x).view(b, -1, h * w).permute(0, 2, 1)
        weights = torch.bmm(query, self.key(x).view(b, -1, h * w)).softmax(dim=-1)
        out = torch.bmm(self.value(x).view(b, -1, h * w), weights.permute(0, 2, 1))
        return self.gamma * out.view(b, c, h, w) + x


@clean("attention-axis", (2, 5, 24, 24))
class SoftArgmax(nn.Module):
    """Keypoints: a softmax over all pixels, and the mean of their coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 7, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        heat = self.conv(x).flatten(2).softmax(-1).view(b, 7, h, w)
        y = (heat.sum(3) * torch.linspace(-1, 1, h)).sum(-1)
        x = (heat.sum(2) * torch.linspace(-1, 1, w)).sum(-1)
        return torch.stack([x, y], -1)


# --- constants


@clean("wrong-axis", Size("B=4 T=15", dtype="int64"))
class LearnedPlaces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.head = nn.Embedding(40, 16), nn.Embedding(64, 16), nn.Linear(16, 40)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.words(ids) + self.places(torch.arange(ids.size(1))))


@clean("batch-mixed", (8, 20))
class Reparameterised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_var, self.decode = nn.Linear(20, 6), nn.Linear(20, 6), nn.Linear(6, 20)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.mean(x), self.log_var(x)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        return self.decode(z), mean, log_var


@clean("batch-mixed", (8, 3, 16, 16))
class DropPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        keep = x.new_empty(x.size(0), 1, 1, 1).bernoulli_(0.9)
        return x + self.conv(x) * keep / 0.9


@clean("batch-mixed", (8, 20))
class NoisyLinear(nn.Module):
    """A noisy net: the weights are drawn anew, once for all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.sigma = nn.Parameter(torch.randn(6, 20)), nn.Parameter(torch.full((6, 20), 0.1))
        self.bias, self.bias_sigma = nn.Parameter(torch.zeros(6)), nn.Parameter(torch.full((6,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight + self.sigma * torch.randn(6, 20)
        return F.linear(x, weight, self.bias + self.bias_sigma * torch.randn(6))


@clean("batch-mixed", (4, 12, 16))
class LockedDropout(nn.Module):
    """Variational dropout: one mask for all steps of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(16, 16, batch_first=True), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        mask = x.new_empty(x.size(0), 1, x.size(2)).bernoulli_(0.8) / 0.8
        return self.head(self.rnn(x * mask)[0])


# --- height and width


@clean("uneven-sides", (2, 1, 32, 100))
class TextReader(nn.Module):
    """A CRNN: the height is pooled away by kernel and stride, the width is time."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d((2, 1)), nn.Conv2d(16, 16, (8, 1)), nn.ReLU(),
        )  # fmt: skip
        self.rnn, self.head = nn.LSTM(16, 16, bidirectional=True), nn.Linear(32, 11)

    def forward(self, image: Tensor) -> Tensor:
        x = self.cnn(image).squeeze(2).permute(2, 0, 1)
        return self.head(self.rnn(x)[0]).log_softmax(-1)


@clean("uneven-sides", (2, 1, 40, 64))
class Spectrogram(nn.Module):
    """Frequencies are averaged, frames stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3, (2, 1), 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean(2).transpose(1, 2))


@clean("uneven-sides", (2, 3, 32, 32))
class PyramidAdded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.out = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.c1(x).relu()
        coarse = self.c2(fine).relu()
        up = F.interpolate(self.out(fine + F.interpolate(coarse, size=fine.shape[-2:])), size=x.shape[-2:])
        return up


@clean("uneven-sides", (2, 3, 20, 20))
class StripPooling(nn.Module):
    """Coordinate attention: rows and columns are pooled apart, joined, and part again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.rows, self.columns = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        y = self.mix(torch.cat([rows, columns], 2)).relu()
        a, b = y.split([x.size(2), x.size(3)], 2)
        return x * self.rows(a).sigmoid() * self.columns(b.transpose(2, 3)).sigmoid()


@clean("uneven-sides", (2, 3, 21, 30))
class PaddedUpToAMultiple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 4, 4), nn.ConvTranspose2d(8, 3, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % 4, 0, -h % 4))
        return self.up(self.down(x).relu())[..., :h, :w]


# --- a layer and what it is given


@clean("layer-rank", (3, 12, 16))
class SpatialDropoutOfWords(nn.Module):
    """Whole features of a text are dropped: the axis of features is brought to where channels are."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.rnn = nn.Dropout1d(0.2), nn.GRU(16, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.drop(x.transpose(1, 2)).transpose(1, 2))[0]


@clean("wrong-axis", (3, 1, 16))
class AttentionOverOneStep(nn.Module):
    """One token came: its weight is one because of the input, not because of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x)


@clean("wrong-axis", [Size("B=3 T=10", dtype="int64"), Size("3 10", dtype="int64")])
class CrossEntropyTurned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(10, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, ids: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.rnn(self.words(ids))[0]).transpose(1, 2), target)


@clean("wrong-axis", (2, 3, 16, 16))
class PixelProbabilities(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.conv(x), dim=1)


# --- a batch of the user's own


@clean("batch-fixed", (4, 6, 16))
class StatesKeptForABatch(nn.Module):
    """A stateful recurrent layer is made for a batch, and says so."""

    def __init__(self, batch: int = 4) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(16, 16, batch_first=True), nn.Linear(16, 3)
        self.register_buffer("state", torch.zeros(1, batch, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x, self.state)[0])


@clean("repeated-layer", (2, 8, 16))
class FourLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)

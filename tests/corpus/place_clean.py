"""Look-alikes of ``place_bugs.py``: the same operations along the dims that were meant, and samples as a sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import Size
from tests.corpus import clean
from tests.corpus.place_bugs import IDS, Resample

clean("wrong-axis", (2, 3, 16, 20))(Resample)


@clean("wrong-axis", (2, 3, 16, 20))
class FlippedBeforeReading(Resample):
    def places(self, height: int, width: int) -> Tensor:
        sides = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        return torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).flip(-1)


@clean("wrong-axis", (2, 3, 16, 20))
class TurnedAroundAsChannels(Resample):
    """``meshgrid`` gives rows first, and ``[::-1]`` turns them around."""

    def places(self, height: int, width: int) -> Tensor:
        pairs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        return torch.stack(pairs[::-1]).permute(1, 2, 0) / 8 - 1


@clean("wrong-axis", (2, 3, 16, 20))
class PickedInTheOtherOrder(Resample):
    def places(self, height: int, width: int) -> Tensor:
        return super().places(height, width).flip(-1)[..., [1, 0]]


@clean("wrong-axis", (2, 3, 16, 20))
class CoordinatesAsChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        pair = torch.stack(torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij"))
        return self.conv(torch.cat([x, pair.expand(n, 2, h, w)], 1))


@clean("wrong-axis", (2, 3, 20, 24))
class SinesOfAGrid(nn.Module):
    """Rows and columns by frequencies, as products of matrices, on the tokens of a strided map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        height, width = x.shape[2:]
        grid = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
        rates = 100.0 ** -(torch.arange(8).float() / 8)
        down, along = (side.flatten()[:, None] @ rates[None] for side in grid)
        places = torch.cat([down.sin(), down.cos(), along.sin(), along.cos()], 1)[None]
        return self.mix(x.flatten(2).transpose(1, 2) + places)


@clean("batch-mixed", (8, 16, 6, 7))
class FramesOfOneVideo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        video = x.unflatten(0, (-1, 4))
        moved = video.clone()
        moved[:, :-1, :4] = video[:, 1:, :4]
        return self.conv(moved.flatten(0, 1))


@clean("batch-mixed", (8, 16))
class HalvesChangePlaces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        h, n = self.lin(x), x.size(0) // 2
        other = torch.empty_like(h)
        other[:n], other[n:] = h[n:], h[:n]
        return h + other


@clean("wrong-axis", (4, 12, 32))
class PreviousStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.key = nn.Parameter(torch.full((32,), 0.5)), nn.Linear(32, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.key(torch.lerp(F.pad(x, (0, 0, 1, -1)), x, self.mix)).relu().square()


@clean("wrong-axis", (2, 1, 64))
class PreviousSampleOfASignal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv = nn.Conv1d(1, 16, 1), nn.Conv1d(16, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(self.first(F.pad(x, (1, -1))).tanh(), (1, 0)))


@clean("batch-mixed", (5, 30, 20))
class RecogniserOverTheClasses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.classes = nn.GRU(20, 24, batch_first=True), nn.Linear(24, 11)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.rnn(x)[0]).transpose(0, 1).log_softmax(2)


@clean("wrong-axis", [Size("6 10"), Size("6", dtype=IDS)])
class ValueOfTheAction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Linear(10, 5)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.values(state).gather(1, action[:, None])[:, 0]


@clean("wrong-axis", (3, 20, 16))
class AllFeaturesOfTheBest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        best = h.norm(dim=-1).topk(4, dim=1).indices[..., None]
        return h.gather(1, best.expand(-1, -1, h.size(-1))) + torch.take_along_dim(h, best, 1)


@clean("wrong-axis", (2, 3, 12, 14))
class OneLargeMap(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3 * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        parts = self.conv(x).view(b, c, 2, 2, h, w)
        return parts.permute(0, 1, 4, 2, 5, 3).reshape(b, c, 2 * h, 2 * w)


@clean("wrong-axis", (2, 20, 32))
class SumsOverTheSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (4, 8)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        states = (k[..., :, None] * v[..., None, :]).cumsum(2)
        return self.out((q[..., None, :] @ states).squeeze(-2).transpose(1, 2).flatten(2))


@clean("wrong-axis", (2, 20, 16))
class FirstTokensAndLastFeatures(nn.Module):
    """Four tokens in front are registers; behind 16 features each token has a gate, and boxes have a score."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.box = nn.Linear(16, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        h = self.lin(x)
        found = self.box(h[:, 4:])
        return h[:, :4], h[:, 4:, :16] * h[:, 4:, 16:17].sigmoid(), found[..., :4] * found[..., 4:].sigmoid()


@clean("wrong-axis", Size("8 5", dtype=IDS))
class PairsOfFields(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.first = nn.Embedding(50, 8), nn.Embedding(50, 1)

    def forward(self, fields: Tensor) -> Tensor:
        v = self.table(fields)
        pairs = v.sum(1).pow(2) - v.pow(2).sum(1)
        return self.first(fields).sum(1) + 0.5 * pairs.sum(1, keepdim=True)


@clean("wrong-axis", (2, 16, 24))
class VarianceByHand(nn.Module):
    """Squares of sums and sums of squares of the features, the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(24, 12)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lin(x)
        spread = h.pow(2).sum(-1, keepdim=True) / 12 - h.sum(-1, keepdim=True).pow(2) / 144
        return (h - h.mean(-1, keepdim=True)) / (spread + 1e-5).sqrt()


@clean("wrong-axis", (4, 9, 16))
class SquashedCapsules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.votes = nn.Parameter(torch.randn(9, 5, 16, 8))

    def forward(self, x: Tensor) -> Tensor:
        s = torch.einsum("bid,ijdk->bjk", x, self.votes)
        length = s.norm(dim=-1, keepdim=True)
        return (length.square() / (1 + length.square()) * s / (length + 1e-8)).norm(dim=-1)


@clean("reshape-swap", [Size("30 16"), Size("2 60", dtype=IDS)])
class EdgesTurned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(16, 8)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        pairs = edges.t().contiguous().view(-1, 2)
        return self.lin(x + torch.zeros_like(x).index_add(0, pairs[:, 1], x[pairs[:, 0]]))


@clean("reshape-swap", (2, 3, 16, 20))
class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(48, 24), nn.Parameter(torch.zeros(1, 20, 24))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        parts = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 1, 3, 5)
        return (self.embed(parts.reshape(b, (h // 4) * (w // 4), c * 16)) + self.places).mean(1)


@clean("reshape-swap", (2, 3, 16, 8, 8))
class FramesToChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fast, self.join = nn.Conv3d(3, 4, 3, padding=1), nn.Conv3d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = self.fast(x)
        b, c, t, h, w = f.shape
        near = f.view(b, c, t // 4, 4, h, w).transpose(2, 3).reshape(b, c * 4, t // 4, h, w)
        return self.join(near).mean((2, 3, 4))


@clean("reshape-swap", (2, 24, 32))
class BlocksWithTheirHeads(nn.Module):
    """Attention within blocks of eight steps, which stand beside the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (part.view(b, t, 4, 8).transpose(1, 2).reshape(b, 4 * 3, t // 3, 8) for part in
            self.qkv(x).chunk(3, -1))  # fmt: skip
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out(out.view(b, 4, t, 8).transpose(1, 2).reshape(b, t, d))


class RowAttention(nn.Module):
    """A transformer of tables: columns attend within a row, and the rows of the batch to each other."""

    def __init__(self, columns: int = 6, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.within = nn.TransformerEncoderLayer(width, 2, 16, batch_first=True)
        self.among = nn.TransformerEncoderLayer(columns * width, 4, 32, batch_first=True)
        self.out = nn.Linear(width, 1)

    def attend(self, h: Tensor) -> Tensor:
        b, n, d = h.shape
        return self.among(h.reshape(1, b, n * d)).reshape(b, n, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(self.within(self.embed(x[..., None])))).squeeze(-1)


clean("batch-mixed", (12, 6))(RowAttention)


@clean("batch-mixed", (12, 6))
class RowAttentionInSteps(RowAttention):
    def attend(self, h: Tensor) -> Tensor:
        rows = h.flatten(1).unsqueeze(0)
        return self.among(rows).squeeze(0).view_as(h)


@clean("batch-mixed", [(6, 20), (6, 20)])
class QueueOfKeys(nn.Module):
    """Keys of the batch are written into a queue, whose columns are as many as the batch has samples."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(20, 8)
        self.register_buffer("queue", torch.randn(8, 32))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        q, k = F.normalize(self.embed(x), dim=1), F.normalize(self.embed(y), dim=1)
        scores = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.clone()], 1)
        self.queue[:, : len(k)] = k.detach().T
        return scores / 0.07


@clean("batch-mixed", (4, 10, 16))
class PlacesAtTheExperts(nn.Module):
    """The tokens of all samples are numbered at the expert that each goes to, up to what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(16, 4), nn.Parameter(torch.randn(4, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, 16)
        weight, chosen = self.gate(tokens).softmax(-1).max(-1)
        ones = F.one_hot(chosen, 4)
        place = ((ones.cumsum(0) - 1) * ones).sum(-1)
        sent = ones.float()[..., None] * F.one_hot(place.clamp(max=15), 16)[:, None]
        made = torch.einsum("sec,sd->ecd", sent * (place < 16)[:, None, None], tokens) @ self.experts
        return (torch.einsum("sec,ecd->sd", sent, made) * weight[:, None]).view_as(x)


@clean("batch-mixed", [Size("4 12 3"), Size("4 12", dtype=IDS)])
class Forces(nn.Module):
    """The energy of all molecules is summed to be derived, each by its own atoms."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds, self.energy = nn.Embedding(10, 16), nn.Sequential(nn.Linear(17, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, places: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
        places = places.requires_grad_(True)
        near = (places[:, :, None] - places[:, None]).square().sum(-1).neg().exp().sum(-1, keepdim=True)
        energy = self.energy(torch.cat([self.kinds(kinds), near], -1)).sum((1, 2))
        return energy, -torch.autograd.grad(energy.sum(), places, create_graph=True)[0]


@clean("wrong-axis", (2, 24, 40))
class ChunksInTwoPaths(nn.Module):
    """Features come first, ``(B, N, T)``: a layer that reads them within each chunk shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(24, 16, batch_first=True), nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        b, n, t = x.shape
        chunks = x.view(b, n, t // 8, 8)
        rows = chunks.permute(0, 2, 3, 1).reshape(-1, 8, n)
        made = self.out(self.rnn(rows)[0]).view(b, t // 8, 8, n).permute(0, 3, 1, 2)
        return (chunks + made).view(b, n, t)


@clean("wrong-axis", [(2, 5, 12, 16), (2, 12, 12, 8)])
class PairsOfResidues(nn.Module):
    """Pairs (B, R, R, C) get a sum over sequences (B, S, R, M), and bias the attention along R."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.parts, self.values = nn.Linear(8, 4), nn.Linear(16, 4), nn.Linear(16, 16)
        self.product, self.out = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, sequences: Tensor, pairs: Tensor) -> Tensor:
        weights = self.bias(pairs).permute(0, 3, 1, 2).softmax(-1)
        values = self.values(sequences).unflatten(-1, (4, 4)).transpose(2, 3)
        parts = self.parts(sequences + (weights[:, None] @ values).transpose(2, 3).flatten(3))
        product = torch.einsum("bsic,bsjd->bijcd", parts, parts).flatten(-2)
        return self.out(pairs + self.product(product))


@clean("reshape-swap", (2, 3, 16, 16))
class PatchesOfEachChannel(nn.Module):
    """Rows of patches of all samples and channels in dim 0, ``(B·C·H / 2, 2, W / 2, 2)``, before a transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv2d(3, 12, 3, padding=1), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        b, c, h, w = y.shape
        parts = y.reshape(b * c * (h // 2), 2, w // 2, 2).transpose(1, 2).reshape(b, c, -1, 4)
        mixed = self.mix(parts.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
        return mixed.reshape(b * c * (h // 2), w // 2, 2, 2).transpose(1, 2).reshape(b, c, h, w)


@clean("wrong-axis", (2, 3, 16, 24))
class QueriesSharedByWindows(nn.Module):
    """Every window of a map asks with the queries of the whole image, and the windows are put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.q, self.kv = nn.Conv2d(3, 12, 3, padding=1), nn.Linear(12, 12), nn.Linear(12, 24)

    def forward(self, x: Tensor) -> Tensor:
        f = self.conv(x)
        b, c, h, w = f.shape
        windows = f.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        q = self.q(F.avg_pool2d(f, (h // 4, w // 4)).flatten(2).transpose(1, 2))
        k, v = self.kv(windows).chunk(2, -1)
        out = F.scaled_dot_product_attention(q.repeat_interleave(len(windows) // b, 0)[:, None], k[:, None], v[:, None])
        whole = out.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
        return f + whole


@clean("batch-mixed", (4, 12, 12))
class InverseByNewton(nn.Module):
    """Matrices of all samples are scaled by one bound before an iteration that needs small ones: only a note."""

    def forward(self, x: Tensor) -> Tensor:
        kernel = x.softmax(-1)
        value = 1 / kernel.sum(-2).max() * kernel.transpose(-1, -2)
        for _ in range(3):
            value = value @ (2 * torch.eye(x.size(-1)) - kernel @ value)
        return value @ x

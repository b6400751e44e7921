"""Models with one slip of the pen in a line, each with its repaired twin: what a search over edits finds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class SelectiveScan(nn.Module):
    def __init__(self, d=16, state=4, rank=2):
        super().__init__()
        self.rank, self.state = rank, state
        self.x_proj = nn.Linear(d, rank + 2 * state)
        self.dt_proj = nn.Linear(rank, d)

    def forward(self, x):
        B, C, dt = self.x_proj(x).split([self.rank, self.state, self.state], -1)
        return F.softplus(self.dt_proj(dt)) * x + (B * C).sum(-1, keepdim=True)


@twin(SelectiveScan, (2, 10, 16), reason="outputs 4 features, 'dt_proj' expects 2")
class SelectiveScanT(SelectiveScan):
    def forward(self, x):
        dt, B, C = self.x_proj(x).split([self.rank, self.state, self.state], -1)
        return F.softplus(self.dt_proj(dt)) * x + (B * C).sum(-1, keepdim=True)


class GatedConvolution(nn.Module):
    def __init__(self, d=16, state=4):
        super().__init__()
        self.d, self.state = d, state
        self.in_proj = nn.Linear(d, 2 * d + 2 * state)
        self.conv = nn.Conv1d(d + 2 * state, d + 2 * state, 3, padding=1)
        self.out = nn.Linear(d, d)

    def forward(self, u):
        z, x = self.in_proj(u).split([self.d + 2 * self.state, self.d], dim=-1)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)[..., : self.d]
        return self.out(x * F.silu(z))


@twin(GatedConvolution, (2, 10, 16), reason="expects 24")
class GatedConvolutionT(GatedConvolution):
    def forward(self, u):
        z, x = self.in_proj(u).split([self.d, self.d + 2 * self.state], dim=-1)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)[..., : self.d]
        return self.out(x * F.silu(z))


class ResetState(nn.Module):
    def __init__(self, obs=8, hidden=16):
        super().__init__()
        self.body = nn.Linear(obs, hidden)
        self.cell = nn.GRUCell(hidden, hidden)

    def forward(self, obs, h, done):
        mask = (1 - done).view(-1, 1, 1)
        return self.cell(self.body(obs), h * mask)


@twin(ResetState, (3, 8), (3, 16), (3,), reason="the hidden state is [3, 3, 16]")
class ResetStateT(ResetState):
    def forward(self, obs, h, done):
        mask = (1 - done).view(-1, 1)
        return self.cell(self.body(obs), h * mask)


class NextToken(nn.Module):
    def __init__(self, vocab=50):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(vocab, 16), nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, vocab)

    def forward(self, ids):
        logits = self.head(self.rnn(self.embed(ids))[0])
        logits = logits[:, :-1].reshape(-1, logits.size(-1))
        labels = ids.reshape(-1)
        return F.cross_entropy(logits, labels)


@twin(NextToken, ints(3, 9), reason="needs labels [24], got [27]")
class NextTokenT(NextToken):
    def forward(self, ids):
        logits = self.head(self.rnn(self.embed(ids))[0])
        logits = logits[:, :-1].reshape(-1, logits.size(-1))
        labels = ids[:, 1:].reshape(-1)
        return F.cross_entropy(logits, labels)


class SkipTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc1, self.enc2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.mid = nn.Conv2d(16, 32, 3, padding=1)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(32, 8, 2, 2)
        self.dec = nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        m = self.mid(F.max_pool2d(e2, 2))
        d2 = torch.cat([self.up2(m), e2], 1)
        return self.dec(torch.cat([self.up1(d2), e2], 1))


@twin(SkipTwice, (2, 1, 32, 32), reason="[16, 16] in one and [32, 32] in the other")
class SkipTwiceT(SkipTwice):
    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        m = self.mid(F.max_pool2d(e2, 2))
        d2 = torch.cat([self.up2(m), e2], 1)
        return self.dec(torch.cat([self.up1(d2), e1], 1))


class TwoTables(nn.Module):
    def __init__(self, users=20, items=30):
        super().__init__()
        self.user_gmf, self.item_gmf = nn.Embedding(users, 4), nn.Embedding(items, 4)
        self.user_mlp, self.item_mlp = nn.Embedding(users, 8), nn.Embedding(items, 8)
        self.mlp = nn.Sequential(nn.Linear(16, 8), nn.ReLU())
        self.out = nn.Linear(12, 1)

    def forward(self, user, item):
        gmf = self.user_gmf(user) * self.item_gmf(item)
        deep = self.mlp(torch.cat([self.user_gmf(user), self.item_gmf(item)], -1))
        return self.out(torch.cat([gmf, deep], -1))


@twin(TwoTables, ints(5), ints(5), reason="'mlp.0' expects 16")
class TwoTablesT(TwoTables):
    def forward(self, user, item):
        gmf = self.user_gmf(user) * self.item_gmf(item)
        deep = self.mlp(torch.cat([self.user_mlp(user), self.item_mlp(item)], -1))
        return self.out(torch.cat([gmf, deep], -1))


class ShotsOfClasses(nn.Module):
    def __init__(self, way=5, shot=3):
        super().__init__()
        self.way, self.shot = way, shot
        self.encoder = nn.Linear(8, 16)

    def forward(self, support, query, labels):
        z = self.encoder(support).view(self.way, self.shot, -1)
        protos = z.mean(dim=0)
        return F.cross_entropy(-torch.cdist(self.encoder(query), protos), labels)


@twin(ShotsOfClasses, (15, 8), (10, 8), torch.arange(5).repeat(2), reason="takes labels 0 … 2, got 4")
class ShotsOfClassesT(ShotsOfClasses):
    def forward(self, support, query, labels):
        z = self.encoder(support).view(self.way, self.shot, -1)
        return F.cross_entropy(-torch.cdist(self.encoder(query), z.mean(dim=1)), labels)


class QueriesOfChannels(nn.Module):
    def __init__(self, d=16, queries=6):
        super().__init__()
        self.conv = nn.Conv2d(3, d, 4, 4)
        self.body = nn.Transformer(d, 2, 1, 1, 32)
        self.queries = nn.Parameter(torch.zeros(queries, d))
        self.head = nn.Linear(d, 5)

    def forward(self, x):
        x = self.conv(x)
        B, C, H, W = x.shape
        src = x.view(B, C, H * W).permute(2, 0, 1)
        tgt = self.queries.unsqueeze(1).repeat(1, C, 1)
        return self.head(self.body(src, tgt)).transpose(0, 1)


@twin(QueriesOfChannels, (2, 3, 24, 24), reason="the source has 2 there, the target 16")
class QueriesOfChannelsT(QueriesOfChannels):
    def forward(self, x):
        x = self.conv(x)
        B, C, H, W = x.shape
        src = x.view(B, C, H * W).permute(2, 0, 1)
        tgt = self.queries.unsqueeze(1).repeat(1, B, 1)
        return self.head(self.body(src, tgt)).transpose(0, 1)


class FirstStates(nn.Module):
    def __init__(self, channels=1, hidden=8):
        super().__init__()
        self.hidden = hidden
        self.cell = StateCell(channels, hidden)
        self.out = nn.Conv2d(hidden, 1, 1)

    def forward(self, x):
        B, T, C, H, W = x.shape
        h = torch.zeros(B, C, H, W)
        c = torch.zeros(B, C, H, W)
        for t in range(T):
            h, c = self.cell(x[:, t], (h, c))
        return self.out(h)


class StateCell(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.conv = nn.Conv2d(channels + width, 4 * width, 3, padding=1)

    def forward(self, x, state):
        h, c = state
        i, f, o, g = self.conv(torch.cat([x, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


@twin(FirstStates, (2, 4, 1, 8, 8), reason="1 + 1 = 2 channels, 'cell.conv' expects 9")
class FirstStatesT(FirstStates):
    def forward(self, x):
        B, T, _, H, W = x.shape
        h = torch.zeros(B, self.hidden, H, W)
        c = torch.zeros(B, self.hidden, H, W)
        for t in range(T):
            h, c = self.cell(x[:, t], (h, c))
        return self.out(h)


class Spectral(nn.Module):
    def __init__(self, width=8, modes=6):
        super().__init__()
        self.modes = modes
        self.weights = nn.Parameter(torch.zeros(width, width, modes, dtype=torch.cfloat))

    def forward(self, x):
        ft = torch.fft.rfft(x)
        out = torch.zeros_like(ft)
        out[:, :, : self.modes] = torch.einsum("bix,iox->box", ft[:, :, : self.modes], self.weights)
        return torch.fft.irfft(out, n=x.size(-1))


class TurnedWhereMade(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.lift = nn.Linear(2, width)
        self.spectral, self.local = Spectral(width), nn.Conv1d(width, width, 1)

    def forward(self, x):
        x = self.lift(x)
        return F.gelu(self.spectral(x) + self.local(x))


@twin(TurnedWhereMade, (2, 32, 2), reason="'i' is 32")
class TurnedWhereMadeT(TurnedWhereMade):
    def forward(self, x):
        x = self.lift(x).transpose(1, 2)
        return F.gelu(self.spectral(x) + self.local(x))

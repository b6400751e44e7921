"""Whole models as people ask about them, each with its repaired twin, of kinds that were once repaired otherwise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class HeadsOfTwoWidths(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 64)
        self.fc_mu = nn.Linear(64, 20)
        self.fc_logvar = nn.Linear(64, 10)
        self.fc3 = nn.Linear(20, 64)
        self.fc4 = nn.Linear(64, 784)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x):
        h = F.relu(self.fc1(x.view(-1, 784)))
        mu, logvar = self.fc_mu(h), self.fc_logvar(h)
        z = self.reparameterize(mu, logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))


@twin(HeadsOfTwoWidths, (16, 1, 28, 28), reason="'fc_mu' outputs 20, 'fc_logvar' 10, of one input")
class HeadsOfTwoWidthsT(HeadsOfTwoWidths):
    def __init__(self):
        super().__init__()
        self.fc_logvar = nn.Linear(64, 20)


class Block(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class MiniResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Block(8, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32))
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        x = self.layer2(self.layer1(x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


@twin(MiniResNet, (2, 3, 32, 32), reason="8 channels against 16")
class MiniResNetT(MiniResNet):
    def __init__(self):
        super().__init__()
        self.layer1[0].shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16))


class Gate(nn.Module):
    def __init__(self, g, x, inter):
        super().__init__()
        self.wg, self.wx, self.psi = nn.Conv2d(g, inter, 1), nn.Conv2d(x, inter, 1), nn.Conv2d(inter, 1, 1)

    def forward(self, g, x):
        a = F.relu(self.wg(g) + self.wx(x))
        return x * torch.sigmoid(self.psi(a))


class GatedNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.e1, self.e2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.gate = Gate(16, 8, 4)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.e1(x)
        b = self.e2(self.pool(a))
        return self.out(self.gate(b, a))


class GateT(Gate):
    def forward(self, g, x):
        a = F.relu(F.interpolate(self.wg(g), size=x.shape[2:]) + self.wx(x))
        return x * torch.sigmoid(self.psi(a))


@twin(GatedNet, (2, 3, 32, 32), reason="the coarser map is not enlarged")
class GatedNetT(GatedNet):
    def __init__(self):
        super().__init__()
        self.gate = GateT(16, 8, 4)


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
        args = t * freqs
        return torch.cat([args.sin(), args.cos()], dim=-1)


class NoisePredictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(SinusoidalPosEmb(16), nn.Linear(16, 32), nn.SiLU())
        self.net = nn.Sequential(nn.Linear(2 + 32, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t):
        return self.net(torch.cat([x, self.time(t)], dim=1))


class SinT(SinusoidalPosEmb):
    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
        args = t[:, None] * freqs
        return torch.cat([args.sin(), args.cos()], dim=-1)


@twin(NoisePredictor, (12, 2), (12,), reason="each of 12 numbers with each of 8")
class NoisePredictorT(NoisePredictor):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(SinT(16), nn.Linear(16, 32), nn.SiLU())


class PrimaryCaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 9)
        self.caps = nn.Conv2d(16, 32, 9, 2)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = self.caps(x)
        return x.view(x.size(0), 32 * 6 * 6, 8)


@twin(PrimaryCaps, (3, 1, 28, 28), reason="3456 is not 3 × 1152 × 8")
class PrimaryCapsT(PrimaryCaps):
    def __init__(self):
        super().__init__()
        self.caps = nn.Conv2d(16, 256, 9, 2)


class HAN(nn.Module):
    def __init__(self, vocab=80, emb=12, hid=10):
        super().__init__()
        self.emb = nn.Embedding(vocab, emb)
        self.word, self.sent = nn.GRU(emb, hid, batch_first=True), nn.GRU(hid, hid, batch_first=True)
        self.fc = nn.Linear(hid, 3)

    def forward(self, docs):
        b, s, _w = docs.shape
        e = self.emb(docs)
        _, h = self.word(e)
        _, h2 = self.sent(h[-1].view(b, s, -1))
        return self.fc(h2[-1])


@twin(HAN, ints(3, 5, 8), reason="3 × 5 sequences of 8 steps are one batch")
class HANT(HAN):
    def forward(self, docs):
        b, s, _w = docs.shape
        _, h = self.word(self.emb(docs).flatten(0, 1))
        _, h2 = self.sent(h[-1].view(b, s, -1))
        return self.fc(h2[-1])


class FPN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1)
        self.l1, self.l2, self.l3 = nn.Conv2d(16, 24, 1), nn.Conv2d(32, 24, 1), nn.Conv2d(64, 32, 1)
        self.head = nn.Conv2d(24, 5, 3, padding=1)

    def up_add(self, x, y):
        return F.interpolate(x, size=y.shape[-2:], mode="bilinear", align_corners=False) + y

    def forward(self, x):
        c1 = F.relu(self.c1(x))
        c2 = F.relu(self.c2(c1))
        c3 = F.relu(self.c3(c2))
        p3 = self.l3(c3)
        p2 = self.up_add(p3, self.l2(c2))
        p1 = self.up_add(p2, self.l1(c1))
        return self.head(p1)


@twin(FPN, (2, 3, 64, 64), reason="'l3' outputs 32, 'l2' 24")
class FPNT(FPN):
    def __init__(self):
        super().__init__()
        self.l3 = nn.Conv2d(64, 24, 1)


class PatchD(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(6, 16, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 32, 4, 2, 1),
            nn.InstanceNorm2d(32),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 1, 4, padding=1),
        )

    def forward(self, a, b):
        return self.model(torch.cat((a, b)))


@twin(PatchD, (2, 3, 64, 64), (2, 3, 64, 64), reason="there are 3 + 3 = 6 channels in dim 1")
class PatchDT(PatchD):
    def forward(self, a, b):
        return self.model(torch.cat((a, b), 1))


class GenLinear(nn.Module):
    def __init__(self, z=32, ch=16):
        super().__init__()
        self.ch = ch
        self.fc = nn.Linear(z, ch * 4 * 4 * 4)
        self.net = nn.Sequential(
            nn.BatchNorm2d(ch * 4),
            nn.ReLU(),
            nn.ConvTranspose2d(ch * 4, ch * 2, 4, 2, 1),
            nn.BatchNorm2d(ch * 2),
            nn.ReLU(),
            nn.ConvTranspose2d(ch * 2, 3, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z):
        x = self.fc(z)
        return self.net(x)


@twin(GenLinear, (8, 32), reason="1024 = 64 × 4 × 4")
class GenLinearT(GenLinear):
    def forward(self, z):
        return self.net(self.fc(z).view(-1, 64, 4, 4))


class StockTransformer(nn.Module):
    def __init__(self, features=5, d_model=32, heads=4):
        super().__init__()
        self.pos = nn.Parameter(torch.randn(1, 60, d_model))
        layer = nn.TransformerEncoderLayer(d_model, heads, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.fc = nn.Linear(d_model, 1)
        self.embed = nn.Linear(features, d_model)

    def forward(self, x):
        x = x + self.pos[:, : x.size(1)]
        x = self.encoder(x)
        return self.fc(x[:, -1])


@twin(StockTransformer, (8, 60, 5), reason="'embed' projects and is not used")
class StockTransformerT(StockTransformer):
    def forward(self, x):
        x = self.embed(x) + self.pos[:, : x.size(1)]
        return self.fc(self.encoder(x)[:, -1])


class RetinaHead(nn.Module):
    def __init__(self, c=16, anchors=9, classes=4):
        super().__init__()
        self.cls = nn.Conv2d(c, anchors * classes, 3, padding=1)
        self.box = nn.Conv2d(c, anchors * 4, 3, padding=1)
        self.classes = classes

    def forward(self, feats):
        cls = self.cls(feats).permute(0, 2, 3, 1).reshape(feats.size(0), -1, self.classes + 1)
        box = self.box(feats).permute(0, 2, 3, 1).reshape(feats.size(0), -1, 4)
        return torch.cat([box, cls], dim=-1)


@twin(RetinaHead, (2, 16, 11, 11), reason="36 channels are 9 × 4, and the target has 5")
class RetinaHeadT(RetinaHead):
    def __init__(self):
        super().__init__()
        self.cls = nn.Conv2d(16, 45, 3, padding=1)


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(20, 32), nn.ReLU())
        self.a, self.b = nn.Linear(32, 3), nn.Linear(32, 1)

    def trunk(self, x):
        x = self.shared(x)

    def forward(self, x):
        h = self.trunk(x)
        return self.a(h), self.b(h)


@twin(MultiTask, (8, 20), reason="self.trunk() returned None")
class MultiTaskT(MultiTask):
    def trunk(self, x):
        return self.shared(x)


class MPNN(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.msg, self.upd = nn.Linear(2 * d, d), nn.Linear(2 * d, d)

    def forward(self, x, edge_index):
        src, dst = edge_index
        m = self.msg(torch.cat([x[src], x[dst]], dim=-1))
        out = torch.zeros_like(x).scatter_add(0, dst, m)
        return self.upd(torch.cat([x, out], -1))


@twin(MPNN, (10, 8), ints(2, 30), reason="as many dims")
class MPNNT(MPNN):
    def forward(self, x, edge_index):
        src, dst = edge_index
        m = self.msg(torch.cat([x[src], x[dst]], dim=-1))
        out = torch.zeros_like(x).index_add(0, dst, m)
        return self.upd(torch.cat([x, out], -1))


class TCNBlock(nn.Module):
    def __init__(self, i, o, k=3, d=1):
        super().__init__()
        self.conv = nn.Conv1d(i, o, k, padding=(k - 1) * d, dilation=d)
        self.down = nn.Conv1d(i, o, 1) if i != o else None

    def forward(self, x):
        y = F.relu(self.conv(x))
        res = x if self.down is None else self.down(x)
        return y + res


class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(TCNBlock(3, 8, d=1), TCNBlock(8, 8, d=2), TCNBlock(8, 8, d=4))
        self.fc = nn.Linear(8, 1)

    def forward(self, x):
        return self.fc(self.net(x)[:, :, -1])


class TCNBlockT(TCNBlock):
    def forward(self, x):
        y = F.relu(self.conv(x))[..., : x.size(-1)]
        res = x if self.down is None else self.down(x)
        return y + res


@twin(TCN, (4, 3, 40), reason="pads by 2 more than it takes off")
class TCNT(TCN):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(TCNBlockT(3, 8, d=1), TCNBlockT(8, 8, d=2), TCNBlockT(8, 8, d=4))


class Encoder(nn.Module):
    def __init__(self, vocab=100, d=32, heads=4, layers=2, classes=3):
        super().__init__()
        self.tok = nn.Embedding(vocab, d)
        self.layers = nn.ModuleList([nn.TransformerEncoderLayer(d, heads, 64, batch_first=True) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, classes)

    def forward(self, ids, mask):
        x = self.tok(ids)
        for layer in self.layers:
            x = layer(x, src_mask=mask)
        return self.head(self.norm(x)[:, 0])


@twin(Encoder, ints(4, 12), torch.zeros(4, 12, dtype=torch.bool), reason="key_padding_mask")
class EncoderT(Encoder):
    def forward(self, ids, mask):
        x = self.tok(ids)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=mask)
        return self.head(self.norm(x)[:, 0])


class Trimodal(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.v, self.t = nn.GRU(10, 16, batch_first=True), nn.Linear(20, 16), nn.EmbeddingBag(50, 16)
        self.out = nn.Linear(48, 2)

    def forward(self, audio, video, text):
        a, _ = self.a(audio)
        return self.out(torch.cat([a, self.v(video), self.t(text)], dim=1))


@twin(Trimodal, (4, 30, 10), (4, 20), ints(4, 6), reason="'a' gives steps of 16 features")
class TrimodalT(Trimodal):
    def forward(self, audio, video, text):
        a, _ = self.a(audio)
        return self.out(torch.cat([a[:, -1], self.v(video), self.t(text)], dim=1))


class RelBias(nn.Module):
    def __init__(self, d=16, heads=2, n=16):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.bias = nn.Parameter(torch.zeros(heads, n, n))

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-2, -1)) + self.bias
        return self.proj((a.softmax(-1) @ v).transpose(1, 2).reshape(B, N, C))


@twin(RelBias, (2, 25, 16), reason="'bias' has 16")
class RelBiasT(RelBias):
    def __init__(self):
        super().__init__(n=25)


class CenterNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.up = nn.ConvTranspose2d(32, 16, 4, 2, 1)
        self.heat, self.wh = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x, target):
        f = F.relu(self.up(self.backbone(x)))
        return F.binary_cross_entropy_with_logits(self.heat(f), target), self.wh(f)


@twin(CenterNet, (2, 3, 64, 64), (2, 3, 32, 32), reason="[2, 4, 32, 32] against [2, 3, 32, 32]")
class CenterNetT(CenterNet):
    def __init__(self):
        super().__init__()
        self.heat = nn.Conv2d(16, 3, 1)


class Focal(nn.Module):
    def __init__(self, c=4):
        super().__init__()
        self.c, self.net = c, nn.Conv2d(3, c, 1)

    def forward(self, x, y):
        p = self.net(x).softmax(1)
        onehot = F.one_hot(y, self.c).float()
        return -(onehot * torch.log(p + 1e-6)).sum(1).mean()


@twin(Focal, (2, 3, 16, 20), ints(2, 16, 20), reason="has the 4 channels last")
class FocalT(Focal):
    def forward(self, x, y):
        p = self.net(x).softmax(1)
        onehot = F.one_hot(y, self.c).permute(0, 3, 1, 2).float()
        return -(onehot * torch.log(p + 1e-6)).sum(1).mean()


class GIN(nn.Module):
    def __init__(self, i=7, h=16):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, h))
        self.eps = nn.Parameter(torch.zeros(1))
        self.out = nn.Linear(h, 2)

    def forward(self, x, adj):
        x = self.mlp((1 + self.eps) * x + adj.t() @ x.t())
        return self.out(x.sum(0, keepdim=True))


@twin(GIN, (15, 7), (15, 15), reason="transposed, the second has 15 there")
class GINT(GIN):
    def forward(self, x, adj):
        x = self.mlp((1 + self.eps) * x + adj.t() @ x)
        return self.out(x.sum(0, keepdim=True))


class CVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(784 + 10, 64)
        self.mu, self.lv = nn.Linear(64, 8), nn.Linear(64, 8)
        self.dec = nn.Sequential(nn.Linear(18, 64), nn.ReLU(), nn.Linear(64, 784), nn.Sigmoid())

    def forward(self, x, y):
        h = F.relu(self.enc(torch.cat([x, y], 1)))
        z = self.mu(h) + torch.randn_like(self.mu(h)) * torch.exp(0.5 * self.lv(h))
        return self.dec(torch.cat([z, y], 1))


@twin(CVAE, (4, 1, 28, 28), (4, 10), reason="28 + 10 = 794 features are expected")
class CVAET(CVAE):
    def forward(self, x, y):
        return super().forward(x.flatten(1), y)


class FiLM(nn.Module):
    def __init__(self, c=16, t=32):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, padding=1)
        self.film = nn.Linear(t, c)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def forward(self, x, t):
        h = self.conv(x)
        scale, shift = self.film(t)[:, :, None, None].chunk(2, 1)
        return self.out(h * (1 + scale) + shift)


@twin(FiLM, (2, 3, 16, 16), (2, 32), reason="chunk() makes 2 of 16: 8 against 16")
class FiLMT(FiLM):
    def __init__(self):
        super().__init__()
        self.film = nn.Linear(32, 32)

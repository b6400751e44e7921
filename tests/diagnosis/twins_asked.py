"""More models that fail, each with its repaired twin: questions as they are asked, written before any was run."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertModel

from tests.diagnosis.twins import TWINS, Twin, ints, twin


class Lenet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


@twin(Lenet, (4, 1, 28, 28), reason="256")
class LenetT(Lenet):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(256, 120)


class ViewSwallow(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x):
        x = self.features(x)
        x = x.view(-1, 64 * 7 * 7)
        return self.classifier(x)


@twin(ViewSwallow, (8, 3, 32, 32), reason="")
class ViewSwallowT(ViewSwallow):
    def __init__(self):
        super().__init__()
        self.classifier[0] = nn.Linear(4096, 128)

    def forward(self, x):
        x = self.features(x)
        return self.classifier(x.flatten(1))


class Up(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.up = nn.ConvTranspose2d(i, o, 2, stride=2)
        self.conv = nn.Sequential(nn.Conv2d(2 * o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True))

    def forward(self, x, skip):
        x = self.up(x)
        x = torch.cat([skip, x], dim=1)
        return self.conv(x)


class UNetOdd(nn.Module):
    def __init__(self):
        super().__init__()
        self.inc = nn.Conv2d(3, 16, 3, padding=1)
        self.d1 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1))
        self.d2 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1))
        self.d3 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(64, 128, 3, padding=1))
        self.u3, self.u2, self.u1 = Up(128, 64), Up(64, 32), Up(32, 16)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        a = self.inc(x)
        b = self.d1(a)
        c = self.d2(b)
        d = self.d3(c)
        return self.out(self.u1(self.u2(self.u3(d, c), b), a))


class UpT(Up):
    def forward(self, x, skip):
        x = self.up(x)
        x = F.interpolate(x, size=skip.shape[2:])
        return self.conv(torch.cat([skip, x], 1))


@twin(UNetOdd, (1, 3, 100, 150), reason="")
class UNetOddT(UNetOdd):
    def __init__(self):
        super().__init__()
        self.u3, self.u2, self.u1 = UpT(128, 64), UpT(64, 32), UpT(32, 16)


class Sentiment(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(1000, 50)
        self.lstm = nn.LSTM(50, 64, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(64, 2)

    def forward(self, ids):
        out, _ = self.lstm(self.emb(ids))
        return self.fc(out[:, -1, :])


@twin(Sentiment, ints(8, 33), reason="bidirectional")
class SentimentT(Sentiment):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(128, 2)


class LstmState(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_layers, self.hidden = 3, 32
        self.lstm = nn.LSTM(12, 32, 3, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x):
        h0 = torch.zeros(1, x.size(0), self.hidden)
        c0 = torch.zeros(1, x.size(0), self.hidden)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1])


@twin(LstmState, (16, 25, 12), reason="3")
class LstmStateT(LstmState):
    def forward(self, x):
        h0 = torch.zeros(3, x.size(0), 32)
        out, _ = self.lstm(x, (h0, h0))
        return self.fc(out[:, -1])


class GruHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(40, 64, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(128, 5)

    def forward(self, x):
        _, h = self.gru(x)
        return self.fc(h[-1])


@twin(GruHead, (8, 20, 40), reason="64")
class GruHeadT(GruHead):
    def forward(self, x):
        _, h = self.gru(x)
        return self.fc(torch.cat([h[-2], h[-1]], 1))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(500, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(64, 500)

    def forward(self, ids):
        x = self.emb(ids)
        T = ids.size(1)
        mask = torch.triu(torch.full((T, T), float("-inf")), 1)
        x = self.enc(x, mask=mask)
        return self.out(x)


@twin(LM, ints(8, 30), reason="batch_first")
class LMT(LM):
    def __init__(self):
        super().__init__()
        self.enc = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2, enable_nested_tensor=False
        )


class PadMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(100, 32)
        self.att = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, ids, pad):
        x = self.emb(ids)
        y, _ = self.att(x, x, x, key_padding_mask=pad)
        return y


@twin(PadMask, ints(6, 15), torch.zeros(15, 6, dtype=torch.bool), reason="")
class PadMaskT(PadMask):
    def forward(self, ids, pad):
        x = self.emb(ids)
        return self.att(x, x, x, key_padding_mask=pad.t())[0]


class Cross(nn.Module):
    def __init__(self):
        super().__init__()
        self.txt, self.img = nn.Embedding(100, 128), nn.Linear(512, 256)
        self.att = nn.MultiheadAttention(128, 8, batch_first=True)
        self.head = nn.Linear(128, 4)

    def forward(self, ids, patches):
        q, kv = self.txt(ids), self.img(patches)
        y, _ = self.att(q, kv, kv)
        return self.head(y.mean(1))


@twin(Cross, ints(4, 12), (4, 49, 512), reason="256")
class CrossT(Cross):
    def __init__(self):
        super().__init__()
        self.att = nn.MultiheadAttention(128, 8, kdim=256, vdim=256, batch_first=True)


class LMLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.rnn, self.head = nn.Embedding(60, 32), nn.LSTM(32, 48, batch_first=True), nn.Linear(48, 60)
        self.criterion = nn.CrossEntropyLoss(reduction="none")

    def forward(self, ids, target):
        h, _ = self.rnn(self.emb(ids))
        logits = self.head(h)
        return self.criterion(logits, target)


@twin(LMLoss, ints(8, 21), ints(8, 21), reason="class")
class LMLossT(LMLoss):
    def forward(self, ids, target):
        h, _ = self.rnn(self.emb(ids))
        return self.criterion(self.head(h).transpose(1, 2), target)


class OneChannelMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1))

    def forward(self, img, mask):
        out = self.net(img)
        loss = F.cross_entropy(out, mask)
        return loss, out


@twin(OneChannelMask, (2, 3, 32, 32), ints(2, 1, 32, 32), reason="")
class OneChannelMaskT(OneChannelMask):
    def forward(self, img, mask):
        out = self.net(img)
        return F.cross_entropy(out, mask.squeeze(1)), out


class Bce(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
        self.loss = nn.BCELoss()

    def forward(self, x, y):
        p = self.net(x)
        return p, self.loss(p, y)


@twin(Bce, (64, 20), torch.zeros(64), reason="")
class BceT(Bce):
    def forward(self, x, y):
        p = self.net(x)
        return p, self.loss(p, y.unsqueeze(1))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.lstm, self.out = nn.Embedding(200, 24), nn.LSTM(24, 30, batch_first=True), nn.Linear(30, 9)

    def forward(self, words, tags):
        h, _ = self.lstm(self.emb(words))
        scores = F.log_softmax(self.out(h), dim=-1)
        return F.nll_loss(scores, tags)


@twin(Tagger, ints(4, 17), ints(4, 17), reason="")
class TaggerT(Tagger):
    def forward(self, words, tags):
        h, _ = self.lstm(self.emb(words))
        scores = F.log_softmax(self.out(h), dim=-1)
        return F.nll_loss(scores.transpose(1, 2), tags)


class Ctc(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(40, 64, batch_first=True, bidirectional=True)
        self.out = nn.Linear(128, 29)
        self.ctc = nn.CTCLoss()

    def forward(self, feats, targets, in_len, out_len):
        h, _ = self.rnn(feats)
        logp = self.out(h).log_softmax(2)
        return self.ctc(logp, targets, in_len, out_len)


@twin(Ctc, (4, 50, 40), torch.ones(4, 10, dtype=torch.long), torch.full((4,), 50), torch.full((4,), 10), reason="")
class CtcT(Ctc):
    def forward(self, feats, targets, in_len, out_len):
        h, _ = self.rnn(feats)
        return self.ctc(self.out(h).log_softmax(2).transpose(0, 1), targets, in_len, out_len)


class CosEmb(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(30, 16), nn.Tanh())
        self.loss = nn.CosineEmbeddingLoss()

    def forward(self, a, b, label):
        return self.loss(self.enc(a), self.enc(b), label)


@twin(CosEmb, (12, 30), (12, 30), torch.ones(12, 1), reason="")
class CosEmbT(CosEmb):
    def forward(self, a, b, label):
        return self.loss(self.enc(a), self.enc(b), label.squeeze(1))


class EmbFloat(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(30, 8)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        e = self.emb(x)
        return self.fc(e.mean(1))


@twin(EmbFloat, torch.zeros(4, 11), reason="integer")
class EmbFloatT(EmbFloat):
    def forward(self, x):
        return self.fc(self.emb(x.long()).mean(1))


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w2 = nn.Linear(32, 16), nn.Linear(16, 7)

    def forward(self, x, adj):
        h = F.relu(self.w1(x) @ adj)
        return self.w2(h)


@twin(GCN, (50, 32), (50, 50), reason="")
class GCNT(GCN):
    def forward(self, x, adj):
        return self.w2(F.relu(adj @ self.w1(x)))


class GAT(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(16, 8) for _ in range(4)])
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        h = torch.cat([head(x) for head in self.heads], dim=-1)
        return self.out(F.elu(h))


@twin(GAT, (20, 16), reason="32")
class GATT(GAT):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(32, 3)


class DW(nn.Module):
    def __init__(self):
        super().__init__()
        self.pw = nn.Conv2d(3, 24, 1)
        self.dw = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.out = nn.Conv2d(32, 10, 1)

    def forward(self, x):
        x = self.pw(x)
        x = self.dw(x)
        return self.out(x).mean((2, 3))


@twin(DW, (2, 3, 16, 16), reason="24")
class DWT(DW):
    def __init__(self):
        super().__init__()
        self.dw = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.out = nn.Conv2d(24, 10, 1)


class SR(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, padding=1)
        self.pre = nn.Conv2d(64, 24, 3, padding=1)
        self.shuffle = nn.PixelShuffle(3)
        self.out = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.conv(x))
        x = self.shuffle(self.pre(x))
        return self.out(x)


@twin(SR, (1, 3, 20, 20), reason="9")
class SRT(SR):
    def __init__(self):
        super().__init__()
        self.pre = nn.Conv2d(64, 27, 3, padding=1)


class Ein(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = [f(x).view(B, T, 4, 8) for f in (self.q, self.k, self.v)]
        att = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        out = torch.einsum("bhqk,bhkd->bqhd", att, v)
        return out.reshape(B, T, D)


@twin(Ein, (2, 10, 32), reason="h")
class EinT(Ein):
    def forward(self, x):
        B, T, D = x.shape
        q, k, v = [f(x).view(B, T, 4, 8) for f in (self.q, self.k, self.v)]
        att = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        return torch.einsum("bhqk,bkhd->bqhd", att, v).reshape(B, T, D)


class DQN(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, state, action):
        q = self.net(state)
        return q.gather(1, action)


@twin(DQN, (32, 4), ints(32), reason="")
class DQNT(DQN):
    def forward(self, state, action):
        return self.net(state).gather(1, action.unsqueeze(1))


class Scatter(nn.Module):
    def __init__(self):
        super().__init__()
        self.msg = nn.Linear(16, 8)

    def forward(self, x, edge_index):
        src, dst = edge_index
        m = self.msg(x)[src]
        out = torch.zeros(x.size(0), 8)
        return out.scatter_add(0, dst, m)


@twin(Scatter, (10, 16), ints(2, 30), reason="")
class ScatterT(Scatter):
    def forward(self, x, edge_index):
        src, dst = edge_index
        m = self.msg(x)[src]
        out = torch.zeros(x.size(0), 8)
        return out.scatter_add(0, dst.unsqueeze(1).expand_as(m), m)


class LayerScale(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(24, 24, 3, padding=1)
        self.gamma = nn.Parameter(1e-6 * torch.ones(24))
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = x + self.gamma * self.conv(x)
        return self.head(x.mean((2, 3)))


@twin(LayerScale, (2, 24, 14, 14), reason="")
class LayerScaleT(LayerScale):
    def forward(self, x):
        x = x + self.gamma[:, None, None] * self.conv(x)
        return self.head(x.mean((2, 3)))


class TwoMinus(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, stride=2)
        self.fc = nn.Linear(32, 6)

    def forward(self, x):
        x = self.conv(x)
        x = x.view(-1, 32, -1)
        return self.fc(x.mean(2))


@twin(TwoMinus, (4, 3, 31, 31), reason="-1")
class TwoMinusT(TwoMinus):
    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(x.size(0), 32, -1).mean(2))


class Bahdanau(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.GRU(16, 32, batch_first=True)
        self.dec = nn.GRU(16, 32, batch_first=True)
        self.attn = nn.Linear(64, 1)
        self.out = nn.Linear(64, 100)

    def forward(self, src, tgt):
        enc, h = self.enc(src)
        dec, _ = self.dec(tgt, h)
        query = dec[:, -1].repeat(1, enc.size(1), 1)
        score = self.attn(torch.cat([enc, query], dim=2))
        ctx = (score.softmax(1) * enc).sum(1)
        return self.out(torch.cat([ctx, dec[:, -1]], 1))


@twin(Bahdanau, (4, 12, 16), (4, 7, 16), reason="")
class BahdanauT(Bahdanau):
    def forward(self, src, tgt):
        enc, h = self.enc(src)
        dec, _ = self.dec(tgt, h)
        query = dec[:, -1].unsqueeze(1).repeat(1, enc.size(1), 1)
        score = self.attn(torch.cat([enc, query], dim=2))
        ctx = (score.softmax(1) * enc).sum(1)
        return self.out(torch.cat([ctx, dec[:, -1]], 1))


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.fc = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.ReLU())
        self.out = nn.Linear(64, 1)

    def once(self, x):
        x = self.cnn(x)
        return self.fc(x.view(x.size(0), -1))

    def forward(self, a, b):
        a, b = self.once(a), self.once(b)
        return self.out(torch.cat((a, b), 1))


@twin(Siamese, (2, 1, 28, 28), (2, 1, 28, 28), reason="128")
class SiameseT(Siamese):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(128, 1)


class Gen(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(100, 64, 4, 1, 0),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 3, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.main(z)


@twin(Gen, (16, 100), reason="")
class GenT(Gen):
    def forward(self, z):
        return self.main(z[:, :, None, None])


class CondDisc(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(10, 10)
        self.net = nn.Sequential(nn.Linear(784, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))

    def forward(self, img, label):
        x = torch.cat([img.flatten(1), self.emb(label)], 1)
        return self.net(x)


@twin(CondDisc, (8, 1, 28, 28), ints(8), reason="794")
class CondDiscT(CondDisc):
    def __init__(self):
        super().__init__()
        self.net[0] = nn.Linear(794, 128)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.mu, self.lv = nn.Linear(32 * 49, 20), nn.Linear(32 * 49, 20)
        self.up = nn.Linear(20, 32 * 49)
        self.dec = nn.Sequential(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1))

    def forward(self, x):
        h = self.enc(x).flatten(1)
        mu, lv = self.mu(h), self.lv(h)
        z = mu + torch.randn_like(mu) * (lv / 2).exp()
        h = self.up(z)
        return self.dec(h), mu, lv


@twin(VAE, (4, 1, 28, 28), reason="")
class VAET(VAE):
    def forward(self, x):
        h = self.enc(x).flatten(1)
        mu, lv = self.mu(h), self.lv(h)
        z = mu + torch.randn_like(mu) * (lv / 2).exp()
        return self.dec(self.up(z).view(-1, 32, 7, 7)), mu, lv


class VAE2(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(784, 400)
        self.fc_mu = nn.Linear(400, 20)
        self.fc_var = nn.Linear(400, 20)
        self.dec = nn.Linear(20, 784)

    def forward(self, x):
        x = x.view(-1, 784)
        h = F.relu(self.enc(x))
        mu, var = self.fc_mu(h), self.fc_var(h)
        eps = torch.randn(20, 1)
        z = mu + eps * var.mul(0.5).exp()
        return self.dec(z)


@twin(VAE2, (8, 1, 28, 28), reason="")
class VAE2T(VAE2):
    def forward(self, x):
        h = F.relu(self.enc(x.view(-1, 784)))
        mu, var = self.fc_mu(h), self.fc_var(h)
        return self.dec(mu + torch.randn_like(var) * var.mul(0.5).exp())


class Detr(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 32, 16, 16)
        self.transformer = nn.Transformer(32, 4, 1, 1, 64)
        self.cls, self.box = nn.Linear(32, 11), nn.Linear(32, 4)
        self.query = nn.Parameter(torch.rand(20, 32))

    def forward(self, img):
        h = self.backbone(img)
        src = h.flatten(2).permute(2, 0, 1)
        h = self.transformer(src, self.query)
        return self.cls(h), self.box(h).sigmoid()


@twin(Detr, (2, 3, 128, 160), reason="")
class DetrT(Detr):
    def forward(self, img):
        h = self.backbone(img)
        h = self.transformer(h.flatten(2).permute(2, 0, 1), self.query.unsqueeze(1).repeat(1, img.size(0), 1))
        return self.cls(h), self.box(h).sigmoid()


class DetrPos(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 8, 8)
        self.row, self.col = nn.Parameter(torch.rand(50, 32)), nn.Parameter(torch.rand(50, 32))
        self.layer = nn.TransformerEncoderLayer(64, 4, 64, batch_first=True)

    def forward(self, x):
        h = self.conv(x)
        H, W = h.shape[-2:]
        pos = torch.cat([self.col[:W].unsqueeze(0).repeat(H, 1, 1), self.row[:H].unsqueeze(1).repeat(1, W, 1)], -1)
        return self.layer(h.flatten(2).transpose(1, 2) + pos)


@twin(DetrPos, (2, 3, 64, 96), reason="")
class DetrPosT(DetrPos):
    def forward(self, x):
        h = self.conv(x)
        H, W = h.shape[-2:]
        pos = torch.cat([self.col[:W].unsqueeze(0).repeat(H, 1, 1), self.row[:H].unsqueeze(1).repeat(1, W, 1)], -1)
        return self.layer(h.flatten(2).transpose(1, 2) + pos.flatten(0, 1))


class HFHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = BertModel(
            BertConfig(vocab_size=200, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
        )
        self.fc = nn.Linear(32, 3)

    def forward(self, input_ids):
        out = self.bert(input_ids)
        return self.fc(out)


@twin(HFHead, ints(2, 12), reason="")
class HFHeadT(HFHead):
    def forward(self, input_ids):
        return self.fc(self.bert(input_ids).pooler_output)


class HFWidth(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = BertModel(
            BertConfig(vocab_size=200, hidden_size=48, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
        )
        self.drop, self.fc = nn.Dropout(0.1), nn.Linear(768, 3)

    def forward(self, input_ids):
        x = self.bert(input_ids)[1]
        return self.fc(self.drop(x))


@twin(HFWidth, ints(2, 12), reason="48")
class HFWidthT(HFWidth):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(48, 3)


class Cuda(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x):
        h = torch.zeros(1, x.size(0), 16).cuda()
        return self.lstm(x, (h, h))[0]


@twin(Cuda, (4, 9, 8), reason="CUDA")
class CudaT(Cuda):
    def forward(self, x):
        h = torch.zeros(1, x.size(0), 16)
        return self.lstm(x, (h, h))[0]


class Rgb(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
        )

    def forward(self, image):
        return self.net(image)


@twin(Rgb, (2, 64, 64, 3), reason="channels")
class RgbT(Rgb):
    def forward(self, image):
        return self.net(image.permute(0, 3, 1, 2))


class U8(Rgb):
    def forward(self, image):
        return self.net(image)


@twin(U8, torch.zeros(2, 3, 40, 40, dtype=torch.uint8), reason="uint8")
class U8T(U8):
    def forward(self, image):
        return self.net(image.float())


class NoBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Linear(16, 10)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


TWINS.append(Twin(NoBatch, None, ((3, 32, 32),), "batch", ((1, 3, 32, 32),)))


class NoBatch2(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8 * 26 * 26, 10)

    def forward(self, x):
        x = self.conv(x)
        x = x.view(x.size(0), -1)
        return self.fc(x)


TWINS.append(Twin(NoBatch2, None, ((1, 28, 28),), "batch", ((1, 1, 28, 28),)))


class Typo(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forwrad(self, x):
        return self.fc(x)


@twin(Typo, (3, 4), reason="forwrad")
class TypoT(Typo):
    def forward(self, x):
        return self.fc(x)


class Triplet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Linear(20, 8)
        self.proj = nn.Linear(20, 6)
        self.loss = nn.TripletMarginLoss()

    def forward(self, a, p, n):
        return self.loss(self.enc(a), self.enc(p), self.proj(n))


@twin(Triplet, (5, 20), (5, 20), (5, 20), reason="")
class TripletT(Triplet):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(20, 8)


class Distil(nn.Module):
    def __init__(self):
        super().__init__()
        self.student, self.teacher = nn.Linear(10, 5), nn.Linear(10, 6)

    def forward(self, x):
        s, t = self.student(x), self.teacher(x)
        return F.kl_div(s.log_softmax(1), t.softmax(1), reduction="batchmean")


@twin(Distil, (4, 10), reason="")
class DistilT(Distil):
    def __init__(self):
        super().__init__()
        self.teacher = nn.Linear(10, 5)


class TextCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(1000, 100)
        self.convs = nn.ModuleList([nn.Conv1d(100, 32, k) for k in (3, 4, 5)])
        self.fc = nn.Linear(96, 2)

    def forward(self, ids):
        x = self.emb(ids)
        hs = [F.relu(conv(x)).max(dim=2).values for conv in self.convs]
        return self.fc(torch.cat(hs, 1))


@twin(TextCNN, ints(8, 40), reason="")
class TextCNNT(TextCNN):
    def forward(self, ids):
        x = self.emb(ids).transpose(1, 2)
        return self.fc(torch.cat([F.relu(conv(x)).max(dim=2).values for conv in self.convs], 1))


class TextCNN2(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(1000, 50)
        self.conv = nn.Conv2d(1, 16, (3, 50))
        self.fc = nn.Linear(16, 2)

    def forward(self, ids):
        x = self.emb(ids)
        x = F.relu(self.conv(x)).squeeze(3)
        return self.fc(F.max_pool1d(x, x.size(2)).squeeze(2))


@twin(TextCNN2, ints(8, 40), reason="")
class TextCNN2T(TextCNN2):
    def forward(self, ids):
        x = self.emb(ids).unsqueeze(1)
        x = F.relu(self.conv(x)).squeeze(3)
        return self.fc(F.max_pool1d(x, x.size(2)).squeeze(2))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 48, 8, 8)
        self.cls = nn.Parameter(torch.zeros(1, 1, 48))
        self.pos = nn.Parameter(torch.zeros(1, 16, 48))
        self.enc = nn.TransformerEncoderLayer(48, 4, 96, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.size(0), -1, -1), x], 1)
        x = x + self.pos
        return self.head(self.enc(x)[:, 0])


@twin(ViT, (2, 3, 32, 32), reason="17")
class ViTT(ViT):
    def __init__(self):
        super().__init__()
        self.pos = nn.Parameter(torch.zeros(1, 17, 48))


class Res(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o)
        self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)

    def forward(self, x):
        y = F.relu(self.b1(self.c1(x)))
        y = self.b2(self.c2(y))
        y += x
        return F.relu(y)


class ResNet(nn.Module):
    block = Res

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.l1, self.l2 = self.block(16, 16, 1), self.block(16, 32, 2)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = self.l2(self.l1(self.stem(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class ResT(Res):
    def __init__(self, i, o, s):
        super().__init__(i, o, s)
        self.sc = nn.Conv2d(i, o, 1, s) if s > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.b2(self.c2(F.relu(self.b1(self.c1(x))))) + self.sc(x))


@twin(ResNet, (2, 3, 32, 32), reason="stride")
class ResNetT(ResNet):
    block = ResT


class SE(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.fc = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 32), nn.Sigmoid())

    def forward(self, x):
        x = self.conv(x)
        w = self.fc(F.adaptive_avg_pool2d(x, 1))
        return x * w


@twin(SE, (2, 3, 20, 20), reason="")
class SET(SE):
    def forward(self, x):
        x = self.conv(x)
        w = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return x * w[:, :, None, None]


class ViewPerm(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).chunk(3, -1)
        q = q.view(B, T, 4, 8).transpose(1, 2)
        k = k.view(B, T, 4, 8).transpose(1, 2)
        v = v.view(B, T, 4, 8).transpose(1, 2)
        y = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v
        y = y.transpose(1, 2).view(B, T, C)
        return self.proj(y)


@twin(ViewPerm, (2, 9, 32), reason="")
class ViewPermT(ViewPerm):
    def forward(self, x):
        B, T, C = x.shape
        q, k, v = [h.view(B, T, 4, 8).transpose(1, 2) for h in self.qkv(x).chunk(3, -1)]
        return self.proj((q @ k.transpose(-2, -1)).softmax(-1).matmul(v).transpose(1, 2).reshape(B, T, C))


class PE(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(100, 32)
        pe = torch.zeros(500, 1, 32)
        self.register_buffer("pe", pe)
        self.fc = nn.Linear(32, 4)

    def forward(self, ids):
        x = self.emb(ids)
        x = x + self.pe[: x.size(1)]
        return self.fc(x.mean(1))


@twin(PE, ints(4, 25), reason="")
class PET(PE):
    def forward(self, ids):
        x = self.emb(ids)
        return self.fc((x + self.pe[: x.size(1)].transpose(0, 1)).mean(1))


class Dec(nn.Module):
    def __init__(self):
        super().__init__()
        self.tr = nn.Transformer(32, 4, 1, 1, 64, batch_first=True)

    def forward(self, src, tgt):
        mask = nn.Transformer.generate_square_subsequent_mask(src.size(1))
        return self.tr(src, tgt, tgt_mask=mask)


@twin(Dec, (2, 11, 32), (2, 7, 32), reason="")
class DecT(Dec):
    def forward(self, src, tgt):
        return self.tr(src, tgt, tgt_mask=nn.Transformer.generate_square_subsequent_mask(tgt.size(1)))


class S2S(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.LSTM(8, 16, num_layers=2, batch_first=True)
        self.d = nn.LSTM(8, 16, num_layers=1, batch_first=True)
        self.o = nn.Linear(16, 30)

    def forward(self, src, tgt):
        _, state = self.e(src)
        out, _ = self.d(tgt, state)
        return self.o(out)


@twin(S2S, (4, 10, 8), (4, 6, 8), reason="2")
class S2ST(S2S):
    def __init__(self):
        super().__init__()
        self.d = nn.LSTM(8, 16, num_layers=2, batch_first=True)


class Select(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x, mask):
        x = x * mask
        return self.fc(x).sum(1)


@twin(Select, (4, 12, 8), torch.ones(4, 12), reason="")
class SelectT(Select):
    def forward(self, x, mask):
        return self.fc(x * mask.unsqueeze(-1)).sum(1)


class Vid(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv3d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, clip):
        x = F.relu(self.c(clip))
        return self.fc(x.mean((2, 3, 4)))


@twin(Vid, (2, 16, 3, 24, 24), reason="")
class VidT(Vid):
    def forward(self, clip):
        x = F.relu(self.c(clip.transpose(1, 2)))
        return self.fc(x.mean((2, 3, 4)))


class CRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d((2, 2)),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.MaxPool2d((4, 1)),
        )
        self.rnn = nn.LSTM(32, 64, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(128, 40)

    def forward(self, x):
        x = self.cnn(x)
        x, _ = self.rnn(x)
        return self.fc(x)


@twin(CRNN, (2, 1, 8, 100), reason="4 dims")
class CRNNT(CRNN):
    def forward(self, x):
        x, _ = self.rnn(self.cnn(x).squeeze(2).transpose(1, 2))
        return self.fc(x)


class AdaptHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)))
        self.fc = nn.Linear(64, 7)

    def forward(self, x):
        x = self.f(x)
        return self.fc(x)


@twin(AdaptHead, (2, 3, 50, 50), reason="flatten")
class AdaptHeadT(AdaptHead):
    def forward(self, x):
        return self.fc(self.f(x).flatten(1))


class MM(nn.Module):
    def __init__(self):
        super().__init__()
        self.img = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1))
        self.tab = nn.Linear(6, 8)
        self.out = nn.Linear(16, 2)

    def forward(self, img, tab):
        return self.out(torch.cat([self.img(img), self.tab(tab)], dim=1))


@twin(MM, (2, 3, 20, 20), (2, 6), reason="dims")
class MMT(MM):
    def forward(self, img, tab):
        return self.out(torch.cat([self.img(img).flatten(1), self.tab(tab)], dim=1))


class Diff(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.t, self.out = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(16, 32), nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x, t):
        h = self.inp(x)
        h = h + self.t(t)
        return self.out(h)


@twin(Diff, (2, 3, 16, 16), (2, 16), reason="")
class DiffT(Diff):
    def forward(self, x, t):
        return self.out(self.inp(x) + self.t(t)[:, :, None, None])


class Bmm(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, q, keys):
        scores = torch.bmm(keys, self.fc(q))
        return scores.squeeze(-1).softmax(-1)


@twin(Bmm, (4, 16), (4, 9, 16), reason="")
class BmmT(Bmm):
    def forward(self, q, keys):
        return torch.bmm(keys, self.fc(q).unsqueeze(-1)).squeeze(-1).softmax(-1)


class VGGHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *[
                m
                for i, o in ((3, 16), (16, 32), (32, 64))
                for m in (nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            ]
        )
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(64 * 28 * 28, 256), nn.ReLU(), nn.Linear(256, 100))

    def forward(self, x):
        x = self.features(x)
        x = x.reshape(x.shape[0], -1)
        return self.classifier(x)


@twin(VGGHead, (2, 3, 64, 64), reason="4096")
class VGGHeadT(VGGHead):
    def __init__(self):
        super().__init__()
        self.classifier[1] = nn.Linear(4096, 256)


class Audio(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(1, 32, 80, stride=4), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(4))
        self.fc = nn.Linear(32, 35)

    def forward(self, wav):
        x = self.conv(wav)
        return self.fc(x.mean(-1))


@twin(Audio, (4, 8000), reason="")
class AudioT(Audio):
    def forward(self, wav):
        return self.fc(self.conv(wav.unsqueeze(1)).mean(-1))


class BNSeq(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.bn, self.out = nn.Linear(12, 32), nn.BatchNorm1d(32), nn.Linear(32, 4)

    def forward(self, x):
        x = torch.relu(self.bn(self.fc(x)))
        return self.out(x)


@twin(BNSeq, (8, 20, 12), reason="")
class BNSeqT(BNSeq):
    def forward(self, x):
        x = torch.relu(self.bn(self.fc(x).transpose(1, 2)).transpose(1, 2))
        return self.out(x)


class ConvLSTMCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.hid = 16
        self.gates = nn.Conv2d(3 + 16, 4 * 16, 3, padding=1)

    def forward(self, x):
        h = c = torch.zeros(1, 16, 32, 32)
        outs = []
        for t in range(x.size(1)):
            g = self.gates(torch.cat([x[:, t], h], dim=1))
            i, f, o, n = g.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * n.tanh()
            h = o.sigmoid() * c.tanh()
            outs.append(h)
        return torch.stack(outs, 1)


@twin(ConvLSTMCell, (4, 5, 3, 32, 32), reason="")
class ConvLSTMCellT(ConvLSTMCell):
    def forward(self, x):
        h = c = torch.zeros(x.size(0), 16, 32, 32)
        outs = []
        for t in range(x.size(1)):
            i, f, o, n = self.gates(torch.cat([x[:, t], h], dim=1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * n.tanh()
            h = o.sigmoid() * c.tanh()
            outs.append(h)
        return torch.stack(outs, 1)


class AE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.dec = nn.Sequential(nn.ConvTranspose2d(16, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 3, 2, 1))

    def forward(self, x):
        y = self.dec(self.enc(x))
        return F.mse_loss(y, x), y


@twin(AE, (4, 1, 28, 28), reason="")
class AET(AE):
    def __init__(self):
        super().__init__()
        self.dec = nn.Sequential(nn.ConvTranspose2d(16, 8, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 3, 2, 1, 1))


class QKV(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_qkv = nn.Linear(64, 192)
        self.out = nn.Linear(64, 64)
        self.h = 8

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = (t.reshape(b, n, self.h, -1).transpose(1, 2) for t in (q, k, v))
        dots = torch.matmul(q, k) / 8**0.5
        out = torch.matmul(dots.softmax(-1), v)
        return self.out(out.transpose(1, 2).reshape(b, n, -1))


@twin(QKV, (2, 17, 64), reason="transposed")
class QKVT(QKV):
    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = (t.reshape(b, n, self.h, -1).transpose(1, 2) for t in self.to_qkv(x).chunk(3, dim=-1))
        out = torch.matmul((torch.matmul(q, k.transpose(-2, -1)) / 8**0.5).softmax(-1), v)
        return self.out(out.transpose(1, 2).reshape(b, n, -1))


class DecLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.enc, self.cell, self.out = (
            nn.Embedding(50, 16),
            nn.LSTM(16, 24, batch_first=True),
            nn.LSTMCell(16, 24),
            nn.Linear(24, 50),
        )

    def forward(self, src, tgt):
        _, (h, c) = self.enc(self.emb(src))
        e = self.emb(tgt)
        outs = []
        for t in range(e.size(1)):
            h, c = self.cell(e[:, t], (h, c))
            outs.append(self.out(h))
        return torch.stack(outs, 1)


@twin(DecLoop, ints(4, 9), ints(4, 6), reason="")
class DecLoopT(DecLoop):
    def forward(self, src, tgt):
        _, (h, c) = self.enc(self.emb(src))
        h, c = h[-1], c[-1]
        e = self.emb(tgt)
        outs = []
        for t in range(e.size(1)):
            h, c = self.cell(e[:, t], (h, c))
            outs.append(self.out(h))
        return torch.stack(outs, 1)


class RnnTuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.fc = nn.GRU(10, 20, batch_first=True), nn.Linear(20, 2)

    def forward(self, x):
        x = self.gru(x)
        return self.fc(x)


@twin(RnnTuple, (4, 7, 10), reason="")
class RnnTupleT(RnnTuple):
    def forward(self, x):
        return self.fc(self.gru(x)[0])


class MultiInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 16), nn.Linear(6, 16)
        self.out = nn.Linear(32, 3)

    def forward(self, a, b):
        h = self.a(a) + self.b(b)
        return self.out(h)


@twin(MultiInput, (4, 10), (4, 6), reason="16")
class MultiInputT(MultiInput):
    def forward(self, a, b):
        return self.out(torch.cat([self.a(a), self.b(b)], 1))


class ConvGroups(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 30, 3), nn.Conv2d(32, 64, 3, groups=4)
        self.fc = nn.Linear(64, 2)

    def forward(self, x):
        x = self.c2(self.c1(x))
        return self.fc(x.mean((2, 3)))


@twin(ConvGroups, (2, 3, 12, 12), reason="30")
class ConvGroupsT(ConvGroups):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 32, 3)


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(9, 1)

    def forward(self, x, y):
        return F.cross_entropy(self.fc(x).squeeze(1), y)


@twin(Smooth, (16, 9), ints(16), reason="")
class SmoothT(Smooth):
    def forward(self, x, y):
        return F.binary_cross_entropy_with_logits(self.fc(x).squeeze(1), y.float())


class Yolo(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 32, 3, 2, 1)
        self.head = nn.Conv2d(32, 3 * 25, 1)

    def forward(self, x):
        p = self.head(self.c(x))
        b, _, h, w = p.shape
        return p.view(b, 3, 85, h, w).permute(0, 1, 3, 4, 2)


@twin(Yolo, (2, 3, 32, 32), reason="")
class YoloT(Yolo):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(32, 255, 1)


class Vit2(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 64, 16, 16)
        self.cls = nn.Parameter(torch.zeros(1, 1, 64))
        self.pos = nn.Parameter(torch.zeros(1, 197, 64))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls, x), dim=1)
        return self.head((x + self.pos)[:, 0])


@twin(Vit2, (4, 3, 224, 224), reason="")
class Vit2T(Vit2):
    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.size(0), -1, -1), x), dim=1)
        return self.head((x + self.pos)[:, 0])


class Patch(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(3 * 16 * 16, 64)

    def forward(self, x):
        b, c, h, w = x.shape
        x = x.view(b, c, h // 16, 16, w // 16, 16).permute(0, 2, 4, 1, 3, 5)
        x = x.view(b, -1, c * 256)
        return self.proj(x)


@twin(Patch, (2, 3, 64, 64), reason="reshape")
class PatchT(Patch):
    def forward(self, x):
        b, c, h, w = x.shape
        x = x.view(b, c, h // 16, 16, w // 16, 16).permute(0, 2, 4, 1, 3, 5)
        return self.proj(x.reshape(b, -1, c * 256))


class Film(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.f = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(10, 64)

    def forward(self, x, z):
        x = self.c(x)
        gamma, beta = self.f(z).chunk(2, dim=1)
        return gamma * x + beta


@twin(Film, (4, 3, 16, 16), (4, 10), reason="")
class FilmT(Film):
    def forward(self, x, z):
        x = self.c(x)
        gamma, beta = self.f(z)[:, :, None, None].chunk(2, dim=1)
        return gamma * x + beta


class Pool1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        out, _ = self.lstm(x)
        out = F.max_pool1d(out, out.size(1)).squeeze(-1)
        return self.fc(out)


@twin(Pool1d, (4, 30, 8), reason="")
class Pool1dT(Pool1d):
    def forward(self, x):
        out, _ = self.lstm(x)
        out = out.transpose(1, 2)
        return self.fc(F.max_pool1d(out, out.size(2)).squeeze(-1))


class GraphPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.l, self.o = nn.Linear(7, 16), nn.Linear(16, 2)

    def forward(self, x, batch):
        h = self.l(x)
        out = h.new_zeros(4, 16).index_add(0, batch, h)
        return self.o(out)


@twin(GraphPool, (30, 7), torch.zeros(30), reason="int")
class GraphPoolT(GraphPool):
    def forward(self, x, batch):
        return self.o(torch.zeros(4, 16).index_add(0, batch.long(), self.l(x)))


class EmbOneHot(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 8)
        self.rnn = nn.GRU(8, 8, batch_first=True)

    def forward(self, x):
        x = self.emb(x)
        y, _ = self.rnn(x)
        return y[:, -1]


@twin(EmbOneHot, ints(4, 6, 1), reason="")
class EmbOneHotT(EmbOneHot):
    def forward(self, x):
        y, _ = self.rnn(self.emb(x.squeeze(2)))
        return y[:, -1]


class Enc2Dec(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.LSTM(8, 32, batch_first=True, bidirectional=True)
        self.dec = nn.LSTM(8, 32, batch_first=True)
        self.o = nn.Linear(32, 9)

    def forward(self, s, t):
        _, (h, c) = self.enc(s)
        y, _ = self.dec(t, (h, c))
        return self.o(y)


@twin(Enc2Dec, (4, 10, 8), (4, 5, 8), reason="2")
class Enc2DecT(Enc2Dec):
    def forward(self, s, t):
        _, (h, c) = self.enc(s)
        y, _ = self.dec(t, (h.sum(0, keepdim=True), c.sum(0, keepdim=True)))
        return self.o(y)


class TrPad(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(100, 32)
        self.tr = nn.Transformer(32, 4, 1, 1, 64)
        self.o = nn.Linear(32, 100)

    def forward(self, src, tgt):
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1))
        y = self.tr(self.emb(src), self.emb(tgt), tgt_mask=mask)
        return self.o(y)


@twin(TrPad, ints(4, 12), ints(4, 7), reason="batch_first")
class TrPadT(TrPad):
    def __init__(self):
        super().__init__()
        self.tr = nn.Transformer(32, 4, 1, 1, 64, batch_first=True)


class MhaWidth(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(20, 48)
        self.att = nn.MultiheadAttention(64, 4, batch_first=True)
        self.o = nn.Linear(64, 3)

    def forward(self, x):
        x = self.inp(x)
        y, _ = self.att(x, x, x)
        return self.o(y.mean(1))


@twin(MhaWidth, (4, 9, 20), reason="48")
class MhaWidthT(MhaWidth):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(20, 64)


class LayerNormConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.n, self.h = nn.Conv2d(3, 24, 3, padding=1), nn.LayerNorm(24), nn.Linear(24, 4)

    def forward(self, x):
        x = self.n(self.c(x))
        return self.h(x.mean((2, 3)))


@twin(LayerNormConv, (2, 3, 10, 10), reason="")
class LayerNormConvT(LayerNormConv):
    def forward(self, x):
        x = self.n(self.c(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.h(x.mean((2, 3)))


class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(32, 64), nn.Linear(32, 32), nn.Linear(32, 8)])

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


@twin(Stacked, (4, 32), reason="64")
class StackedT(Stacked):
    def __init__(self):
        super().__init__()
        self.layers[1] = nn.Linear(64, 32)


class Unet3(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.d2 = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3)
        self.up, self.u = nn.ConvTranspose2d(32, 16, 2, 2), nn.Conv2d(32, 16, 3)
        self.o = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        a = F.relu(self.d1(x))
        b = F.relu(self.d2(F.max_pool2d(a, 2)))
        c = torch.cat([a, self.up(b)], dim=1)
        return self.o(self.u(c))


@twin(Unet3, (1, 1, 66, 66), reason="")
class Unet3T(Unet3):
    def forward(self, x):
        a = F.relu(self.d1(x))
        b = F.relu(self.d2(F.max_pool2d(a, 2)))
        u = self.up(b)
        m = (a.size(2) - u.size(2)) // 2
        return self.o(self.u(torch.cat([a[:, :, m : m + u.size(2), m : m + u.size(3)], u], dim=1)))


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.register_buffer("tril", torch.tril(torch.ones(64, 64)))

    def forward(self, x):
        w = self.q(x) @ self.k(x).transpose(-2, -1)
        w = w.masked_fill(self.tril == 0, float("-inf"))
        return w.softmax(-1) @ self.v(x)


@twin(Causal, (2, 10, 16), reason="64")
class CausalT(Causal):
    def forward(self, x):
        T = x.size(1)
        w = (self.q(x) @ self.k(x).transpose(-2, -1)).masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return w.softmax(-1) @ self.v(x)


class Resid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        y = x + self.conv(x)
        return self.fc(y.mean((2, 3)))


@twin(Resid, (2, 16, 20, 20), reason="")
class ResidT(Resid):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)


class DQNV(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU()
        )
        self.fc = nn.Linear(3136, 6)

    def forward(self, frames):
        x = self.conv(frames / 255.0)
        return self.fc(x.flatten(1))


@twin(DQNV, (2, 84, 84, 4), reason="channels")
class DQNVT(DQNV):
    def forward(self, frames):
        return self.fc(self.conv(frames.permute(0, 3, 1, 2) / 255.0).flatten(1))


class StateMean(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.EmbeddingBag(100, 16)
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        return self.fc(self.emb(x))


@twin(StateMean, torch.zeros(4, 9), reason="")
class StateMeanT(StateMean):
    def forward(self, x):
        return self.fc(self.emb(x.long()))


class Tabular(nn.Module):
    def __init__(self):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(10, 4), nn.Embedding(7, 3), nn.Embedding(5, 2)])
        self.net = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, cat, num):
        e = torch.cat([emb(cat[:, i]) for i, emb in enumerate(self.embs)], 1)
        return self.net(torch.cat([e, num], 1))


@twin(Tabular, ints(6, 3), (6, 5), reason="14")
class TabularT(Tabular):
    def __init__(self):
        super().__init__()
        self.net[0] = nn.Linear(14, 32)


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(x)


@twin(Half, torch.zeros(3, 8, dtype=torch.float64), reason="float64")
class HalfT(Half):
    def forward(self, x):
        return self.fc(x.float())


class ListOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 4)
        self.o = nn.Linear(8, 2)

    def forward(self, x):
        h = [self.a(x), self.b(x)]
        return self.o(h)


@twin(ListOut, (3, 8), reason="list")
class ListOutT(ListOut):
    def forward(self, x):
        return self.o(torch.cat([self.a(x), self.b(x)], 1))


class Sched(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("ab", torch.rand(1000))

    def forward(self, x, t):
        a = self.ab[t]
        x = a.sqrt() * x + (1 - a).sqrt() * torch.randn_like(x)
        return self.c(x)


@twin(Sched, (4, 3, 16, 16), ints(4), reason="")
class SchedT(Sched):
    def forward(self, x, t):
        a = self.ab[t][:, None, None, None]
        return self.c(a.sqrt() * x + (1 - a).sqrt() * torch.randn_like(x))


class Whisperish(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv1d(80, 32, 3, padding=1), nn.Conv1d(32, 32, 3, 2, 1)
        self.pos = nn.Embedding(150, 32)

    def forward(self, mel):
        x = self.c2(self.c1(mel)).transpose(1, 2)
        return x + self.pos.weight


@twin(Whisperish, (2, 80, 200), reason="")
class WhisperishT(Whisperish):
    def forward(self, mel):
        x = self.c2(self.c1(mel)).transpose(1, 2)
        return x + self.pos.weight[: x.size(1)]

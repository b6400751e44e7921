"""Failures of several kinds, each with its repaired twin: states, losses, lists, devices, what a model keeps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from tests.diagnosis.twins import ints, twin


class LstmAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.LSTM(5, 12, batch_first=True)
        self.dec = nn.LSTM(12, 5, batch_first=True)

    def forward(self, x):
        _, (h, _) = self.enc(x)
        out, _ = self.dec(h)
        return F.mse_loss(out, x)


@twin(LstmAE, (4, 7, 5), reason="is to be repeated over the 7 steps")
class LstmAET(LstmAE):
    def forward(self, x):
        _, (h, _) = self.enc(x)
        out, _ = self.dec(h[-1].unsqueeze(1).repeat(1, x.size(1), 1))
        return F.mse_loss(out, x)


class LstmAE2(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.LSTM(5, 12, batch_first=True)
        self.dec = nn.LSTM(12, 12, batch_first=True)
        self.out = nn.Linear(12, 5)

    def forward(self, x):
        _, (h, _) = self.enc(x)
        z = h[-1]
        y, _ = self.dec(z.repeat(1, x.size(1), 1))
        return self.out(y) - x


@twin(LstmAE2, (4, 7, 5), reason="puts a dim in front and repeats the batch")
class LstmAE2T(LstmAE2):
    def forward(self, x):
        _, (h, _) = self.enc(x)
        y, _ = self.dec(h[-1].unsqueeze(1).repeat(1, x.size(1), 1))
        return self.out(y) - x


class LstmAE3(nn.Module):
    def __init__(self, n_features=3, hidden=8):
        super().__init__()
        self.encoder = nn.GRU(n_features, hidden, batch_first=True)
        self.decoder = nn.GRU(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, n_features)

    def forward(self, x):
        _b, t, _f = x.shape
        _, h = self.encoder(x)
        h = h.repeat(1, t, 1)
        y, _ = self.decoder(h)
        return self.out(y) - x


@twin(LstmAE3, (4, 7, 3), reason="layers first: repeat(1, 7, 1)")
class LstmAE3T(LstmAE3):
    def forward(self, x):
        _b, t, _f = x.shape
        _, h = self.encoder(x)
        y, _ = self.decoder(h[-1].unsqueeze(1).repeat(1, t, 1))
        return self.out(y) - x


class SegHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(24, 5)

    def forward(self, x, y):
        return F.cross_entropy(self.head(self.body(x)), y)


@twin(SegHead, (2, 3, 16, 20), ints(2, 16, 20), reason="applied to each pixel")
class SegHeadT(SegHead):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(24, 5, 1)


class SegHead2(nn.Module):
    def __init__(self, n_classes=5):
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, 2, 1)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.classifier = nn.Linear(8, n_classes)

    def forward(self, x):
        x = F.relu(self.down(x))
        x = F.relu(self.up(x))
        return self.classifier(x)


@twin(SegHead2, (2, 3, 16, 20), reason="applied to each pixel")
class SegHead2T(SegHead2):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Conv2d(8, 5, 1)


class StackUnequal(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 6)

    def forward(self, a, b, c):
        x = torch.stack([a, b, c])
        return self.fc(x)


@twin(StackUnequal, (5, 4), (3, 4), (7, 4), reason="pad_sequence pads")
class StackUnequalT(StackUnequal):
    def forward(self, a, b, c):
        return self.fc(nn.utils.rnn.pad_sequence([a, b, c], batch_first=True))


class ListOfCrops(nn.Module):
    """Multi-crop: the crops are of two sizes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, a, b):
        crops = [a, b]
        return self.body(torch.cat(crops))


@twin(ListOfCrops, (4, 3, 32, 32), (4, 3, 16, 16), reason="these are 32 × 32 and 16 × 16")
class ListOfCropsT(ListOfCrops):
    def forward(self, a, b):
        crops = [a, b]
        return torch.cat([self.body(c) for c in crops])


class KLlabels(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Linear(8, 5)
        self.loss = nn.KLDivLoss(reduction="batchmean")

    def forward(self, x, y):
        return self.loss(F.log_softmax(self.s(x), 1), y)


@twin(KLlabels, (4, 8), ints(4), reason="the labels [4] are classes")
class KLlabelsT(KLlabels):
    def forward(self, x, y):
        return self.loss(F.log_softmax(self.s(x), 1), F.one_hot(y, 5).float())


class CTC(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 5)
        self.loss = nn.CTCLoss()

    def forward(self, x, y):
        h, _ = self.rnn(x)
        logp = F.log_softmax(self.fc(h), -1)
        return self.loss(logp, y, torch.full((x.size(0),), x.size(1)), torch.full((x.size(0),), y.size(1)))


class CTClens(CTC):
    def forward(self, x, y):
        h, _ = self.rnn(x)
        logp = F.log_softmax(self.fc(h), -1).transpose(0, 1)
        return self.loss(logp, y, torch.full((logp.size(0),), logp.size(1)), torch.full((x.size(0),), y.size(1)))


@twin(CTC, (4, 20, 6), torch.ones(4, 3, dtype=torch.long), reason="steps")
class CTCT(CTC):
    def forward(self, x, y):
        h, _ = self.rnn(x)
        logp = F.log_softmax(self.fc(h), -1).transpose(0, 1)
        return self.loss(logp, y, torch.full((x.size(0),), x.size(1)), torch.full((x.size(0),), y.size(1)))


@twin(CTClens, (4, 20, 6), torch.ones(4, 3, dtype=torch.long), reason="20 input lengths for 4 samples")
class CTClensT(CTCT):
    pass


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(6, 16)
        self.loss = nn.CosineEmbeddingLoss()

    def forward(self, x, y, label):
        return self.loss(self.a(x), self.b(y), label)


class CosineWidth(Cosine):
    def __init__(self):
        super().__init__()
        self.b = nn.Linear(6, 12)


@twin(CosineWidth, (4, 8), (4, 6), (4,), reason="[4, 16] against [4, 12]")
class CosineWidthT(Cosine):
    pass


class BCEtwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 2)
        self.loss = nn.BCEWithLogitsLoss()

    def forward(self, x, y):
        return self.loss(self.fc(x), y)


@twin(BCEtwo, (16, 8), (16,), reason="[16, 2] against [16]")
class BCEtwoT(BCEtwo):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 1)

    def forward(self, x, y):
        return self.loss(self.fc(x).squeeze(1), y)


class BCEclasses(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 5)
        self.loss = nn.BCEWithLogitsLoss()

    def forward(self, x, y):
        return self.loss(self.fc(x), y)


@twin(BCEclasses, (16, 8), ints(16), reason="as a one-hot vector")
class BCEclassesT(BCEclasses):
    def forward(self, x, y):
        return self.loss(self.fc(x), F.one_hot(y, 5).float())


class GNLL(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu, self.var = nn.Linear(8, 3), nn.Linear(8, 1)
        self.loss = nn.GaussianNLLLoss()

    def forward(self, x, y):
        return self.loss(self.mu(x), y, self.var(x).exp())


@twin(GNLL, (16, 8), (16,), reason="[16, 3] against [16]")
class GNLLT(GNLL):
    def __init__(self):
        super().__init__()
        self.mu = nn.Linear(8, 1)

    def forward(self, x, y):
        return self.loss(self.mu(x).squeeze(1), y, self.var(x).exp().squeeze(1))


class CudaDevice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        h = torch.zeros(x.size(0), 4, device="cuda")
        return self.fc(x + h)


@twin(CudaDevice, (2, 4), reason="on CUDA")
class CudaDeviceT(CudaDevice):
    def forward(self, x):
        return self.fc(x)


class Stateful(nn.Module):
    """The state is kept from the batch before, which was larger."""

    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)
        self.hidden = (torch.zeros(1, 32, 8), torch.zeros(1, 32, 8))

    def forward(self, x):
        out, self.hidden = self.rnn(x, self.hidden)
        return self.fc(out[:, -1])


@twin(Stateful, (20, 7, 4), reason="kept from a batch of 32")
class StatefulT(Stateful):
    def forward(self, x):
        out, self.hidden = self.rnn(x)
        return self.fc(out[:, -1])


class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)
        self.cache = torch.zeros(4, 5, 8)

    def forward(self, x):
        k = torch.cat([self.cache, self.k(x)], 1)
        self.cache = k
        return self.q(x) @ k.transpose(1, 2)


@twin(Cached, (2, 5, 8), reason="'cache' is [4, 5, 8]: it was kept from a batch of 4")
class CachedT(Cached):
    def forward(self, x):
        k = torch.cat([self.cache[: x.size(0)], self.k(x)], 1)
        return self.q(x) @ k.transpose(1, 2)

"""Masks that hide what they are for, and losses of words that were not read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.inputs.size import Size
from tests.corpus import clean
from tests.corpus.made import Heads, WordHeads, numbers
from tests.corpus.mask_bugs import Encoder, Words


@clean("inverted-mask", [numbers(4, 17), numbers(4)])
class HidesThePadding(Encoder):
    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        one, other = tokens == 0, torch.arange(tokens.size(1))[None] >= lengths[:, None]
        mask = one | other
        h = self.layer(self.words(tokens), src_key_padding_mask=mask).masked_fill(mask.unsqueeze(-1), 0.0)
        return self.head(h.sum(1) / (~mask).sum(1, keepdim=True))


@clean("inverted-mask", (2, 18, 64), (2, 18))
class KeepsThePastInFourWays(Heads):
    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        at, scores = torch.arange(x.size(1)), q @ k.mT / 4
        lower = torch.tril(torch.ones(x.size(1), x.size(1)))
        old = (torch.triu(torch.ones(x.size(1), x.size(1))) == 1).transpose(0, 1)
        low = old.float().masked_fill(old == 0, float("-inf")).masked_fill(old == 1, 0.0)
        one = self.join(scores.masked_fill(lower == 0, float("-inf")), v) + self.join(scores + low, v)
        other = self.join(torch.where(at[:, None] >= at[None], scores, -1e9), v)
        return one + other + self.join(scores + (1 - kept[:, None, None]) * -1e4 + (lower - 1) * 1e4, v)


@clean("inverted-mask", numbers(2, 18))
class TrueIsKept(WordHeads):
    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.cut(self.words(tokens))
        steps = tokens.size(1)
        mask = tokens.ne(0)[:, None, None] & torch.ones(steps, steps, dtype=torch.bool).tril()
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


@clean("inverted-mask", [(2, 18, 64), Size("2 18", dtype="bool")])
class MaskedAnew(Heads):
    """Scores of 0, then weights that are set to 0 and made to sum to one."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        weights = torch.softmax(q @ k.mT * mask[:, None, None], -1) * mask[:, None, None]
        return self.out(((weights / weights.sum(-1, keepdim=True)) @ v).transpose(1, 2).flatten(2))


@clean("inverted-mask", (2, 18, 64))
class WithoutASoftmax(Heads):
    """Linear attention: scores of 0 weigh nothing."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        scores = torch.tril(F.elu(q) @ F.elu(k).mT)
        return self.out((scores / scores.sum(-1, keepdim=True) @ v).transpose(1, 2).flatten(2))


@clean("inverted-mask", numbers(4, 19))
class MeanOfTheWords(Words):
    def forward(self, tokens: Tensor) -> Tensor:
        mask = (tokens != 0).unsqueeze(-1).float()
        return self.head((self.words(tokens) * mask).mean(1) / mask.mean(1))


@clean("seen-target", numbers(4, 16))
class AsksForTheNext(Encoder):
    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.size(1) - 1)
        logits = self.head(self.layer(self.words(tokens[:, :-1]), src_mask=mask, is_causal=True))
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@clean("seen-target", numbers(4, 16))
class AsksForMaskedWords(Encoder):
    def forward(self, tokens: Tensor) -> Tensor:
        hidden = torch.rand(tokens.shape) < 0.15
        logits = self.head(self.layer(self.words(tokens.masked_fill(hidden, 3))))
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


@clean("seen-target", numbers(4, 16))
class Autoencoder(nn.Module):
    """The steps go through one state."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 12)
        self.encoder, self.decoder = (nn.GRU(12, 12, batch_first=True) for _ in range(2))
        self.head = nn.Linear(12, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        _, state = self.encoder(self.words(tokens))
        out, _ = self.decoder(state[0].unsqueeze(1).expand(-1, tokens.size(1), -1))
        return F.cross_entropy(self.head(out).flatten(0, 1), tokens.flatten())

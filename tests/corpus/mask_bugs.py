"""Masks that hide what they were made to keep, or nothing; losses that ask for what was read."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.inputs.size import Size
from tests.corpus import bug
from tests.corpus.made import Heads, Made, WordHeads, numbers


class Encoder(Made):
    """Words, and one layer of a transformer."""

    def make(self) -> dict[str, Any]:
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        return {"words": nn.Embedding(50, 32, padding_idx=0), "layer": layer, "head": nn.Linear(32, 50)}


class Words(Made):
    """Words alone."""

    def make(self) -> dict[str, Any]:
        return {"words": nn.Embedding(50, 32, padding_idx=0), "head": nn.Linear(32, 3)}


@bug("inverted-mask", ("layer", "TransformerEncoderLayer"), numbers(4, 17))
class HidesTheWords(Encoder):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.words(tokens), src_key_padding_mask=tokens != 0)[:, 0])


@bug("inverted-mask", ("layer", "TransformerEncoderLayer"), [numbers(4, 17), numbers(4)])
class HidesWhatIsWithinTheLength(Encoder):
    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = torch.arange(tokens.size(1))[None] < lengths[:, None]
        return self.head(self.layer(self.words(tokens), src_key_padding_mask=mask)[:, 0])


@bug("inverted-mask", ("layer", "TransformerEncoderLayer"), numbers(4, 17))
class HidesThePast(Encoder):
    def forward(self, tokens: Tensor) -> Tensor:
        steps = tokens.size(1)
        return self.head(self.layer(self.words(tokens), src_mask=torch.ones(steps, steps).tril().bool()))


@bug("inverted-mask", ("", "scaled_dot_product_attention"), numbers(2, 18))
class KeepsThePadding(WordHeads):
    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.cut(self.words(tokens))
        mask = tokens.eq(0).view(tokens.size(0), 1, 1, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


@bug("inverted-mask", ("", "masked_fill"), (2, 18, 64))
class KeepsTheFuture(Heads):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        mask = torch.triu(torch.ones(x.size(1), x.size(1)), diagonal=1)
        return self.join((q @ k.mT / 4).masked_fill(mask == 0, -1e9), v)


@bug("inverted-mask", ("", "add"), (2, 18, 64))
class HidesItself(Heads):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        return self.join(q @ k.mT / 4 + torch.triu(torch.full((x.size(1), x.size(1)), float("-inf"))), v)


@bug("inverted-mask", ("", "mul"), [(2, 18, 64), Size("2 18", dtype="bool")])
class ScoresTimesTheMask(Heads):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        return self.join(q @ k.mT / 4 * mask[:, None, None], v)


@bug("inverted-mask", ("", "where"), (2, 18, 64))
class PutsTheLowNumberOnThePast(Heads):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        mask = torch.ones(x.size(1), x.size(1), dtype=torch.bool).tril()
        return self.join(torch.where(mask, torch.tensor(-1e9), q @ k.mT / 4), v)


@bug("inverted-mask", ("", "tril"), (2, 18, 64))
class ScoresOfZero(Heads):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        return self.join(torch.tril(q @ k.mT / 4), v)


@bug("inverted-mask", ("", "mul"), (2, 18, 64))
class MaskedTooLate(Heads):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.cut(x)
        weights = torch.softmax(q @ k.mT / 4, -1) * torch.tril(torch.ones(x.size(1), x.size(1)))
        return self.out((weights @ v).transpose(1, 2).flatten(2))


@bug("inverted-mask", ("", "add"), numbers(2, 18))
class OnesAreAdded(WordHeads):
    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.cut(self.words(tokens))
        return self.join(q @ k.mT / 4 + (tokens != 0).float()[:, None, None], v)


@bug("inverted-mask", ("", "mean"), numbers(4, 19))
class MeanWithThePadding(Words):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.head((self.words(tokens) * (tokens != 0).unsqueeze(-1)).mean(1))


@bug("seen-target", ("", "cross_entropy"), numbers(4, 16))
class AsksForWhatItReads(Encoder):
    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.size(1))
        logits = self.head(self.layer(self.words(tokens), src_mask=mask, is_causal=True))
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

"""What is said of each kind of finding about axes: its rule, how grave it is, what it shows, and what to write."""

from __future__ import annotations

from typing import NamedTuple

from modelsummary_ipy.records.op_events import AxisFindingKind
from modelsummary_ipy.records.trace import Severity


class Wording(NamedTuple):
    """What is said of a finding: ``{0}`` and ``{1}`` are its axes, ``{what}`` the shape that went in."""

    rule: str
    severity: Severity
    message: str
    fix: str = ""


WORDINGS: dict[AxisFindingKind, Wording] = {
    "softmax": Wording(
        "attention-axis", "warning", "the weights {what} sum to 1 along {0}, but the product with them sums over {1}",
        "softmax over the last dim of the scores, the one that the values are multiplied along",
    ),
    "weighed": Wording(
        "attention-axis", "warning", "the weights in {what} sum to 1 along {0}, but what they weigh is summed over {1}",
        "softmax over the dim that is summed",
    ),
    "chosen": Wording(
        "attention-axis", "note", "the weights {what} sum to 1 along {0}, and a product with them sums over {1}: "
        "each step chooses among the features, not each feature among the steps",
    ),
    "unscaled": Wording(
        "attention-axis", "note", "nothing scales the scores {what} of the heads before their softmax",
        "q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
    ),
    "heads": Wording(
        "attention-axis", "warning",
        "attention on {what} runs over dim -2, which is {0}: heads attend to each other, not positions",
        "transpose(1, 2) queries, keys and values first, to (B, heads, T, d), and back after",
    ),
    "ones": Wording(
        "attention-axis", "warning",
        "{op} of {all} sums the weights over {0}, along which they sum to 1: what is weighed is multiplied with 1",
        "the dim that is summed in both, 'bhij,bhjd->bhid': the places of the values",
    ),
    "mask": Wording(
        "attention-axis", "warning",
        "the mask of {what} is the same along {0}, the axis of the softmax: it hides all or nothing",
        "unsqueeze the mask so that its last dim lies on the keys: mask[:, None, :]",
    ),
    "cancelled": Wording(
        "wrong-axis", "warning",
        "a term of {op} of {all} is the same along {0}, and the softmax or norm along that takes it out again",
        "add it behind the norm, or keep the dim along which the scores of a softmax differ",
    ),
    "scaled": Wording(
        "wrong-axis", "warning",
        "a factor of {op} of {all} is the same along {0}, and what is divided by its length along that loses it again",
        "scale behind the norm, or sum the squares along the dim of the factor too",
    ),
    "passed": Wording(
        "wrong-axis", "warning",
        "{op} of {what} reduces {0}, along which the scores of the step before are the same: no state reaches another",
        "the dim of the states before: logsumexp(alpha[:, :, None] + transitions, dim=1)",
    ),
    "unturned": Wording(
        "attention-axis", "warning",
        "{op} of {all}: sines and cosines of positions turn only one of queries and keys",
        "the same rotation for queries and keys, and none for values",
    ),
    "other": Wording(
        "wrong-axis", "warning", "{op} of {what} divides numbers that count {0} by the length of {1}",
        "each side by its own: ys / (h - 1), xs / (w - 1)",
    ),
    "overall": Wording(
        "batch-mixed", "warning", "{op} of {what} is one length of all {batch} samples, and is compared with a number",
        "x.flatten(1).norm(2, dim=1): a length of each sample",
    ),
    "neighbours": Wording(
        "wrong-axis", "warning", "{op} of {all} is of each and the next of {0}: those have no order, the positions do",
        "x[:, 1:] - x[:, :-1] of (B, T, C): the dim of the steps",
    ),
    "product": Wording(
        "wrong-axis", "warning", "{op} of {what} adds up the logarithms of shares along {0}, and all that each has: "
        "a product of the parts of a mixture", "logsumexp along the parts, sum along what each part is a density of",
    ),
    "rooted": Wording(
        "wrong-axis", "warning", "{op} of the square of a mean over {0}: the squares were to be averaged",
        "x.pow(2).mean(-1, keepdim=True)",
    ),
    "loss": Wording(
        "wrong-axis", "warning", "{op} of {what} makes chances that sum to 1 along {0}; the loss reads {1} as classes",
        "dim=1, the classes",
    ),
    "single": Wording(
        "wrong-axis", "warning", "a softmax of {what} over a dim of size 1 gives 1 everywhere",
        "sigmoid() for one class, or a softmax over another dim",
    ),
    "table": Wording(
        "batch-mixed", "warning", "a table is cut to {batch} rows, the size of the batch: a sample is taken for a step",
        "cut it to the length: table[:x.size(1)]",
    ),
    "numbered": Wording(
        "batch-mixed", "warning", "{op} of positions that are counted along {0}: each of the {batch} samples is a step",
        "torch.arange(x.size(1))",
    ),
    "along": Wording(
        "batch-mixed", "warning", "{op} of {what} runs along {0} and mixes the {batch} samples of the batch",
        "another dim stays within a sample",
    ),
    "weighted": Wording(
        "batch-mixed", "note", "{op} of {what} makes the {batch} samples sum to 1, over {0}",
        "another dim stays within a sample",
    ),
    "spread": Wording(
        "batch-mixed", "warning", "{op} of {what} runs along {0} and mixes the {batch} samples of the batch",
        "dim=-1 runs over the classes",
    ),
    "shifted": Wording(
        "wrong-axis", "warning", "{op} of {what} moves {0}, each to the place of another: those are no positions",
        "F.pad(x, (0, 0, 1, -1)) shifts the last dim but one; roll(…, dims=(2, 3)) rows and columns of (B, C, H, W)",
    ),
    "grid": Wording(
        "wrong-axis", "warning", "{op} reads each place of the grid {other} as (x, y), and it was made as (y, x)",
        "torch.stack([xs, ys], dim=-1), or grid.flip(-1)",
    ),
    "first": Wording(
        "wrong-axis", "warning", "{op} along dim {1} of {what} reads the first of {0} alone: the index {other} has 1 "
        "entry there", "gather(-1, …) looks up along the last dim; expand the index to read all of them",
    ),
    "mosaic": Wording(
        "wrong-axis", "warning", "{op} of {what} puts {0} before {1}: small maps side by side, not a large one",
        "permute so that each part stands behind its side: (B, C, H, r, W, r)",
    ),
    "running": Wording(
        "wrong-axis", "warning", "{op} of {what} runs along {0}: those have no order, and the steps are another dim",
        "the dim of the steps: 2 of (B, heads, T, d)",
    ),
    "ends": Wording(
        "wrong-axis", "warning", "{op} of {what} takes the first of {0}; what is behind as many is taken of {1}",
        "x[..., :4] and x[..., 4]: both of the last dim",
    ),
    "fields": Wording(
        "wrong-axis", "warning", "{op} of {what} makes the products of all pairs of {0}, those of one vector",
        "v.sum(1) ** 2 - (v ** 2).sum(1): pairs of vectors",
    ),
    "length": Wording(
        "wrong-axis", "warning", "{op} of {what} scales vectors along {0}, and their lengths are read along {1}",
        "one dim for both: the entries of a vector",
    ),
    "crossed": Wording(
        "batch-mixed", "warning", "{op} of {all} looks along {0}, and the index has its samples on another dim",
        "samples on their own dim: x[torch.arange(len(x)), index], x.gather(1, index[:, None])",
    ),
    "reduced": Wording(
        "batch-mixed", "warning", "{op} of {what} reduces {0}: each of the {batch} samples then depends on the others",
        "keep to the dims of a sample, or nn.BatchNorm for statistics of a batch",
    ),
    "laid": Wording(
        "batch-mixed", "note", "{op} of {what} reduces {0}, and is laid on each of the {batch} samples again",
        "keep to the dims of a sample, or nn.BatchNorm for statistics of a batch",
    ),
    "row": Wording(
        "wrong-axis", "warning",
        "{op} of {what} takes one row of a table, number {0}, which lies behind the last step, for all {0} steps",
        "a slice takes the rows before it: table[:, :x.size(1)]",
    ),
    "interleaved": Wording(
        "wrong-axis", "warning",
        "{op} of {what} cuts the rows {0} into parts of samples: the rows of one sample stand side by side",
        "unflatten(0, (-1, n)).unbind(1), or h[0::n], h[1::n], …",
    ),
    "carried": Wording(
        "batch-mixed", "note",
        "a loop takes the {batch} rows of dim 0 of {what} in turn, each goes on into the next: samples, or steps",
        "x[:, t] where the batch comes first",
    ),
    "strided": Wording(
        "wrong-axis", "warning",
        "{op} of {what} takes one of {1} of the rows {0}, which are batches behind one another: samples of all of them",
        "chunk(n, 0) parts the batches",
    ),
    "tiled": Wording(
        "wrong-axis", "warning", "{op} of {all} lays {0}, copies of all places behind one another, on {1}, its places",
        "repeat_interleave(n, dim), or F.interpolate, repeats each place",
    ),
    "drawn": Wording(
        "batch-mixed", "warning", "{op} draws one number for all {batch} samples, and a table is read with it",
        "torch.randint(0, n, (x.size(0),)) draws one for each",
    ),
    "gram": Wording(
        "batch-mixed", "warning", "{op} of {all} compares the features of each sample with those of all {batch}",
        "view(b, c, h * w) and bmm: one matrix for each sample",
    ),
    "offset": Wording(
        "batch-mixed", "warning",
        "{op} looks the rows {0} of all {batch} samples up by numbers that begin at 0 in each: all read the first",
        "add what comes before a sample: index + torch.arange(x.size(0)).view(-1, 1, 1) * x.size(1)",
    ),
    "unshifted": Wording(
        "batch-mixed", "warning",
        "{op} looks the rows {0} of all {batch} samples up by numbers that an input has for each sample, as they are: "
        "no line adds the rows before a sample",
        "index + torch.arange(x.size(0)).view(-1, 1) * x.size(1), before it is flattened",
    ),
    "nearest": Wording(
        "batch-mixed", "warning", "{op} of {what} looks for the best of the rows {0}, those of all {batch} samples",
        "keep (B, N, C): torch.cdist and bmm make one matrix for each sample",
    ),
    "exchanged": Wording(
        "batch-mixed", "warning",
        "{op} of {all} puts the second half of the {batch} samples before the first: each takes the place of another",
        "chunk(2, 1) and cat(…, 1) exchange the halves of the features",
    ),
    "averaged": Wording(
        "batch-mixed", "warning", "{op} of {what} adds up the products of each sample with all {batch}",
        "(u * v).sum(1) is the product of each with its own",
    ),
    "apart": Wording(
        "batch-mixed", "warning", "{op} of {what} adds up the {batch} samples: a distance of each of {0}, not of each "
        "sample", "sum(1) is the distance of each pair of samples",
    ),
    "picked": Wording("batch-mixed", "note", "{op} of {what} looks up among the {batch} samples of the batch"),
    "merged": Wording(
        "batch-mixed", "warning", "a product of {what} sums over {0}: of the {batch} samples together one is made",
        "keep the letter of the batch in what comes out: 'btd,bsd->bts'",
    ),
    "contracted": Wording("batch-mixed", "note", "a product of {what} sums over {0}, the {batch} samples"),
    "joined": Wording(
        "batch-mixed", "warning", "a constant is put behind the {batch} samples of the batch: {0} grows by its rows",
        "expand it to the batch and join along the steps: torch.cat([token.expand(x.size(0), -1, -1), x], 1)",
    ),
    "noise": Wording(
        "batch-mixed", "note", "the same random numbers for all {batch} samples of {what}",
        "torch.randn_like(x) draws anew for each",
    ),
    "normal": Wording(
        "batch-mixed", "warning", "the same random numbers for all {batch} samples of {what}",
        "torch.randn_like(x) draws anew for each",
    ),
    "pairs": Wording(
        "batch-mixed", "warning",
        "{op} of {all} takes along {0} what every sample asks for from each of the {batch} samples: pairs of samples",
        "x[torch.arange(len(x)), index], or x.gather(1, …)",
    ),
    "aligned": Wording(
        "wrong-axis", "warning", "{op} lays {0} on {1}, in {what}: they only fit because their sizes are equal here",
        "add dims of 1 so that each lies on its like: t[:, :, None, None] on a feature map",
    ),
    "channels": Wording(
        "wrong-axis", "warning", "{op} lays a parameter on {0} of {what}, as long as the channels in dim 1",
        "view the parameter as (1, C, 1, 1), or as (C, 1) on a sequence",
    ),
    "normed": Wording(
        "wrong-axis", "warning", "{op} of {what} reads the positions {0} as its channels; {1} are in the other dim",
        "transpose(1, 2) before it, and after",
    ),
    "angles": Wording(
        "wrong-axis", "warning", "{op} lays sines or cosines of positions on {0}, in {all}: those are the heads",
        "transpose(1, 2) before it, or angles of (T, 1, d)",
    ),
    "rows": Wording(
        "wrong-axis", "warning", "{op} lays the first rows of a table on {0}, in {all}: those are the heads",
        "transpose(1, 2) before it, so that the steps are dim -2",
    ),
    "thirds": Wording(
        "wrong-axis", "warning",
        "{op} cuts the positions {0} of {what} for queries, keys and values; {1} are in another dim",
        "chunk(3, dim=-1)",
    ),
    "uncut": Wording(
        "wrong-axis", "warning",
        "{op} of {what} halves {0} and not the samples, of which a cat put two batches behind one another",
        "chunk(2, dim=0)",
    ),
    "summed": Wording(
        "attention-axis", "warning", "{op} of {all} sums over {0}: the heads are added up before they are compared",
        "keep the letter of the heads in what comes out: 'bhqd,bhkd->bhqk'",
    ),
    "doubled": Wording(
        "wrong-axis", "warning", "{op} of {all} puts what was made of the same steps behind one another, and both are "
        "reduced as if they were steps", "torch.cat(…, dim=-1), and a layer that reads all features",
    ),
    "turned": Wording(
        "wrong-axis", "warning", "{op} of {what} is asked for {0} × {1}: height and width are in each other's place",
        "size=x.shape[-2:]",
    ),
    "best": Wording(
        "wrong-axis", "warning",
        "{op} of {what} takes the best of the positions {0} for each of {1}, along which the chances sum to 1",
        "argmax(-1): the best class at each position",
    ),
    "root": Wording(
        "wrong-axis", "warning", "{op} of {what} scales by the root of {0}, the number of steps; the product before it "
        "sums over features", "math.sqrt(q.size(-1))",
    ),
    "stacked": Wording(
        "wrong-axis", "warning", "{op} of {all} puts feature maps of the same {0} behind one another; their channels, "
        "{1}, are in dim 1", "torch.cat(…, dim=1)",
    ),
    "gate": Wording(
        "wrong-axis", "note", "{op} of {what} reduces the features, and a layer makes a gate of the positions {0}",
    ),
    "positions": Wording(
        "wrong-axis", "warning",
        "{op} of {what} reduces the features, and a layer reads the positions {0} in their place",
        "reduce the positions, and keep the features",
    ),
    "vanished": Wording(
        "wrong-axis", "note", "{op} of {what} reduces the features, and all positions {0} are left in the output",
        "reduce the positions, and keep the features",
    ),
    "unit": Wording(
        "wrong-axis", "warning", "{op} of {what} makes the length 1 along the positions {0}; {1} are in the last dim",
        "dim=-1: F.normalize and F.cosine_similarity have dim=1 by default",
    ),
    "scores": Wording(
        "wrong-axis", "warning",
        "{op} of {what} makes the length 1 along {0}, but the product of both sums over {1}: that is no cosine",
        "F.normalize(…, dim=-1)",
    ),
    "halves": Wording(
        "wrong-axis", "warning", "{op} of {what} takes half of the positions {0} to gate, scale or turn the rest",
        "dim=1 on a feature map, where the channels are",
    ),
    "classes": Wording(
        "wrong-axis", "note", "{op} of {what} runs over the positions {0}; {1} are in the last dim",
        "dim=-1, or transpose(1, 2) for cross_entropy",
    ),
    "labels": Wording(
        "wrong-axis", "warning", "{op} of {what} takes {0} for its classes: it only fits because there are as many",
        "transpose(1, 2): cross_entropy wants (B, classes, steps)",
    ),
    "pinned": Wording(
        "wrong-axis", "warning", "{op} of {all} lays {0} on a buffer that is as long only here: one step less fails",
        "cut the buffer to the length: buffer[:T, :T] of a mask, buffer[:, :T] of positions",
    ),
    "answers": Wording(
        "wrong-axis", "warning", "{op} of {what} runs over the positions {0}, and is the output; {1} are the classes",
        "dim=1 on a feature map, dim=-1 on a sequence",
    ),
    "reordered": Wording(
        "wrong-axis", "warning",
        "{op} lays the rows {0} on the rows {1}, in {all}: they were flattened in another order",
        "transpose one of them before it is flattened; repeat_interleave(k, 0) for repeat(k, 1)",
    ),
    "regrouped": Wording(
        "wrong-axis", "warning",
        "{op} of {all} lays heads on {0}: what lay on them before was repeated in the other order",
        "repeat_interleave(n, 1) for both, or expand behind the groups",
    ),
    "coincident": Wording(
        "wrong-axis", "warning",
        "{op} of {all} lays {0} on another dim, it is at dims {1}: they only fit because their sizes are equal here",
        "a dim of 1 puts each on its like: mask[:, None] of (B, T), sigma[:, None, None, None] on a feature map",
    ),
    "met": Wording(
        "wrong-axis", "warning", "{op} of {all} sums {0} of the one with another dim of the other: they only fit "
        "because their sizes are equal here", "the other order, adjacency @ h, or a transpose",
    ),
    "degrees": Wording(
        "wrong-axis", "warning",
        "{op} of {what} and what it is reduced to along dim {0}, without keepdim: that of row i lies on column i",
        "keepdim=True: a / a.sum(1, keepdim=True)",
    ),
    "sides": Wording(
        "uneven-sides", "note", "{op} treats H and W unlike: of a square feature map it makes {0} × {1}",
        "the same for both sides: torch.cat(…, 1), a padding of four numbers, a size for each",
    ),
    "idle": Wording("idle-resize", "note", "a resize of {what} to the size that it has changes nothing"),
    "descended": Wording(
        "idle-resize", "warning", "a map that was made larger is made smaller again, to be added to {what}, which was "
        "made before: the finest came first", "for up, skip in zip(ups, reversed(skips)): the coarsest first",
    ),
    "shrunk": Wording(
        "idle-resize", "note", "a feature map was made smaller to be added here, to {what}: its details are lost",
        "enlarge the coarse one to the size of the fine one",
    ),
}  # fmt: skip

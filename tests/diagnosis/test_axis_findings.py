# ruff: noqa: E501  # a model of one line is read in one line
"""What the axes show: silent bugs of one or two lines each, and their look-alikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lxml.html
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary, Size


class Written(nn.Module):
    """A model whose forward is a function of itself and its inputs."""

    def __init__(self, run: Callable[..., Any], parts: dict[str, Any]) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def M(run: Callable[..., Any], **parts: Any) -> Written:
    return Written(run, parts)


def P(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


L, C = nn.Linear, nn.Conv2d


class Moving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(16, 8)
        self.register_buffer("rm", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.f(x)
        mean = x.mean(0)
        with torch.no_grad():
            self.rm.lerp_(mean, 0.1)
        return x - mean


BUGS: list[tuple[str, Callable[[], nn.Module], Any, str, str]] = [
    ("normalize dim0", lambda: M(lambda s,x: F.normalize(s.f(x),dim=0), f=L(16,8)), (6,16), "batch-mixed", "normalize"),
    ("center over batch", lambda: M(lambda s,x: s.g(s.f(x)-s.f(x).mean(0,keepdim=True)), f=L(16,8), g=L(8,3)), (6,16), "batch-mixed", "mean"),
    ("std over batch 3d", lambda: M(lambda s,x: (lambda y:(y-y.mean(0,keepdim=True))/(y.std(0,keepdim=True)+1e-5))(s.f(x)), f=L(16,8)), (6,10,16), "batch-mixed", "std"),
    ("einsum drops B", lambda: M(lambda s,x: torch.einsum('bij,bjk->ik', s.f(x), s.f(x).transpose(1,2)), f=L(16,8)), (6,10,16), "batch-mixed", "einsum"),
    ("gather along batch", lambda: M(lambda s,x,i: torch.gather(s.f(x),0,i), f=L(16,8)), [(6,16), torch.zeros(6,8,dtype=torch.long)], "batch-mixed", "gather"),
    ("temb along width", lambda: M(lambda s,x,t: s.c(x)+s.t(t)[:,None,None,:], c=C(3,16,3,padding=1), t=L(8,16)), [(2,3,16,16),(2,8)], "wrong-axis", "add"),
    ("channel param on width", lambda: M(lambda s,x: s.c(x)*s.g, c=C(3,16,3,padding=1), g=P(16)), (2,3,16,16), "wrong-axis", "mul"),
    ("layerscale param on last of conv1d", lambda: M(lambda s,x: s.c(x)*s.g, c=nn.Conv1d(3,24,3,padding=1), g=P(24)), (2,3,24), "wrong-axis", "mul"),
    ("mask batch on heads", lambda: M(lambda s,x,m: (lambda q:((q@q.transpose(-1,-2)).masked_fill(m[:,None,:]==0,-1e9)).softmax(-1)@q)(s.f(x).view(x.shape[0],x.shape[1],4,8).transpose(1,2)), f=L(16,32)), [(4,10,16),(4,10)], "wrong-axis", "masked_fill"),
    ("BN1d on (B,T,C)", lambda: M(lambda s,x: s.n(s.f(x)), f=L(16,10), n=nn.BatchNorm1d(10)), (4,10,16), "wrong-axis", "BatchNorm1d"),
    ("cls token on batch", lambda: M(lambda s,x: s.g(torch.cat([s.c.expand(1,10,8), s.f(x)],0)), f=L(16,8), c=P(1,10,8), g=L(8,3)), (4,10,16), "batch-mixed", "cat"),
    ("depth to space view", lambda: M(lambda s,x: (lambda y:y.view(y.shape[0],4,y.shape[2]*2,y.shape[3]*2))(s.c(x)), c=C(3,16,3,padding=1)), (2,3,12,12), "reshape-swap", "view"),
    ("det head no permute", lambda: M(lambda s,x: (lambda y:y.view(y.shape[0],-1,6))(s.c(x)), c=C(3,18,1)), (2,3,8,8), "reshape-swap", "view"),
    ("det head reshape", lambda: M(lambda s,x: s.c(x).reshape(x.shape[0],x.shape[2]*x.shape[3]*3,6), c=C(3,18,1)), (2,3,8,8), "reshape-swap", "reshape"),
    ("pos cut by batch", lambda: M(lambda s,x: s.f(x)+s.p[:x.size(0)].unsqueeze(1), f=L(16,8), p=P(50,8)), (4,10,16), "batch-mixed", "getitem"),
    ("pos cut by batch3", lambda: M(lambda s,x: s.f(x)+s.p[:x.shape[0]], f=L(16,8), p=P(50,1,8)), (4,10,16), "batch-mixed", "getitem"),
    ("noise w/o B", lambda: M(lambda s,x: s.f(x)+torch.randn(x.shape[1],8), f=L(16,8)), (4,10,16), "batch-mixed", "add"),
    ("cat on height", lambda: M(lambda s,x: s.h(torch.cat([s.a(x),s.b(x)],2)), a=C(3,8,3,padding=1), b=C(3,8,3,padding=1), h=C(8,2,1)), (2,3,16,16), "wrong-axis", "cat"),
    ("softmax over one", lambda: M(lambda s,x: s.f(x).softmax(1), f=L(16,1)), (4,16), "wrong-axis", "softmax"),
    ("max over features for points", lambda: M(lambda s,x: s.g(s.f(x).max(2).values), f=L(3,64), g=L(100,5)), (4,100,3), "wrong-axis", "max"),
    ("softmax over queries heads", lambda: M(lambda s,x: (lambda q:(q@q.transpose(-1,-2)/3).softmax(2)@q)(s.f(x).view(x.shape[0],x.shape[1],4,8).transpose(1,2)), f=L(16,32)), (4,10,16), "attention-axis", "softmax"),
    ("roll over batch", lambda: M(lambda s,x: s.f(x).roll(1,0), f=L(16,8)), (4,16), "batch-mixed", "roll"),
    ("cumsum over B of B,T,C", lambda: M(lambda s,x: s.f(x).cumsum(dim=0), f=L(16,8)), (4,10,16), "batch-mixed", "cumsum"),
    ("heads split no transpose", lambda: M(lambda s,x: (lambda q:(q@q.transpose(-1,-2)).softmax(-1)@q)(s.f(x).view(x.shape[0],4,x.shape[1],8)), f=L(16,32)), (4,10,16), "reshape-swap", "view"),
    ("merge no transpose", lambda: M(lambda s,x: (lambda q:((q@q.transpose(-1,-2)).softmax(-1)@q).reshape(x.shape[0],x.shape[1],32))(s.f(x).view(x.shape[0],x.shape[1],4,8).transpose(1,2)), f=L(16,32)), (4,10,16), "reshape-swap", "reshape"),
    ("index pick along batch", lambda: M(lambda s,x: s.f(x)[torch.randperm(x.shape[0])], f=L(16,8)), (4,16), "batch-mixed", "getitem"),
    ("time in sines along the width", lambda: M(lambda s,x,t: s.c(x)+s.t((t[:,None]*torch.arange(16)).sin())[:,None,None,:], c=C(3,16,3,padding=1), t=L(16,16)), [(4,3,16,16),(4,)], "wrong-axis", "add"),
    ("heads of a step among themselves", lambda: M(lambda s,x: (lambda q:((q@q.transpose(-1,-2)/3).softmax(-1)@q).flatten(2))(s.f(x).view(x.shape[0],x.shape[1],4,8)), f=L(16,32)), (3,10,16), "attention-axis", "softmax"),
    ("gram of all samples", lambda: M(lambda s,x: (lambda m: m@m.t())(s.c(x).reshape(8,-1)), c=C(3,8,3)), (4,3,12,12), "reshape-swap", "reshape"),
    ("samples looked up as steps", lambda: M(lambda s,x,n: s.f(x)[n,torch.arange(x.shape[0])], f=L(16,8)), [(6,10,16),torch.tensor([1,2,3,1,0,5])], "batch-mixed", "getitem"),
    ("norm over batch rows (layernorm by hand)", lambda: M(lambda s,x: (lambda y: y/y.norm(dim=0,keepdim=True))(s.f(x)), f=L(16,8)), (4,16), "batch-mixed", "norm"),
]  # fmt: skip

LOOK_ALIKES: list[tuple[str, Callable[[], nn.Module], Any]] = [
    ("custom BN", lambda: M(lambda s,x: (lambda y:(y-y.mean((0,2,3),keepdim=True))/(y.var((0,2,3),keepdim=True)+1e-5).sqrt()*s.g+s.b)(s.c(x)), c=C(3,8,3), g=P(1,8,1,1), b=P(1,8,1,1)), (4,3,16,16)),
    ("minibatch std", lambda: M(lambda s,x: (lambda y: torch.cat([y, y.std(0).mean().expand(y.shape[0],1,*y.shape[2:])],1))(s.c(x)), c=C(3,8,3)), (4,3,16,16)),
    ("contrastive", lambda: M(lambda s,x,y: F.normalize(s.f(x),dim=-1)@F.normalize(s.f(y),dim=-1).t(), f=L(16,8)), [(4,16),(4,16)]),
    ("barlow", lambda: M(lambda s,x,y: ((s.f(x)-s.f(x).mean(0))/s.f(x).std(0)).t()@((s.f(y)-s.f(y).mean(0))/s.f(y).std(0))/x.shape[0], f=L(16,8)), [(8,16),(8,16)]),
    ("mixer", lambda: M(lambda s,x: x+s.t(x.transpose(1,2)).transpose(1,2)+s.c(x), t=nn.Sequential(L(10,20),nn.GELU(),L(20,10)), c=L(16,16)), (4,10,16)),
    ("hidden+pos", lambda: M(lambda s,x: s.f(x+s.p(torch.arange(x.shape[1]))), p=nn.Embedding(50,16), f=L(16,16)), (4,10,16)),
    ("SE", lambda: M(lambda s,x: (lambda y: y*s.e(y.mean((2,3)))[:,:,None,None])(s.c(x)), c=C(3,16,3,padding=1), e=nn.Sequential(L(16,4),nn.ReLU(),L(4,16),nn.Sigmoid())), (2,3,16,16)),
    ("coord attention", lambda: M(lambda s,x: (lambda y: y*s.a(y.mean(3,keepdim=True)).sigmoid()*s.b(y.mean(2,keepdim=True)).sigmoid())(s.c(x)), c=C(3,16,3,padding=1), a=C(16,16,1), b=C(16,16,1)), (2,3,16,16)),
    ("temb right", lambda: M(lambda s,x,t: s.c(x)+s.t(t)[:,:,None,None], c=C(3,16,3,padding=1), t=L(8,16)), [(2,3,16,16),(2,8)]),
    ("det head right", lambda: M(lambda s,x: (lambda y:y.view(y.shape[0],3,6,y.shape[2],y.shape[3]).permute(0,3,4,1,2).reshape(y.shape[0],-1,6))(s.c(x)), c=C(3,18,1)), (2,3,8,8)),
    ("pixelshuffle by view", lambda: M(lambda s,x: (lambda y:y.view(y.shape[0],4,2,2,y.shape[2],y.shape[3]).permute(0,1,4,2,5,3).reshape(y.shape[0],4,y.shape[2]*2,y.shape[3]*2))(s.c(x)), c=C(3,16,3,padding=1)), (2,3,12,12)),
    ("channel shuffle", lambda: M(lambda s,x: (lambda y:y.view(y.shape[0],4,4,y.shape[2],y.shape[3]).transpose(1,2).reshape(y.shape))(s.c(x)), c=C(3,16,3,padding=1)), (2,3,12,12)),
    ("pointnet", lambda: M(lambda s,x: s.g(s.f(x).max(1).values), f=L(3,64), g=L(64,5)), (4,100,3)),
    ("rope", lambda: M(lambda s,x: (lambda q,f: q*f.cos()+torch.cat([-q[...,4:],q[...,:4]],-1)*f.sin())(s.f(x), torch.outer(torch.arange(x.shape[1]).float(), torch.arange(8).float())), f=L(16,8)), (4,10,16)),
    ("alibi", lambda: M(lambda s,x: (lambda q:(q@q.transpose(-1,-2)+torch.arange(x.shape[1])[None,None,None,:]).softmax(-1)@q)(s.f(x).view(x.shape[0],x.shape[1],4,8).transpose(1,2)), f=L(16,32)), (4,10,16)),
    ("FiLM", lambda: M(lambda s,x,z: (lambda g:s.c(x)*g.chunk(2,1)[0][:,:,None,None]+g.chunk(2,1)[1][:,:,None,None])(s.f(z)), c=C(3,16,3,padding=1), f=L(8,32)), [(2,3,16,16),(2,8)]),
    ("VAE noise", lambda: M(lambda s,x: (lambda m:m+torch.randn_like(m))(s.f(x)), f=L(16,8)), (4,16)),
    ("dropout noise T shared", lambda: M(lambda s,x: s.f(x)*torch.bernoulli(torch.full((x.shape[0],1,8),.9)), f=L(16,8)), (4,10,16)),
    ("gnn rows", lambda: M(lambda s,x,a: a@s.f(x), f=L(16,8)), [(10,16),(10,10)]),
    ("seq first transformer", lambda: M(lambda s,x: s.e(x), e=nn.TransformerEncoderLayer(16,2,32)), (10,4,16)),
    ("posenc seqfirst", lambda: M(lambda s,x: s.e(s.f(x)+s.p[:x.size(0)]), f=L(16,16), p=P(50,1,16), e=nn.TransformerEncoderLayer(16,2,32)), (10,4,16)),
    ("step of each sample", lambda: M(lambda s,x,n: s.f(x)[torch.arange(x.shape[0]),n], f=L(16,8)), [(6,10,16),torch.tensor([1,2,3,1,0,5])]),
    ("channels of heads", lambda: M(lambda s,x: (lambda q:(q.transpose(-1,-2)@q).softmax(-1)@q.transpose(-1,-2))(s.f(x).view(x.shape[0],x.shape[1],4,8).transpose(1,2)), f=L(16,32)), (3,10,16)),
    ("fields of a row", lambda: M(lambda s,x: (lambda q:((q@q.transpose(-1,-2)/3).softmax(-1)@q).flatten(1))(s.f(x).view(x.shape[0],4,8)), f=L(16,32)), (3,16)),
    ("gram of a sample", lambda: M(lambda s,x: (lambda m: m@m.transpose(1,2))(s.c(x).reshape(x.shape[0],8,-1)), c=C(3,8,3)), (4,3,12,12)),
    ("classes by shots", lambda: M(lambda s,a,x: (-((s.f(x)[:,None]-s.f(a).view(3,2,-1).mean(1)[None])**2).sum(-1)).log_softmax(1), f=L(16,8)), [(6,16),(8,16)]),
    ("moving mean", Moving, (8,16)),
    ("tarnet", lambda: M(lambda s,x: torch.where(x[:,:1]>0, s.a(x), s.b(x)), a=L(16,1), b=L(16,1)), (4,16)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "inputs", "rule", "at"), [bug[1:] for bug in BUGS], ids=[bug[0] for bug in BUGS])
def test_a_silent_bug_is_flagged_on_its_row(make: Callable[[], nn.Module], inputs: Any, rule: str, at: str) -> None:
    ms = ModelSummary(make(), inputs)
    assert ms.error is None
    assert (rule, at) in [(flag.rule, ms.rows[flag.row].type_name) for flag in ms.flags]
    rows = [(flag.row, flag.rule) for flag in ms.flags]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(("make", "inputs"), [case[1:] for case in LOOK_ALIKES], ids=[case[0] for case in LOOK_ALIKES])
def test_a_look_alike_has_no_warning(make: Callable[[], nn.Module], inputs: Any) -> None:
    ms = ModelSummary(make(), inputs)
    assert ms.error is None
    assert [flag for flag in ms.flags if flag.severity != "note"] == []


class Attention(nn.Module):
    """Attention written out, and what leaves it as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(48, 144)
        self.out = nn.Linear(48, 48)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, 12).permute(2, 0, 3, 1, 4)
        made = torch.softmax(q @ k.mT, -1) @ v
        return self.out(made.transpose(1, 2).reshape(b, t, c)).reshape(b * t, c), torch.zeros(8, t)


def origins_of(ms: ModelSummary, path: str) -> list[list[str | None]]:
    found = next(row for row in ms.to_dict()["rows"] if row["path"] == path)
    return [leaf["origins"] for leaf in found["outputs"]]


@pytest.mark.parametrize("batch", ["B", "N"])
def test_what_each_dim_comes_from_is_said(batch: str) -> None:
    ms = ModelSummary(Attention(), Size(f"{batch}=2 10 48"))
    assert origins_of(ms, "qkv") == [[batch, "T", "the features of qkv"]]
    assert origins_of(ms, "") == [[f"{batch}·T", "the features of out"], ["8", "T"]]
    softmax = next(row for row in ms.to_dict()["rows"] if row["type"] == "softmax")
    assert softmax["outputs"][0]["origins"] == [batch, "4 of 48 of the features of qkv", "T", "T"]


def test_a_number_of_another_trace_is_not_said() -> None:
    """The halves of a dim have other sizes here than where the axes were read."""
    model = M(lambda s, x: s.f(x).unflatten(0, (2, -1)), f=L(6, 4))
    assert origins_of(ModelSummary(model, (8, 6)), "") == [[None, None, "the features of f"]]
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Flatten(2))
    assert origins_of(ModelSummary(pooled, (2, 3, 17, 17)), "1") == [["B", "the features of 0", "H′·W′"]]


def test_the_title_and_the_detail_of_a_row_say_what_its_dims_come_from() -> None:
    """For a pointer, and for a keyboard and a screen reader; what a formula says already is not said again."""
    page = lxml.html.fromstring(ModelSummary(Attention(), (2, 10, 48)).to_html(packed=False))
    rows = {row.xpath("string(./summary//th)").split()[0]: row for row in page.find_class("ms-r")}
    softmax = "B × 4 of 48 of features of qkv × T × T"
    for name, told in (("qkv", "B × T × its features"), ("softmax", softmax), ("out", "B × T × its features")):
        assert rows[name].xpath("string(./summary//td/@title)").splitlines()[1:] == [told]
        assert rows[name].xpath("string(./dl/dt[text()='axes']/following-sibling::dd[1])") == told
    assert "\n" not in rows["view"].xpath("string(./summary//td/@title)").partition("[B, T, 144]")[0]


def test_the_detail_of_a_flagged_row_is_read_without_a_script() -> None:
    model = M(lambda s, x: torch.softmax(s.f(x), 0), f=L(6, 4))
    page = ModelSummary(model, (8, 6)).to_html()
    assert "B × features of f" in page


class Packs(nn.Module):
    """Sorts samples by their lengths to pack them, and puts them back, as torch does."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 8, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        steps, (state, _) = self.rnn(packed)
        steps, _ = nn.utils.rnn.pad_packed_sequence(steps, batch_first=True)
        return steps, state


def test_samples_that_are_sorted_to_be_packed_are_not_said_to_be_mixed() -> None:
    assert ModelSummary(Packs(), [(3, 12, 6), torch.tensor([9, 5, 1])]).flags == ()

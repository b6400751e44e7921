"""Models as people write them, each with one mistake that is marked: the best fix gives what the right text gives.

``marked_models.txt`` holds their text: ``<<wrong||right>>`` is the mistake, a head has name and inputs.
"""

from __future__ import annotations

import functools
import linecache
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.pytree import walk_leaves
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.summary import ModelSummary
from tests.fix_is_true import apply_patch

IMPORTS = "import functools\nimport math\n\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n"


class Marked(NamedTuple):
    name: str
    inputs: tuple[Any, ...]
    text: str


def ints(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.long)


def read_models() -> list[Marked]:
    found = re.split(r"^=== ", Path(__file__).with_name("marked_models.txt").read_text(encoding="utf-8"), flags=re.M)
    models = []
    for part in found[1:]:
        head, _, text = part.partition("\n")
        name, _, inputs = head.partition(": ")
        models.append(Marked(name, eval(inputs, {"ints": ints}), text))
    return models


MODELS = read_models()
ALL = pytest.mark.parametrize("case", MODELS, ids=[case.name for case in MODELS])
pytestmark = [
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),  # of torch, about batch_first
    pytest.mark.filterwarnings("ignore:Using a target size"),  # of torch, about a loss that then fails
]


def write(case: Marked, which: int) -> str:
    imports = IMPORTS.replace("import torch.nn.functional as F\n", "") if "nn.functional" in case.text else IMPORTS
    return imports + re.sub(r"<<(.*?)\|\|(.*?)>>", lambda found: found[which], case.text, flags=re.S)


def make(text: str, name: str) -> nn.Module:
    """Make the model of a text that ``linecache`` has, as it has that of a cell."""
    module = ModuleType(f"marked_{name}")
    filename = f"/marked/{name}.py"
    linecache.cache[filename] = len(text), None, text.splitlines(keepends=True), filename
    sys.modules[module.__name__] = module
    exec(compile(text, filename, "exec"), vars(module))
    model = module.Net()
    assert isinstance(model, nn.Module)
    return model


def run(model: nn.Module, case: Marked) -> list[tuple[int, ...]]:
    inputs = [torch.zeros(item) if isinstance(item, tuple) else item for item in case.inputs]
    return [tuple(leaf.shape) for _, leaf in walk_leaves(model(*inputs)) if isinstance(leaf, Tensor)]


@functools.cache
def find_error(name: str) -> ForwardError:
    case = next(case for case in MODELS if case.name == name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about batch_first
        model = make(write(case, 1), case.name)
        error = ModelSummary(model, list(case.inputs)).error
    assert error is not None
    return error


@ALL
def test_the_best_fix_gives_what_the_right_text_gives(case: Marked) -> None:
    with pytest.raises((RuntimeError, IndexError, ValueError, TypeError, AssertionError)):
        run(make(write(case, 1), f"{case.name}_wrong"), case)
    error = find_error(case.name)
    assert error.fixes
    want = run(make(write(case, 2), f"{case.name}_right"), case)
    assert [spec.shape for spec in error.fixes[0].outputs] == want
    assert error.patch is not None
    patched = apply_patch(error.patch, write(case, 1).splitlines(keepends=True))
    assert run(make("".join(patched), f"{case.name}_patched"), case) == want


#: What is best of several changes that run: an argument rather than a part, a layer before rather than other heads.
BEST = {
    "heads_not_dividing_custom": "self.attn = SelfAttention(96, 8)",
    "positional_table": "self.pos = PositionalEncoding(32, max_len=128)",
    "mha_heads_literal": "self.proj = nn.Linear(20, 96)",
    "grouped_conv": "self.conv1 = nn.Conv2d(3, 32, 3, padding=1)\nself.bn1 = nn.BatchNorm2d(32)",
    "block_cin_wrong": "self.b3 = ConvBlock(32, 64)",
    "resnet_skip_projection": "self.layer1.downsample = nn.Conv2d(16, 32, 1)",
    "mobilenet_use_res": "self.blocks[1].use_res = False",
    "residual_conv_no_pad": "self.conv2 = nn.Conv2d(16, 16, 3, padding=1)",
    "vae_decoder_unflatten": "self.decoder[1] = nn.Unflatten(1, (64, 8, 8))",
    "conditional_norm_film": "self.time[2] = nn.Linear(32, 64)",
    "time_embedding_proj": "self.temb = nn.Linear(16, 64)",
    "einsum_letter": 'out = torch.einsum("bhij,bhjd->bhid", attn, v)',
    "transformer_mask_batch": "n = src.size(1)",
    "gru_init_hidden_layers": "return torch.zeros(self.num_layers, batch_size, self.hidden_size)",
    "sequential_no_flatten_wrong_size": "self.net[6] = nn.Linear(400, 64)\nself.net.insert(6, nn.Flatten())",
    "layernorm_on_channels": "y = self.pw2(F.gelu(self.pw1(self.norm(y.permute(0, 2, 3, 1)))))",
    "convlstm_cell": "self.cell.conv = nn.Conv2d(9, 32, 3, padding=1)",
    "triplet_margin": "self.proj = nn.Linear(16, 16)",
    "residual_mlp_width": "self.blocks[0].fc2 = nn.Linear(64, 32)\nself.blocks[1].fc2 = nn.Linear(64, 32)",
    "transformer_src_not_batch_first_memory": "for layer in self.dec.modules(): layer.batch_first = True",
    "aux_features_4d": "return self.head(torch.cat([f.mean((2, 3)), aux], dim=1))",
    "cell_wrong_axis": "h = self.cell(x[:, t], h)",
    "no_functional_imported": (
        "return self.out(torch.cat([a, nn.functional.interpolate(b, size=a.shape[2:])], dim=1))"
    ),
    "two_tower_concat_dim": "x = torch.cat([self.user(u), self.item(i)], dim=1)",
    "squeeze_drops_batch_head": "x = self.f(x).flatten(1)",
    "shufflenet_view": "self.groups = 4",
    "depthwise_separable": "self.pw = nn.Conv2d(cin, cout, 1)",
    "pointnet_transform": "x = torch.bmm(x.transpose(1, 2), t).transpose(1, 2)",
    "gnn_heads_next": "self.l2 = Layer(32, 3, 1)",
    "attention_pool_query": "out, _ = self.attn(q.expand(x.size(0), -1, -1), x, x)",
}


@pytest.mark.parametrize("name", BEST)
def test_the_best_fix_is_what_a_person_would_change(name: str) -> None:
    error = find_error(name)
    assert error.fix.rpartition("py:")[2].partition(": ")[2] == BEST[name] or error.fix == BEST[name]

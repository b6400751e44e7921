"""The table of torch's layers holds every class or a reason why not, and what it says of a class is true of torch."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelsummary_ipy.model.torch_layers import LAYERS, Layer, spatial_dims

#: Classes of which nothing here has to know more than that they are modules.
NO_ENTRY = {
    "base classes": "Module Container RNNBase RNNCellBase",
    "wrappers": "DataParallel ParameterDict ParameterList",
    "distances": "CosineSimilarity PairwiseDistance",
    "losses that check their sizes": """AdaptiveLogSoftmaxWithLoss BCELoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss
        GaussianNLLLoss HingeEmbeddingLoss KLDivLoss LinearCrossEntropyLoss MarginRankingLoss MultiLabelMarginLoss
        MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss NLLLoss2d PoissonNLLLoss SoftMarginLoss TripletMarginLoss
        TripletMarginWithDistanceLoss""",
}
#: Numbers that build a layer of any family.
ARGUMENTS = {"kernel_size": 2, "num_heads": 2, "num_groups": 2, "upscale_factor": 2}
TABLE = sorted(LAYERS.items())


def find_class(name: str) -> Any:
    return getattr(nn, name, None) or getattr(nn.modules.linear, name)


def build(name: str, layer: Layer) -> nn.Module:
    return find_class(name)(*[ARGUMENTS.get(argument, 4) for argument in layer.arguments])


BUILT = [(name, layer) for name, layer in TABLE if layer.arguments]


def test_every_layer_class_of_torch_is_in_the_table_or_needs_no_entry() -> None:
    classes = {name for name, cls in vars(nn).items() if inspect.isclass(cls) and issubclass(cls, nn.Module)}
    others = {name for names in NO_ENTRY.values() for name in names.split()}
    assert classes - set(LAYERS) - others == set()
    assert others & set(LAYERS) == set()


@pytest.mark.parametrize(("name", "layer"), TABLE, ids=[name for name, _ in TABLE])
def test_a_layer_and_its_functions_are_torchs(name: str, layer: Layer) -> None:
    assert issubclass(find_class(name), nn.Module)
    for function in layer.functions:
        known = function if function not in ("rnn", "rnn_cell") else f"rnn_tanh{function[3:]}"
        places = (F, torch, torch._VF)
        assert any(hasattr(place, known) for place in places), function


@pytest.mark.parametrize(("name", "layer"), BUILT, ids=[name for name, _ in BUILT])
def test_arguments_defaults_and_widths_are_as_torch_has_them(name: str, layer: Layer) -> None:
    module = build(name, layer)
    for argument in layer.arguments:
        assert hasattr(module, argument)
    for option, default in layer.options.items():
        value = getattr(module, option, default)
        value = value[0] if isinstance(value, tuple) else value
        assert value == default or (option == "stride" and value == 2) or (option in ("kdim", "vdim") and value == 4)
    for setting in (layer.reads, layer.gives):
        assert not setting or hasattr(module, setting)
    if layer.has_bias:
        assert "bias" in " ".join(name for name, _ in module.named_parameters())
        assert "bias" not in " ".join(
            key for key, _ in find_class(name)(*[4 for _ in layer.arguments], bias=False).named_parameters()
        )


RANKED = [(name, layer) for name, layer in BUILT if layer.ranks]


@pytest.mark.parametrize(("name", "layer"), RANKED, ids=[name for name, _ in RANKED])
def test_a_layer_takes_the_ranks_of_the_table_and_no_others(name: str, layer: Layer) -> None:
    module, taken = build(name, layer).eval(), set()
    for rank in range(1, 7):
        inputs = (torch.zeros((4,) * rank),) * (3 if layer.family == "attention" else 1)
        try:
            module(*inputs)
        except (RuntimeError, ValueError, AssertionError):
            continue
        taken.add(rank)
    assert taken == set(layer.ranks)


def test_spatial_dims_are_known_of_layers_and_of_functions_that_name_them() -> None:
    names = ["Conv2d", "conv_transpose1d", "adaptive_avg_pool3d", "BatchNorm1d", "batch_norm", "Linear", "nothing"]
    assert [spatial_dims(name) for name in names] == [2, 1, 3, 1, 0, 0, 0]

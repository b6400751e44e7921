"""Facts of layers that are made when they are read are those that torch tells of the layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.model.layer_facts import LayerFacts, frozen
from modelsummary_ipy.model.module_tree import read_tree


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[2].bias = model[1].bias
    return model


def twice_in_one() -> nn.Module:
    layer = nn.LayerNorm(4)
    layer.bias = layer.weight
    return nn.Sequential(layer, nn.Linear(4, 4))


def shared_layer() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Sequential(nn.ReLU(), layer), layer)


def with_buffers() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(4).eval(), nn.Linear(4, 4, bias=False).requires_grad_(False))


def one_storage() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    both = torch.zeros(8, 4)
    model[0].weight, model[1].weight = nn.Parameter(both[:4]), nn.Parameter(both[4:])
    model[2].weight = nn.Parameter(torch.zeros(1, 1).expand(4, 4))
    return model


def in_a_list() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4))
    model.held = [nn.Linear(4, 4)]  # type: ignore[assignment]
    return model


MODELS: list[Callable[[], nn.Module]] = [
    tied, twice_in_one, shared_layer, with_buffers, one_storage, in_a_list, lambda: nn.Linear(4, 4),
]  # fmt: skip


def list_names(model: nn.Module) -> dict[int, list[str]]:
    """The names of each parameter and buffer, by ``id``."""
    found: dict[int, list[str]] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        found.setdefault(id(tensor), []).append(name)
    return found


@pytest.mark.parametrize("build", MODELS)
def test_parameters_have_the_names_sizes_and_bytes_that_torch_tells(build: Callable[[], nn.Module]) -> None:
    model = build()
    tree = read_tree(model)
    names = list_names(model)
    assert [set(fact.names) for fact in tree.params] == [set(names.get(id(tensor), ())) for tensor in tree.tensors]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tree.tensors}
    assert sum(fact.nbytes for fact in tree.params) == sum(storages.values())
    for index, (fact, tensor) in enumerate(zip(tree.params, tree.tensors, strict=True)):
        assert (fact.index, fact.shape, fact.num, fact.trainable) == (
            index, tuple(tensor.shape), tensor.numel(), tensor.requires_grad,
        )  # fmt: skip
        assert (fact.kind == "parameter") == isinstance(tensor, nn.Parameter)


@pytest.mark.parametrize("build", MODELS)
def test_modules_have_the_paths_and_weights_that_torch_tells(build: Callable[[], nn.Module]) -> None:
    model = build()
    tree = read_tree(model)
    paths: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(path)
    for index, (fact, module) in enumerate(zip(tree.modules, tree.objects, strict=True)):
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        assert (fact.index, fact.type_name, fact.training) == (index, type(module).__name__, module.training)
        assert list(fact.paths) == paths.get(id(module), [])
        assert {id(tree.tensors[number]) for number in fact.params} == {id(tensor) for tensor in own}
        assert [tree.objects[child] for child in fact.children] == list(dict.fromkeys(module.children()))
        assert fact.extra_repr == module.extra_repr()
        code = type(module).forward.__code__
        assert (fact.forward_file, fact.forward_line) == (code.co_filename, code.co_firstlineno)
        assert fact.config == {} and fact.loose == () and not fact.lazy and not fact.made
        assert fact.reads is None or {"weight"} & fact.reads == {"weight"} & {*code.co_names}


def test_unregistered_layers_are_reached_by_the_list_that_holds_them() -> None:
    assert [fact.path for fact in read_tree(in_a_list()).modules] == ["", "0", "held[0]"]


@pytest.mark.parametrize("most", [0, 5_000], ids=["made", "kept"])
@pytest.mark.parametrize("build", MODELS)
def test_a_row_counts_each_parameter_below_it_once(
    build: Callable[[], nn.Module], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelsummary_ipy.isolation.shadow.MANY_MODULES", most)
    model = build()
    ms = ModelSummary(model, (2, 4), engine="fake")
    assert ms.error is None
    assert type(ms.pipeline.traced.trace.modules) is (tuple if most else LayerFacts)
    for row in ms.rows:
        if row.kind == "module" and not row.path.startswith("held"):
            every = list(model.get_submodule(row.path).parameters())
            assert row.num_params == sum(tensor.numel() for tensor in every)
            assert row.trainable_params == sum(tensor.numel() for tensor in every if tensor.requires_grad)


def test_facts_are_read_and_changed_as_in_a_list() -> None:
    facts = read_tree(shared_layer()).modules
    assert isinstance(facts, LayerFacts)
    plain = list(facts)
    assert facts == plain
    assert facts != plain[:-1] and facts != 3
    assert facts[-1] == plain[-1] and facts[1:] == plain[1:] and list(reversed(facts)) == plain[::-1]
    kept = frozen(facts)
    facts[1] = facts[1]._replace(training=False)
    facts.append(plain[0])
    assert list(facts) == [plain[0], plain[1]._replace(training=False), *plain[2:], plain[0]]
    assert kept == plain
    with pytest.raises(TypeError):
        del facts[0]
    with pytest.raises(TypeError):
        facts.insert(0, plain[0])

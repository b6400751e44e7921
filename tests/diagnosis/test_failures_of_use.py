"""Failures that are no mistake in shapes: names, devices, annotations, values, batches."""

from __future__ import annotations

import re
from typing import Any

import einops
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor, nn

from modelsummary_ipy.summary import ModelSummary


def test_arguments_that_are_no_tensors_shift_no_name() -> None:
    class Scores(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return torch.einsum("bhid,bhjd->bhij", q, k)

    class Picked(nn.Module):
        def forward(self, x: Tensor, idx: Tensor) -> Tensor:
            return torch.gather(x, 1, idx)

    scores = ModelSummary(Scores(), [(2, 4, 10, 8), (2, 4, 8, 10)]).error
    picked = ModelSummary(Picked(), [torch.zeros(2, 3), torch.zeros(3, 3, dtype=torch.long)]).error
    assert scores is not None
    assert picked is not None
    assert re.findall(r"^ +(?:received +)?(\w+) +(?:float|int)\w+ \[", scores.message, re.MULTILINE) == ["q", "k"]
    assert re.findall(r"^ +(?:received +)?(\w+) +(?:float|int)\w+ \[", picked.message, re.MULTILINE) == ["x", "idx"]


def test_a_misspelt_forward_is_named() -> None:
    class Typo(nn.Module):
        def foward(self, x: Tensor) -> Tensor:
            return x

    error = ModelSummary(Typo(), (1, 3)).error
    assert error is not None
    assert error.reason == "Typo has no forward; it has 'foward'"
    assert error.fix == "def forward(self, x: Tensor) -> Tensor:"
    assert error.source is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize(
    "message",
    [
        "Torch not compiled with CUDA enabled",
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver",
        "No CUDA GPUs are available",
    ],
)
def test_whatever_torch_says_of_a_card_that_is_not_here_it_is_named(message: str) -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(message)

    error = ModelSummary(Raises(), (3, 4)).error
    assert error is not None
    assert error.reason == "the line makes a tensor on CUDA, which this machine does not have"


def test_a_device_that_is_not_here_is_named() -> None:
    class Moves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.cuda())

    error = ModelSummary(Moves(), (3, 4)).error
    assert error is not None
    assert error.reason == "the line makes a tensor on CUDA, which this machine does not have"
    assert error.fix == "return self.fc(x.to(next(self.parameters()).device))"


def test_an_annotation_of_jaxtyping_is_explained_at_the_users_line() -> None:
    def plain(self, x, y):
        return x + y

    plain.__annotations__ = dict.fromkeys("xy", Float[Tensor, "b 4"])

    class Annotated(nn.Module):
        add = jaxtyped(plain, typechecker=beartype)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.add(x, y.relu())

    error = ModelSummary(Annotated(), [(3, 4), (5, 4)]).error
    assert error is not None
    assert "  line      return self.add(x, y.relu())" in error.message
    assert error.reason.startswith("'y' is [5, 4], and is annotated Float[Tensor, 'b 4'] with b = 3 of the arguments")
    assert "Parameter annotations: " in error.message  # the message of jaxtyping, whole
    assert error.sizes == ("(3, 4) (3, 4)",)


def test_a_pattern_of_einops_is_explained_at_the_users_line() -> None:
    class Patches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return einops.rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=16, q=16)

    error = ModelSummary(Patches(), (1, 3, 225, 225)).error
    assert error is not None
    assert error.source is not None
    assert error.source.startswith("test_failures_of_use.py:")
    assert "  line      return einops.rearrange(" in error.message
    assert error.reason == (
        "(h p) with p = 16 needs a multiple of 16, dim 2 of [1, 3, 225, 225] is 225; "
        "needs H and W divisible by 16, you gave 225"
    )
    assert "can't divide axis of length 225 in chunks of 16" in error.message
    assert error.sizes[0] == "(1, 3, 224, 224)"
    assert error.fixes == ()  # the image is to have another size


def test_windows_over_channels_last_maps_name_height_and_width() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.window = 7

        def forward(self, x: Tensor) -> Tensor:
            b, h, w, c = x.shape
            return x.view(b, h // self.window, self.window, w // self.window, self.window, c)

    error = ModelSummary(Windows(), (2, 32, 32, 16)).error
    assert error is not None
    assert error.reason.endswith("; needs H and W divisible by 7, you gave 32")
    assert error.sizes == ("(2, 28, 28, 16)",)


def test_a_large_product_fails_with_torchs_own_words() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x @ y

    one, other = (torch.zeros(()).expand(size) for size in ((5000, 4000), (4001, 3000)))
    with pytest.raises(RuntimeError) as refused:
        one @ other
    error = ModelSummary(Product(), [(5000, 4000), (4001, 3000)]).error
    assert error is not None
    assert error.message.endswith(f"  torch     RuntimeError: {refused.value}")


def test_no_fix_makes_a_loss_compare_by_broadcasting_alone() -> None:
    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Linear(4, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return nn.functional.smooth_l1_loss(self.q(x), y)

    error = ModelSummary(Values(), [(5, 4), (5,)]).error
    assert error is not None
    assert error.reason == "smooth_l1_loss compares numbers one to one: [5, 2] against [5]"
    assert error.fixes == ()  # y[:, None] runs, and compares each value with both


def test_a_forward_that_needs_values_did_not_fail() -> None:
    class Values(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[x[:, 0].sum().item() > 0]

    error = ModelSummary(Values(), (3, 4), engine="fake").error
    assert error is not None
    assert error.message.startswith("values are needed in ")
    assert "failed" not in error.message
    assert "  go on     engine='real' runs the forward" in error.message
    assert error.fixes == ()


def test_a_layer_that_a_forward_makes_and_runs_is_not_blamed_for_a_condition() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            drop = nn.Dropout(x.size(1) / 100)
            made = nn.Linear(x.size(1), 4)
            y = self.fc(drop(made(x)))
            return y if y > 0 else -y

    error = ModelSummary(Asks(), (2, 4)).error
    assert error is not None
    assert "a condition is one truth value, and the tensor [2, 3]" in error.reason


def test_layers_in_a_loop_may_give_tensors_without_that_dim() -> None:
    class OneDim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Conv1d(4, 4, 1)])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                out = layer(x)
            return out

    ms = ModelSummary(OneDim(), (4,))  # what is logged of a mistake of this package's own fails a test
    assert ms.error is not None
    assert ms.error.code == "convolution"


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        return self.layer(x)

    def twice(self, x: Tensor) -> Any:
        size = x.size(1)
        return self.layer(size)


@pytest.mark.parametrize(
    ("method", "given", "reason", "expected"),
    [
        ("forward", {"x": 32}, "x is the int 32, 'layer' reads a tensor", "data, or a size, (1, 3, 224, 224)"),
        ("forward", {"x": "abc"}, "x is the str 'abc', 'layer' reads a tensor", "data, or a size, (1, 3, 224, 224)"),
        ("twice", (2, 3), "size is the int 3, 'layer' reads a tensor", "a tensor"),
    ],
)
def test_a_number_where_a_tensor_is_read_is_said_to_be_one(method: str, given: Any, reason: str, expected: str) -> None:
    error = ModelSummary(Small(), given, method=method).error
    assert error is not None
    assert error.reason == reason
    assert f"expected  {expected}\n" in str(error)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.table, self.out = nn.Embedding(9, 4), nn.Linear(3, 4), nn.Linear(11, 2)

    def forward(self, ids: Tensor, table: Tensor, weights: Tensor) -> Tensor:
        both = torch.cat([self.words(ids[:, 0]), self.table(table)], 1)
        return self.out(torch.cat([both, weights.expand(-1, 3)], 1))


@pytest.mark.parametrize(
    ("sizes", "reason", "works"),
    [
        (
            [(4, 5), (2, 3), (2, 1)],
            "the inputs have different batches: ids 4, table 2, weights 2",
            "(2, 5) (2, 3) (2, 1)",
        ),
        (
            [(4, 5), (4, 3), (3, 1)],
            "the inputs have different batches: ids 4, table 4, weights 3",
            "(4, 5) (4, 3) (4, 1)",
        ),
    ],
)
def test_inputs_of_different_batches_are_told_apart(sizes: Any, reason: str, works: str) -> None:
    error = ModelSummary(Pair(), sizes).error
    assert error is not None
    assert (error.reason, error.sizes[0], error.fixes) == (reason, works, ())


def test_inputs_that_fail_with_one_batch_too_are_explained_by_what_failed() -> None:
    error = ModelSummary(Pair(), [(4, 5), (2, 7), (2, 1)]).error
    assert error is not None
    assert "expects 3" in error.reason

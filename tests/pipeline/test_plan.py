"""Plans: what to checkpoint so that a step fits, against brute force and real steps with the code pasted."""

from __future__ import annotations

import copy
import gc
import itertools
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from modelsummary_ipy import InputError, ModelSummary, Plan
from modelsummary_ipy.costs.checkpoint_choice import Candidate, choose_checkpoints
from modelsummary_ipy.pipeline import plan as plans
from tests.reference import difference, fingerprint
from tests.tracing.real_step import real_optimizer, run_real_step


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, 0.1, foreach=True)


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(x)))


class Blocks(nn.Module):
    def __init__(self, *hidden: int, width: int = 16) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, size) for size in hidden)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def convolutions() -> nn.Module:
    def block() -> nn.Module:
        layers = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        return nn.Sequential(*layers)

    return nn.Sequential(block(), block(), block(), nn.Flatten(), nn.Linear(256, 3))


def paste(plan: Plan, model: nn.Module) -> nn.Module:
    """Run the plan's code below a copy of a model, as a user does."""
    pasted = copy.deepcopy(model)
    exec(plan.patch, {"model": pasted})
    return pasted


# -- what is chosen ---------------------------------------------------------------------------------------------------


class Counted(TorchDispatchMode):
    """Multiply-adds of the products that really run."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.addmm.default:
            self.macs += args[1].numel() * args[2].shape[1]
        if func is torch.ops.aten.mm.default:
            self.macs += args[0].numel() * args[1].shape[1]
        if func is torch.ops.aten.convolution.default:
            self.macs += out.numel() * args[1][0].numel()
        if (
            func is torch.ops.aten.convolution_backward.default
        ):  # for the input, unless that is data, and for the weight
            self.macs += args[0].numel() * args[2][0].numel() * sum(args[10][:2])
        return out


def run_checkpointed(model: nn.Module, paths: tuple[str, ...], x: Tensor) -> tuple[int, int]:
    """Run a real step with modules checkpointed: its peak, and the multiply-adds of its forward and recomputation."""
    model = copy.deepcopy(model)
    for path in paths:
        module = model.get_submodule(path)
        plain = module.forward
        module.forward = lambda x, plain=plain: checkpoint(plain, x, use_reentrant=False)  # type: ignore[method-assign]
    with Counted() as counted:
        model(x).sum().backward()
    model.zero_grad()
    return max(run_real_step(model, (x,), optimizer=sgd).live), counted.macs


BRUTE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "equal blocks": (lambda: Blocks(64, 64, 64, 64), (64, 16), [f"blocks.{i}" for i in range(4)]),
    "blocks of many sizes": (
        lambda: Blocks(16, 96, 32, 48), (64, 16),
        [*(f"blocks.{i}" for i in range(4)), *(f"blocks.{i}.down" for i in (0, 1))],
    ),
    "blocks in a block": (
        lambda: nn.Sequential(nn.Sequential(*(Block(16, 64) for _ in range(5))), nn.Linear(16, 2)), (64, 16),
        ["0", *(f"0.{i}" for i in range(5))],
    ),
    "convolutions": (convolutions, (8, 4, 8, 8), [*"012", "0.1", "0.2", "1.1", "1.2", "2.2"]),
}  # fmt: skip


def are_apart(paths: tuple[str, ...]) -> bool:
    return not any(f"{one}.".startswith(f"{two}.") for one, two in itertools.permutations(paths, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", BRUTE)
def test_no_set_of_modules_that_fits_runs_less_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # before every real step: most of the time
    make, size, paths = BRUTE[name]
    torch.manual_seed(0)
    model, x = make(), torch.randn(size)
    sets = [c for n in range(len(paths) + 1) for c in itertools.combinations(paths, n) if are_apart(c)]
    every = {paths: run_checkpointed(model, paths, x) for paths in sets}
    bare_peak, bare_macs = every[()]
    lowest = min(peak for peak, _ in every.values())
    ms = ModelSummary(model, size, optimizer="sgd")
    for share in (0.0, 0.3, 0.6, 0.9):
        budget = int(lowest + share * (bare_peak - lowest))
        plan = ms.plan(memory=budget)
        assert plan.fits
        assert plan.peak_before_bytes == bare_peak
        peak, macs = run_checkpointed(model, plan.modules, x)
        assert plan.peak_after_bytes == peak
        assert macs <= min(macs for peak, macs in every.values() if peak <= budget)
        assert plan.added_mult_adds == macs - bare_macs
        assert plan.mult_adds == bare_macs


def test_the_parts_of_a_module_take_its_place_where_it_needs_too_much_while_it_runs_again() -> None:
    """Whole it frees 100 bytes for 15 MACs; its halves free as much for 20, and 10 more at the second moment."""
    whole = Candidate("whole", "Whole", 1, 15, ((0, 0, 100),), "whole")
    halves = [Candidate(f"whole.{at}", "Half", 2 + at, 10, ((0, 0, 50), (1, 1, 5)), "half") for at in range(2)]
    assert choose_checkpoints([300, 210], 200, [whole, *halves]) == halves
    assert choose_checkpoints([300, 211], 200, [whole, *halves]) is None


def test_repeated_blocks_are_taken_from_the_first_on() -> None:
    ms = ModelSummary(Blocks(*[64] * 8), (64, 16), optimizer="sgd")
    peak = ms.training.peak_bytes or 0
    plan = ms.plan(memory=int(0.8 * peak))
    assert plan.modules == tuple(f"blocks.{i}" for i in range(len(plan.modules)))
    assert plan.families == (("Block", len(plan.modules)),)
    assert "for i in range(" in plan.patch


def test_another_batch_than_that_of_the_summary_may_be_planned() -> None:
    model = Blocks(64, 64, 64, 64)
    ms = ModelSummary(model, (4, 16), optimizer="sgd")
    whole = ModelSummary(model, (64, 16), optimizer="sgd")
    budget = int(0.7 * (whole.training.peak_bytes or 0))
    here, there = ms.plan(memory=budget, batch=64), whole.plan(memory=budget)
    assert here.to_dict() == there.to_dict()
    assert here.batch == 64
    assert here.peak_before_bytes == whole.training.peak_bytes


def test_where_nothing_is_too_much_nothing_is_checkpointed() -> None:
    plan = ModelSummary(Blocks(64), (64, 16)).plan(memory="1GB")
    assert (plan.fits, plan.modules, plan.patch, plan.levers, plan.added_share) == (True, (), "", (), 0)
    assert str(plan).startswith("batch 64: fits 1 GB without a checkpoint: ")


def test_where_nothing_fits_the_largest_batch_that_does_is_named() -> None:
    model = Blocks(64, 64, 64, 64)
    plan = ModelSummary(model, (256, 16), optimizer="sgd").plan(memory="100 KB")
    assert not plan.fits
    assert plan.largest_batch is not None
    real = [
        max(run_real_step(paste(plan, model), (torch.randn(batch, 16),), optimizer=sgd).live)
        for batch in (256, plan.largest_batch, plan.largest_batch + 1)
    ]
    assert plan.peak_after_bytes == real[0]
    assert real[1] <= 100_000 < real[2]
    assert f"even fully checkpointed it needs {plan.peak_after_bytes / 1000:.0f} KB at the" in str(plan)
    assert f": batch {plan.largest_batch} fits" in str(plan)


def test_a_budget_below_the_parameters_fits_no_batch() -> None:
    plan = ModelSummary(Blocks(64), (8, 16)).plan(memory="1 KB")
    assert plan.largest_batch == 0
    assert "no batch fits" in str(plan)


class Counts(nn.Module):
    """Saves another number of tensors when its forward runs again."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 96), nn.Linear(96, 16)
        self.times = 0

    def forward(self, x: Tensor) -> Tensor:
        self.times += 1
        y = self.up(x)
        return self.down(y.exp().tanh() if self.times % 2 else y)


def test_a_module_that_can_not_run_again_is_left_out() -> None:
    model = nn.Sequential(Counts(), *(Block(16, 96) for _ in range(3)), nn.Linear(16, 2))
    plan = ModelSummary(model, (512, 16), optimizer="sgd").plan(memory=1)
    assert plan.modules == ("1", "2")  # with "0", which promises most, the step fails
    paste(plan, model)(torch.randn(512, 16)).sum().backward()


def test_an_optimizer_of_the_users_may_go_over_parameters_one_by_one() -> None:
    model, x = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4)), torch.randn(8, 16)
    own = torch.optim.Adam(model.parameters(), 0.1, foreach=True)
    peaks = {lever.name: lever.peak_bytes for lever in ModelSummary(model, x, optimizer=own).plan(memory=1).levers}
    real = run_real_step(copy.deepcopy(model), (x,), optimizer=lambda params: torch.optim.Adam(params, foreach=False))
    assert peaks["foreach off"] == max(real.live)


# -- the code to paste ------------------------------------------------------------------------------------------------


def test_the_pasted_code_leaves_results_gradients_and_statistics_as_they_were() -> None:
    torch.manual_seed(0)
    model, x = convolutions(), torch.randn(8, 4, 8, 8)
    plan = ModelSummary(model, x, optimizer="sgd").plan(memory=1)
    assert {"0", "1"} <= {path.partition(".")[0] for path in plan.modules}
    pasted = paste(plan, model)
    for net in (model, pasted):
        for _ in range(2):
            net.zero_grad()
            net(x).square().sum().backward()
    assert list(model.state_dict()) == list(pasted.state_dict())
    for ours, theirs in zip(pasted.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    for one, other in zip(pasted.parameters(), model.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad)
    assert max(run_real_step(pasted, (x,), optimizer=sgd).live) == plan.peak_after_bytes


def test_a_summary_of_the_patched_model_agrees_with_the_plan() -> None:
    model = Blocks(64, 64, 64, 64)
    ms = ModelSummary(model, (64, 16))
    plan = ms.plan(memory=int(0.8 * (ms.training.peak_bytes or 0)))
    again = ModelSummary(paste(plan, model), (64, 16))
    assert again.training.peak_bytes == plan.peak_after_bytes
    assert again["blocks.0"].outputs == ms["blocks.0"].outputs


def test_the_code_names_the_model_as_the_user_does() -> None:
    plan = ModelSummary(Blocks(64, 64, 64), (64, 16), optimizer="sgd").plan(memory=1, name="nets['a']")
    assert "module = nets['a'].get_submodule(path)" in plan.patch


# -- other changes ----------------------------------------------------------------------------------------------------


def test_every_other_change_takes_what_a_real_step_with_it_takes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    x = torch.randn(64, 16)
    plan = ModelSummary(model, x).plan(memory=1)

    def real(optimizer: Any = None, x: Tensor = x, inplace: bool = False, **options: Any) -> int:
        changed = copy.deepcopy(model)
        changed[1].inplace = changed[3].inplace = inplace
        make = optimizer or (lambda params: torch.optim.AdamW(params, foreach=True))
        return max(run_real_step(changed, (x,), optimizer=make, **options).live)

    peaks = {lever.name: lever.peak_bytes for lever in plan.levers}
    assert peaks.pop("lion") > 0  # torch has none
    assert peaks == {
        "adafactor": real(lambda params: torch.optim.Adafactor(params, foreach=True)),
        "momentum": real(lambda params: torch.optim.SGD(params, 0.1, momentum=0.9, foreach=True)),
        "sgd": real(sgd),
        "bf16-mixed": real(autocast=True),
        "foreach off": real(lambda params: torch.optim.AdamW(params, foreach=False)),
        "in-place activations": real(inplace=True),
        "accumulate 64 batches of 1": real(x=x[:1].clone(), accumulate=64),
        "set_to_none": real(accumulate=2),
    }
    ranked = [lever.peak_bytes for lever in plan.levers if not lever.is_assumed]
    assert ranked == sorted(ranked)
    assert [lever.name for lever in plan.levers if lever.is_assumed] == ["set_to_none"]


def test_where_no_change_fits_alone_several_are_tried_together() -> None:
    torch.manual_seed(0)
    model, x = Blocks(*[192] * 5, width=32), torch.randn(256, 32)
    alone = ModelSummary(model, x).plan(memory=1)
    least = min(lever.peak_bytes for lever in alone.levers if not lever.is_assumed)
    plan = ModelSummary(model, x).plan(memory=int(0.9 * least))
    assert not plan.fits
    assert all(lever.peak_bytes > plan.budget_bytes for lever in plan.levers)
    best = plan.together[0]
    assert best.peak_bytes <= plan.budget_bytes
    assert f"fits with {best.name} together" in str(plan)
    fits = [lever.peak_bytes <= plan.budget_bytes for lever in plan.together]
    assert fits == sorted(fits, reverse=True)

    def real(name: str, plan: Plan) -> int:
        changed, data, options = copy.deepcopy(model), x, {}
        make = real_optimizer("adamw")
        for part in name.split(" + "):
            words = part.split()
            if part in ("sgd", "momentum", "adafactor", "lion"):
                make = real_optimizer(part)
            elif part == "foreach off":
                make = real_optimizer("adamw-single")
            elif words[0] == "accumulate":
                options["accumulate"], data = int(words[1]), x[: int(words[-1])].clone()
            elif part == "bf16-mixed":
                options["autocast"] = True
            else:
                assert words[1].startswith("checkpoint")
                changed = paste(plan, model)
        return max(run_real_step(changed, (data,), optimizer=make, **options).live)

    for each in (plan, alone):
        for lever in each.together:
            assert lever.peak_bytes == real(lever.name, each), lever.name
            compile(lever.patch, "patch", "exec")
            assert ("torch.optim" in lever.patch) == any(
                word in lever.name for word in ("sgd", "mom", "ada", "foreach")
            )
            assert "lion" not in lever.name, "torch has none to paste"
    assert len({lever.name for lever in alone.together}) == len(alone.together) > len(plan.together)
    assert any("checkpoints" in lever.name for lever in alone.together)


def test_activations_that_autograd_needs_are_not_written_over() -> None:
    class Saves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.last, self.end = nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x).exp()  # exp saves its result
            return self.end(self.last(self.act(y)))

    plan = ModelSummary(Saves(), (64, 16)).plan(memory=1)
    (lever,) = (lever for lever in plan.levers if lever.name == "in-place activations")
    assert lever.patch == 'for path in ["end"]:\n    model.get_submodule(path).inplace = True\n'


# -- time, arguments, and what is touched -----------------------------------------------------------------------------


def test_the_time_ends_the_search_and_says_what_it_left_out() -> None:
    plan = ModelSummary(Blocks(64, 64), (64, 16)).plan(memory=100_000, seconds=1e-9)
    assert (plan.num_steps, plan.modules) == (1, ())
    assert {"fewer checkpoints", "the largest batch that fits", "bf16-mixed", "adafactor"} <= {*plan.untried}
    assert "1 step traced; not tried within 1e-09 s: " in str(plan)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({}, "ms.plan(memory='24GB')"),
        ({"memory": "24"}, "an amount with a unit"),
        ({"memory": "lots"}, "an amount with a unit"),
        ({"memory": "1GB", "batch": 0}, "batch=64"),
        ({"memory": "1GB", "batch": 2.5}, "batch=64"),
        ({"memory": "1GB", "seconds": 0}, "seconds=30"),
        ({"memory": "1GB", "seconds": "long"}, "seconds=30"),
    ],
)
def test_wrong_arguments_are_named_before_any_step(monkeypatch: pytest.MonkeyPatch, wrong: Any, expected: str) -> None:
    ms = ModelSummary(Blocks(64), (64, 16))
    monkeypatch.setattr(ms.pipeline, "trace_step", None)
    with pytest.raises(InputError) as error:
        ms.plan(**wrong)
    assert expected in str(error.value)


def test_a_batch_that_the_model_does_not_run_at_has_no_plan() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.reshape(4, 6))

    plan = ModelSummary(Fixed(), (4, 6)).plan(memory="1GB", batch=8)
    assert plan.reason == "the forward fails: RuntimeError: shape '[4, 6]' is invalid for input of size 48"
    with pytest.raises(InputError, match="a model whose input has a batch"):
        ModelSummary(Fixed(), engine="static").plan(memory="1GB", batch=8)


def test_without_a_step_there_is_no_plan_and_the_reason_is_given() -> None:
    frozen = ModelSummary(nn.Linear(2, 2).requires_grad_(False), (1, 2)).plan(memory="1GB")
    assert str(frozen) == "no plan: nothing to train: no parameter requires grad"
    failed = ModelSummary(nn.Linear(2, 2), (1, 3)).plan(memory="1GB")
    assert failed.reason == "the forward did not come to its end"
    assert not failed.fits
    with pytest.raises(InputError, match="a tensor of size"):
        ModelSummary(nn.Linear(2, 3), (4, 2), loss=lambda y: y).plan(memory="1GB")


def test_a_plan_is_made_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "find_plan", None)
    ms = ModelSummary(Blocks(64), (64, 16), memory="1 KB")
    assert "does not fit 1 KB" in ms.to_text()


def test_nothing_of_the_users_is_touched_and_the_record_is_frozen() -> None:
    model, x = convolutions(), torch.randn(8, 4, 8, 8)
    inputs = (x,)
    before = fingerprint(model, inputs)
    random = torch.random.get_rng_state()
    plan = ModelSummary(model, x).plan(memory="100 KB")
    assert difference(before, fingerprint(model, inputs)) == []
    assert torch.equal(random, torch.random.get_rng_state())
    with pytest.raises(FrozenInstanceError):
        plan.patch = ""  # type: ignore[misc]
    written = json.loads(json.dumps(plan.to_dict()))
    assert written["modules"] == list(plan.modules)
    assert written["levers"][0]["name"] == plan.levers[0].name

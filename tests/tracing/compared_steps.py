"""A training step of the package beside a real one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.training import Training
from tests.tracing.real_step import RealStep


def adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, foreach=True)


def trace_training(model: nn.Module, *args: Any, **options: Any) -> Training:
    ms = ModelSummary(model, ModelInputs(args), **options)
    assert (ms.engine, ms.error) == ("fake", None)
    return ms.training


def assert_equal(ours: Training, real: RealStep) -> None:
    assert ours.reason == ""
    assert list(ours.live_bytes) == real.live
    peaks = (ours.forward_peak_bytes, ours.backward_peak_bytes, ours.optimizer_peak_bytes)
    assert peaks == (real.forward, real.backward, real.optimizer)
    assert ours.peak_bytes == max(real.live)

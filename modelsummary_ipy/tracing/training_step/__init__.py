"""One step of training on fakes: forward, loss, backward and optimizer, with every storage that they make."""

from modelsummary_ipy.tracing.training_step.losses import check_loss
from modelsummary_ipy.tracing.training_step.optimizers import OptimizerChoice, read_optimizer, without_foreach
from modelsummary_ipy.tracing.training_step.step import StepSettings, trace_run, trace_step

__all__ = [
    "OptimizerChoice",
    "StepSettings",
    "check_loss",
    "read_optimizer",
    "trace_run",
    "trace_step",
    "without_foreach",
]

"""The ``nn.MultiheadAttention`` that failed, and what is around it."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import FailureContext, Operand
from modelsummary_ipy.records.trace import Call


def find_heads(ctx: FailureContext) -> Call | None:
    """Return the call of the ``nn.MultiheadAttention`` that failed, or that the failed function is the inside of."""
    call = ctx.call if ctx.call.kind == "module" else ctx.parent
    fact = ctx.flow.module_of(call)
    is_heads = fact is not None and fact.type_name == "MultiheadAttention" and fact.type_module.startswith("torch.")
    return call if is_heads and (call is ctx.call or ctx.function == "multi_head_attention_forward") else None


class Heads:
    """A ``nn.MultiheadAttention`` that failed."""

    def __init__(self, ctx: FailureContext, call: Call, operands: dict[str, Operand]) -> None:
        self.ctx = ctx
        self.call = call
        self.operands = operands
        self.query = query = operands["query"]
        self.key, self.value = operands.get("key", query), operands.get("value", query)
        fact = ctx.flow.module_of(call)
        assert fact is not None
        self.fact = fact
        self.settings = fact.settings
        self.batch_first = bool(fact.settings.get("batch_first"))
        self.axes = (0, 1) if self.batch_first else (1, 0)  # of the batch and of the steps

    def find_outermost(self) -> str:
        """Return the path of the outermost layer of torch's that this one is a part of."""
        path = self.call.path
        for call in self.ctx.flow.around(self.call):
            fact = self.ctx.flow.module_of(call)
            if fact is None or not fact.type_module.startswith("torch."):
                break
            if "batch_first" not in fact.settings and not fact.type_name.startswith("Transformer"):
                break
            path = call.path
        return path

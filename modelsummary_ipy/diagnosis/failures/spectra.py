"""Short-time Fourier transforms: windows of another length than the transform's, frequencies of another one."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import NOTHING, RESHAPE, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line, fix_operand, fix_setting
from modelsummary_ipy.diagnosis.failures.parameters import fix_creation, resize_param
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword
from modelsummary_ipy.diagnosis.formatting import write_shape


def explain_spectrum(ctx: FailureContext) -> Diagnosis | None:
    """Explain an ``stft`` or ``istft`` whose signal, window or frequencies do not fit."""
    name = ctx.function
    if name not in ("stft", "istft") or not ctx.operands:
        return None
    x, n_fft = ctx.operands[0], ctx.given("n_fft")
    if "requires the return_complex parameter" in ctx.failure.message:
        reason = "stft of real numbers has to be told whether it returns complex ones"
        return Diagnosis(
            reason, "return_complex=True", fix_line(ctx, add_keyword(ctx.line, name, "return_complex", "True"))
        )
    if not isinstance(n_fft, int):
        return None
    if name == "stft" and x.rank > 2:
        ones = [axis for axis in range(1, x.rank) if x.shape[axis] == 1]
        reason = f"{write_shape(x.shape)} has {x.rank} dims, stft reads signals [B, T]"
        return Diagnosis(
            reason, "[B, T]", fix_operand(ctx, 0, f"{{}}.squeeze({ones[0]})" if ones else "{}.flatten(0, -2)"), RESHAPE
        )
    length = ctx.given("win_length") or n_fft
    for window in ctx.operands[1:]:
        if window.rank == 1 and window.shape[0] != length:
            size = window.shape[0]
            reason = f"the window has {size} values, {name} reads {length} at a time"
            said = fix_setting(ctx, name, "win_length", 3, size) if size <= n_fft else NOTHING
            fixes = [resize_param(ctx, window, [-1], length), fix_creation(ctx, window, (length,))]
            fixes = [said, *fixes] if ctx.given("win_length") is None else [*fixes, said]
            return Diagnosis(reason, f"a window of {length}", fixes)
    if name == "istft" and x.rank > 1 and x.shape[-2] != n_fft // 2 + 1:
        wanted, came = n_fft // 2 + 1, x.shape[-2]
        reason = f"n_fft = {n_fft} has {n_fft} // 2 + 1 = {wanted} frequencies, {write_shape(x.shape)} has {came}"
        fix = fix_setting(ctx, name, "n_fft", 1, 2 * (came - 1))
        return Diagnosis(reason, f"{wanted} frequencies", fix)
    return None

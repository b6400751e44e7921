"""Why a forward failed on fakes: for values that they don't have, or as it would for real."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelsummary_ipy.fake.index_values import find_overrun
from modelsummary_ipy.records.errors import write_error
from modelsummary_ipy.torch_compat.fakes import (
    FAKE_ONLY_ERRORS,
    UnsupportedOperatorException,
    from_torchs_fakes,
    is_fakes_assertion,
)
from modelsummary_ipy.torch_compat.modes import is_in_jit_trace
from modelsummary_ipy.tracing.prepared import TraceResult
from modelsummary_ipy.tracing.replay import UnknownError, is_about_history, replay


def differentiates(error: BaseException) -> bool:
    """Return whether a forward differentiates, which it can't without grad, or with hooks on what autograd saves."""
    message = write_error(error)
    messages = (
        "yet support saved tensor hooks",
        "does not require grad",
        "doesn't require grad",
        "requires_grad=False",
    )
    return any(part in message for part in messages)


def forbids_grad(error: BaseException) -> bool:
    """Return whether a forward does what autograd forbids: whoever runs it does so under ``no_grad``."""
    message = write_error(error)
    return "requires grad" in message or "support the deepcopy protocol" in message


def confirm_failure(result: TraceResult) -> tuple[TraceResult, str]:
    """Run the operation that failed for real, on zeros of the same sizes: fakes refuse some that run.

    Returns:
        The result, with the message of the real failure; and why fakes could not go on, ``""`` if it really fails.
    """
    failure = result.trace.failure
    assert failure is not None
    assert result.error is not None
    if find_overrun(result.error) is not None:
        return result, ""
    if _needed_values(result.error):
        return result, _write_place(result)
    if result.operands is None or is_about_history(failure.message):
        return _name_plain_tensors(result), ""
    real = replay(*result.operands)
    if real is None:
        return result, _write_place(result)
    if isinstance(real, (UnknownError, *FAKE_ONLY_ERRORS)):
        return _name_plain_tensors(result), ""
    real = real.with_traceback(result.error.__traceback__)
    renamed = replace(failure, error_type=type(real).__name__, message=write_error(real))
    return replace(result, error=real, trace=replace(result.trace, failure=renamed)), ""


def _name_plain_tensors(result: TraceResult) -> TraceResult:
    """Write ``Tensor`` where a message has ``FakeTensor``: the user has none."""
    failure, error = result.trace.failure, result.error
    assert failure is not None
    assert error is not None
    kind = next(kind for kind in type(error).__mro__ if not from_torchs_fakes(kind))
    own: Any = vars(BaseException)["args"]  # a class of the user's may have another attribute of that name
    given = own.__get__(error)
    own.__set__(error, tuple(arg.replace("FakeTensor", "Tensor") if isinstance(arg, str) else arg for arg in given))
    renamed = replace(failure, error_type=kind.__name__, message=failure.message.replace("FakeTensor", "Tensor"))
    return replace(result, trace=replace(result.trace, failure=renamed))


def _needed_values(error: BaseException) -> bool:
    """Return whether the model's own code caught what only fakes raise, and raised something else."""
    for _ in range(8):
        inner = error.__cause__ or error.__context__
        if inner is None:
            return False
        if isinstance(inner, FAKE_ONLY_ERRORS):
            return True
        error = inner
    return False


_IN_SCRIPT = "failed in the TorchScript interpreter"
#: ``x.as_subclass(T)``, ``T(x)``: torch makes no fake of another class.
_MADE_SUBCLASS = "is already associated to a python object of type"


def find_need_of_values(result: TraceResult) -> str:
    """Write why fakes could not go on: ``".item() at net.py:41"``; ``""`` if the failure is the model's own."""
    error = result.error
    failure = result.trace.failure
    assert failure is not None
    if isinstance(error, FAKE_ONLY_ERRORS) or is_fakes_assertion(error) or is_in_jit_trace(error):
        return _write_place(result)
    message = failure.message
    needs_memory = any(
        text in message
        for text in (
            "Cannot access data pointer",
            "tensors do not have strides",  # compressed sparse layouts
            "data pointer of FakeTensor",
            ".numpy() is not supported for tensor subclasses",
            "Tensor that doesn't have storage",
            "DataDependent",
            "doesn't have a fake",
            "fake impl",
            "meta tensors",
            "Meta tensors",
            "'Meta' backend",
            _MADE_SUBCLASS,
            _IN_SCRIPT,  # only the message of a scripted function has what its own fakes could not run
        )
    )
    return _write_place(result) if needs_memory else ""


def _write_place(result: TraceResult) -> str:
    """Write which function fakes could not run, and where: ``".item() at net.py:41"``."""
    failure = result.trace.failure
    assert failure is not None
    place = failure.source.text if failure.source is not None else ""
    what = _write_function(result.culprit) if result.culprit else _name_operation(result.error) or failure.error_type
    what = "torch.jit.trace()" if is_in_jit_trace(result.error) else what
    what = "a scripted function" if _IN_SCRIPT in failure.message and not result.culprit else what
    what = "a tensor of another class" if _MADE_SUBCLASS in failure.message else what
    what += " without register_fake" if _lacks_own_rule(result.error) else ""
    return f"{what} at {place}" if place else what


#: Of torch's own operations.
_NAMESPACES = ("aten", "prims", "higher_order", "quantized", "_quantized", "sparse", "mkldnn", "onednn", "fbgemm")


def _lacks_own_rule(error: BaseException | None) -> bool:
    """Return whether an operation of the user's, or of an extension, has no rule for its sizes."""
    func = getattr(error, "func", None) if isinstance(error, UnsupportedOperatorException) else None
    is_own = getattr(func, "namespace", "aten") not in _NAMESPACES
    return is_own or (error is not None and "no fake impl registered" in write_error(error))


def _name_operation(error: BaseException | None) -> str:
    """Return the name of the operation that fakes could not run, ``"ctc_loss()"``, where the error has it."""
    name = str(getattr(error, "func", "")).removeprefix("aten.").partition(".")[0].lstrip("_")
    return f"{name}()" if name else ""


def _write_function(name: str) -> str:
    if name in ("getitem", "setitem"):
        return "an index by a mask"
    return f".{name}()" if name in ("item", "tolist", "numpy", "nonzero", "bool", "int", "float") else f"{name}()"

"""The compiler, ``torch._dynamo``: fakes can't do without it, and it takes over a second to import."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode

_NAME = "torch._dynamo"
#: What is imported; the first is a third of the time, the last is all of it.
COMPILER_PARTS = ("sympy", f"{_NAME}.utils")


def compiler_is_loaded() -> bool:
    """Return whether anything may have been compiled in this process."""
    return f"{_NAME}.eval_frame" in sys.modules


def load_compiler(part: str = COMPILER_PARTS[-1]) -> None:
    """Import what the first operation on a fake, or under a mode of torch's, would import.

    Args:
        part: One of ``COMPILER_PARTS``.

    Before a trace: what is imported in the middle of an operation keeps its tensors alive, and they would be counted.
    The filter of warnings that sympy adds and the variables that torch sets are not kept: a summary sets none.
    """
    if not compiler_is_loaded():
        before = set(os.environ)
        with suppress(ImportError), warnings.catch_warnings():
            import_module(part)
        for name in set(os.environ) - before:
            del os.environ[name]


def make_bare_mode() -> Any:
    """Make a fake mode that fakes can be constructed in, to probe them; torch's constructor would load the compiler.

    A release whose fakes read more of it gets torch's own.
    """
    mode: Any = FakeTensorMode.__new__(FakeTensorMode)
    mode.fake_tensor_converter = fake_tensor.FakeTensorConverter()
    mode.shape_env, mode.static_shapes, mode.allow_meta = None, True, False
    mode.propagate_real_tensors = mode.in_kernel_invocation = mode.cache_enabled = False
    mode._allow_unsafe_data_ptr_access = True
    try:
        fake_tensor.FakeTensor(mode, torch.empty(1, device="meta"), torch.device("cpu"))
    except AttributeError:
        load_compiler()
        return FakeTensorMode()
    return mode

"""The code of a memory plan: what a user pastes below the model, and what is run on a copy to try it."""

from __future__ import annotations

import re
from collections.abc import Sequence

KEEP_NO_GRADIENTS = "optimizer.zero_grad(set_to_none=True)\n"

_PLAIN_PATH = re.compile(r"[\w.]+")
#: A path whose last number has a name before it.
_NUMBERED = re.compile(r"([\w.]+\.)(0|[1-9]\d*)((?:\.[A-Za-z_]\w*)*)")

_PLAIN = """\
from functools import partial

from torch.utils.checkpoint import checkpoint

for path in {paths}:
    module = {name}.get_submodule(path)
    module.forward = partial(checkpoint, module.forward, use_reentrant=False)
"""

#: A batch norm would count every batch twice; ``data`` leaves the version that autograd saved with the buffer.
_WITH_BUFFERS = """\
from contextlib import contextmanager, nullcontext
from functools import partial

from torch.utils.checkpoint import checkpoint


@contextmanager
def keep_buffers(module):  # running statistics count a batch once, though the forward runs twice
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.data.copy_(value)


def make_contexts(module):
    return nullcontext(), keep_buffers(module)


for path in {paths}:
    module = {name}.get_submodule(path)
    contexts = partial(make_contexts, module)
    module.forward = partial(checkpoint, module.forward, use_reentrant=False, context_fn=contexts)
"""

_IN_PLACE = """\
for path in {paths}:
    {name}.get_submodule(path).inplace = True
"""


def write_checkpoints(paths: Sequence[str], *, has_buffers: bool, name: str = "model") -> str:
    """Write the code that checkpoints modules of a model.

    Args:
        paths: Their paths.
        has_buffers: Whether they have buffers that a forward changes.
        name: The expression of the model.

    Example:
        >>> print(write_checkpoints(["encoder.0"], has_buffers=False, name="net"))
        from functools import partial
        <BLANKLINE>
        from torch.utils.checkpoint import checkpoint
        <BLANKLINE>
        for path in ["encoder.0"]:
            module = net.get_submodule(path)
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)
        <BLANKLINE>
    """
    template = _WITH_BUFFERS if has_buffers else _PLAIN
    return template.format(paths=_write_paths(paths), name=name)


def write_in_place(paths: Sequence[str], name: str = "model") -> str:
    """Write the code that lets activations write over what they are given."""
    return _IN_PLACE.format(paths=_write_paths(paths), name=name)


def write_step(name: str = "model", device: str = "", parts: int = 1) -> str:
    """Write forward, loss and backward: under autocast to bfloat16 on a device, of the parts of a batch one by one.

    Example:
        >>> print(write_step("net", "cuda", 4))
        optimizer.zero_grad()
        for part, target in zip(inputs.chunk(4), targets.chunk(4)):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = criterion(net(part), target) / 4
            loss.backward()
        optimizer.step()
        <BLANKLINE>
    """
    lines = [
        f"loss = criterion({name}(part), target) / {parts}"
        if parts > 1
        else f"loss = criterion({name}(inputs), targets)"
    ]
    if device:
        lines = [f'with torch.autocast("{device}", dtype=torch.bfloat16):', f"    {lines[0]}"]
    lines.append("loss.backward()")
    if parts > 1:
        loop = f"for part, target in zip(inputs.chunk({parts}), targets.chunk({parts})):"
        lines = ["optimizer.zero_grad()", loop, *(f"    {line}" for line in lines), "optimizer.step()"]
    return "\n".join(lines) + "\n"


def write_optimizer(optimizer: str, name: str = "model") -> str:
    """Write how an optimizer of ``OPTIMIZERS`` is made; ``""`` for one that torch has not.

    Example:
        >>> write_optimizer("adamw-single")
        'optimizer = torch.optim.AdamW(model.parameters(), lr=lr, foreach=False)\\n'
    """
    base, _, way = optimizer.partition("-")
    if base not in _OPTIMIZERS:
        return ""
    kind, options = _OPTIMIZERS[base]
    options += {"single": ", foreach=False", "fused": ", fused=True"}.get(way, "")
    return f"optimizer = torch.optim.{kind}({name}.parameters(), lr=lr{options})\n"


_OPTIMIZERS = {
    "sgd": ("SGD", ""),
    "momentum": ("SGD", ", momentum=0.9"),
    "adam": ("Adam", ""),
    "adamw": ("AdamW", ""),
    "adafactor": ("Adafactor", ""),
}


def _write_paths(paths: Sequence[str]) -> str:
    """Write paths as a list that is read at a glance: blocks in a row as ``[f"h.{i}" for i in range(12)]``."""
    parts = _write_parts(paths)
    if len(parts) == 1 and parts[0].startswith("*("):
        return f"[{parts[0][2:-1]}]"
    line = f"[{', '.join(parts)}]"
    if len(line) <= 80:
        return line
    lines, row = [], ""
    for part in parts:
        if row and len(row) + len(part) > 90:
            lines.append(row)
            row = ""
        row += f"{part}, "
    return "[\n    " + "\n    ".join(line.rstrip() for line in [*lines, row]) + "\n]"


def _write_parts(paths: Sequence[str]) -> list[str]:
    """Write paths one by one, and three or more that differ by a number that counts up as one part."""
    numbers: dict[str, list[int]] = {}
    shown: dict[str, str] = {}
    for path in paths:
        found = _NUMBERED.fullmatch(path)
        pattern = f"{found[1]}{{i}}{found[3]}" if found is not None else path
        shown[path] = pattern
        numbers.setdefault(pattern, []).append(int(found[2]) if found is not None else 0)
    parts: list[str] = []
    for path in paths:
        row = numbers[shown[path]]
        if len(row) < 3 or row != [*range(row[0], row[0] + len(row))]:
            parts.append(f'"{path}"' if _PLAIN_PATH.fullmatch(path) else repr(path))
            continue
        bounds = f"{row[0]}, {row[-1] + 1}" if row[0] else str(len(row))
        part = f'*(f"{shown[path]}" for i in range({bounds}))'
        if part not in parts:
            parts.append(part)
    return parts

"""The code of a memory plan: what a user pastes below the model, and what is run on a copy to try it."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = [
    "KEEP_NO_GRADIENTS",
    "write_accumulation",
    "write_autocast",
    "write_checkpoints",
    "write_in_place",
    "write_optimizer",
]

KEEP_NO_GRADIENTS = "optimizer.zero_grad(set_to_none=True)\n"

_PLAIN_PATH = re.compile(r"[\w.]+")

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


def write_autocast(device: str, name: str = "model") -> str:
    """Write a forward and loss under autocast to bfloat16."""
    return f'''with torch.autocast("{device}", dtype=torch.bfloat16):
    loss = criterion({name}(inputs), targets)
loss.backward()
'''


def write_accumulation(parts: int, name: str = "model") -> str:
    """Write a step that adds the gradients of the parts of a batch."""
    return f"""optimizer.zero_grad()
for part, target in zip(inputs.chunk({parts}), targets.chunk({parts})):
    (criterion({name}(part), target) / {parts}).backward()
optimizer.step()
"""


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
    row = _write_row(paths)
    if row:
        return row
    quoted = [_quote(path) for path in paths]
    line = f"[{', '.join(quoted)}]"
    if len(line) <= 80:
        return line
    lines, row = [], ""
    for one in quoted:
        if row and len(row) + len(one) > 90:
            lines.append(row)
            row = ""
        row += f"{one}, "
    return "[\n    " + "\n    ".join(part.rstrip() for part in [*lines, row]) + "\n]"


def _write_row(paths: Sequence[str]) -> str:
    """Write paths that differ by a number that counts up; ``""`` if they do not."""
    parts = [path.split(".") for path in paths]
    if len(paths) < 3 or len({len(part) for part in parts}) > 1:
        return ""
    moving = [at for at, words in enumerate(zip(*parts, strict=True)) if len({*words}) > 1]
    if len(moving) != 1 or len(parts[0]) < 2 or not _PLAIN_PATH.fullmatch("".join(paths)):
        return ""
    numbers = [part[moving[0]] for part in parts]
    first = int(numbers[0]) if numbers[0].isdecimal() else None
    if first is None or numbers != [str(first + step) for step in range(len(numbers))]:
        return ""
    shown = ".".join("{i}" if at == moving[0] else word for at, word in enumerate(parts[0]))
    bounds = f"{first}, {first + len(numbers)}" if first else str(len(numbers))
    return f'[f"{shown}" for i in range({bounds})]'


def _quote(path: str) -> str:
    return f'"{path}"' if _PLAIN_PATH.fullmatch(path) else repr(path)

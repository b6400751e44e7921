"""Private names of torch stand in ``torch_compat`` alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import modelsummary_ipy

ROOT = Path(modelsummary_ipy.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "torch_compat" not in path.parts)

#: Attributes of torch's objects that are private though nothing in the expression says that they are torch's.
PRIVATE = frozenset(
    [
        "_C",
        "_VF",
        "_decomp",
        "_dynamo",
        "_ops",
        "_subclasses",
        "_make_subclass",
        "_cdata",
        "_base",
        "_version",
        "_is_view",
        "_is_param",
        "_schema",
        "_nested_tensor_size",
        "_call_impl",
        "_wrapped_call_impl",
        "_compiled_call_impl",
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_validate_args",
        "_orig_mod",
        "_torchdynamo_orig_callable",
        "constant",
        "fake_tensor_converter",
        "python_key_table",
        "in_kernel_invocation",
        "real_tensor",
    ]
)
#: What may stand elsewhere, and why. ``_parameters``, ``_buffers`` and ``_modules`` are in every pickled model since
#: torch 0.1, so they are no more torch's to change than a public name.
ALLOWED = {
    ("tracing/function_ops.py", "'_is_view'"): "the name of a function that a forward calls",
}


def find_private(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if re.match(r"torch\b.*\._", name.name))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            assert node.module is not None
            yield from (f"{node.module}.{name.name}" for name in node.names if "._" in f"{node.module}.{name.name}")
        elif isinstance(node, ast.Attribute):
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            is_torchs = isinstance(root, ast.Name) and root.id in ("torch", "nn", "F", "Tensor")
            is_dunder = node.attr.startswith("__")
            is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
            if (node.attr in PRIVATE and not is_own) or (is_torchs and node.attr.startswith("_") and not is_dunder):
                yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_dotted = re.match(r"torch\.([a-z]+\.)*_\w", node.value) is not None
            yield from [repr(node.value)] * (is_dotted or node.value in PRIVATE - {"constant"})


@cache
def read_private(path: Path) -> tuple[str, ...]:
    return tuple(find_private(path.read_text("utf-8")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_file_has_a_private_name_of_torch(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert [found for found in read_private(path) if (name, found) not in ALLOWED] == []


def test_every_exception_is_one() -> None:
    found = {(path.relative_to(ROOT).as_posix(), name) for path in FILES for name in read_private(path)}
    assert set(ALLOWED) <= found


@pytest.mark.parametrize(
    "line",
    [
        "import torch._dynamo.utils",
        "from torch._subclasses.fake_tensor import FakeTensor",
        "from torch import _VF",
        "from torch.utils import _pytree",
        "torch._C._DisableTorchDispatch()",
        "nn.modules.conv._ConvNd",
        "x.untyped_storage()._cdata",
        "func._schema",
        "fake.constant",
        "getattr(module, '_compiled_call_impl')",
        "'torch._dynamo.eval_frame' in sys.modules",
    ],
)
def test_the_search_finds_a_private_name(line: str) -> None:
    assert list(find_private(line))


@pytest.mark.parametrize(
    "line", ["torch.empty(0)", "self._hooks", "module._parameters", "'torch.nn'", "Tensor.__call__"]
)
def test_the_search_passes_what_is_public(line: str) -> None:
    assert not list(find_private(line))

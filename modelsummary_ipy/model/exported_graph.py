"""The modules that an exported graph came from: ``torch.export`` flattens them, and writes them down on every node.

``ExportedProgram.module()`` holds a module for each of the model's, empty but for its weights, and none of them is
called. The nodes of its graph say in ``meta["nn_module_stack"]`` which calls they were part of. ``follow_modules``
runs the graph so that these modules are called again, each with what goes into its part of the graph.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import fx, nn

#: What ``torch.export`` calls first, to check the inputs.
_GUARDS = "_guards_fn"
#: Of a node: the calls it was part of, outermost first, each with a name of the call and the module's path.
_Stack = tuple[tuple[str, str], ...]


def find_exported_types(module: nn.Module) -> dict[int, str]:
    """Return the type that a row shows for each module in an exported graph, by ``id``; empty for any other module.

    It is the class that the module had, and that it was exported: its settings are gone, so ``"GRU (exported)"`` is
    nothing that may be read as a ``GRU``.
    """
    types: dict[int, str] = {}
    if _is_exported(module):
        inside = dict(module.named_modules())
        for node in module.graph.nodes:
            for path, kind in (node.meta.get("nn_module_stack") or {}).values():
                if path and path in inside:
                    name = kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__
                    types[id(inside[path])] = f"{name} (exported)"
    return types


def follow_modules(module: nn.Module) -> None:
    """Let the forward of an exported graph call the modules that it came from; the module is changed."""
    if _is_exported(module) and find_exported_types(module):
        module.__dict__["forward"] = _ExportedForward(module)


def _is_exported(module: nn.Module) -> TypeGuard[fx.GraphModule]:
    """Return whether it is a graph of operations alone; one that ``fx`` traced calls the modules itself."""
    if not isinstance(module, fx.GraphModule) or not isinstance(module.__dict__.get("_graph"), fx.Graph):
        return False
    return all(node.op != "call_module" or node.target == _GUARDS for node in module.graph.nodes)


@dataclass
class _Part:
    """What one call of a module was in the graph.

    Attributes:
        path: The module's.
        steps: Nodes, and calls within this one.
        inputs: What it takes from outside.
        outputs: What is used outside.
    """

    path: str
    steps: list[fx.Node | _Part]
    inputs: list[fx.Node]
    outputs: list[fx.Node]


class _ExportedForward(fx.Interpreter):
    """Runs a graph as its own forward does, with a call of the module around the nodes that came from it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(type(self.module).forward).bind(self.module, *args, **kwargs)
        self.args_iter = iter(self.graph.process_inputs(*given.args[1:], *given.kwargs.values()))
        self.env = {}
        nodes = list(self.graph.nodes)
        first = [node for node in nodes if node.op in ("placeholder", "get_attr")]
        rest = [node for node in nodes if node.op not in ("placeholder", "get_attr", "output")]
        try:
            self._run([*first, *_cut(_list_stacks(rest), 0)])
            return self.graph.process_outputs(self.run_node(nodes[-1]))
        finally:
            self.env = {}

    def _run(self, steps: Iterable[fx.Node | _Part]) -> None:
        for step in steps:
            if isinstance(step, _Part):
                self._call(step)
            else:
                self.env[step] = self.run_node(step)
                for used in self.user_to_last_uses.get(step, ()):
                    del self.env[used]

    def _call(self, part: _Part) -> None:
        called = self.submodules.get(part.path)
        if called is None:  # a module without weights, which an exported module does not keep
            return self._run(part.steps)

        def forward(*_: Any) -> Any:
            self._run(part.steps)
            made = [self.env[node] for node in part.outputs]
            return made[0] if len(made) == 1 else tuple(made)

        called.__dict__["forward"] = forward
        try:
            given = [self.env[node] for node in part.inputs]
            called(*[value for value in given if not isinstance(value, (int, float, torch.SymInt))])
        finally:
            del called.__dict__["forward"]


def _list_stacks(nodes: Sequence[fx.Node]) -> list[tuple[fx.Node, _Stack]]:
    """Return nodes with their stacks, the model itself left out; one that has none stands where the one before does."""
    found: list[tuple[fx.Node, _Stack]] = []
    last: _Stack = ()
    for node in nodes:
        stack = node.meta.get("nn_module_stack")
        if stack and node.op != "call_module":
            last = tuple((name, path) for name, (path, _) in stack.items() if path)
        found.append((node, () if node.op == "call_module" else last))
    return found


def _cut(nodes: Iterable[tuple[fx.Node, _Stack]], depth: int) -> list[fx.Node | _Part]:
    """Put the nodes of each call that is ``depth`` deep into a part."""
    steps: list[fx.Node | _Part] = []
    for call, run in itertools.groupby(nodes, lambda item: item[1][depth] if len(item[1]) > depth else None):
        inside = list(run)
        if call is None:
            steps += [node for node, _ in inside]
            continue
        own = {node: None for node, _ in inside}
        read = dict.fromkeys(node for one in own for node in one.all_input_nodes)
        inputs = [node for node in read if node not in own and node.op != "get_attr"]
        outputs = [node for node in own if any(user not in own for user in node.users)]
        steps.append(_Part(call[1], _cut(inside, depth + 1), inputs, outputs))
    return steps

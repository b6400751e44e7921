"""Graph -> text that other programs draw: Mermaid (GitHub, GitLab, JupyterLab) and DOT (Graphviz)."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.display.graph.blocks import INPUT, Block, Graph, flatten

_MERMAID = {ord(char): f"#{ord(char)};" for char in '"<>&#`;'}
_DOT = {ord('"'): '\\"', ord("\\"): "\\\\"}


def render_mermaid(graph: Graph) -> str:
    """Render a graph as a Mermaid flowchart."""
    given = "<br>".join(f"input {text}".translate(_MERMAID) for text in graph.given)
    lines = ["flowchart TD", f'  input(["{given or "input"}"])', *_mermaid_blocks(graph, "  ")]
    sizes = {block.key: block.size for block in _leaves(graph) if block.is_new_size}
    for source, block in flatten(graph):
        size = sizes.get(source, "").translate(_MERMAID)
        arrow = f'-->|"{size}"|' if size else "-->"
        lines.append(f"  {_name(source)} {arrow} {_name(block.key)}")
    return "\n".join(lines) + "\n"


def _mermaid_blocks(graph: Graph, indent: str) -> Iterator[str]:
    for block in graph.blocks:
        text = "<br>".join(part.translate(_MERMAID) for part in (block.name, block.kind) if part)
        if block.inside is None:
            yield f'{indent}{_name(block.key)}(("{text}"))' if block.is_op else f'{indent}{_name(block.key)}["{text}"]'
        else:
            yield f'{indent}subgraph frame{block.key} ["{text.replace("<br>", " ")}"]'
            yield from _mermaid_blocks(block.inside, indent + "  ")
            yield f"{indent}end"


def render_dot(graph: Graph) -> str:
    """Render a graph for Graphviz: ``dot -Tpdf net.dot``."""
    given = "\\n".join(f"input {text}".translate(_DOT) for text in graph.given)
    lines = [
        "digraph {",
        f'  label="{graph.kind.translate(_DOT)}"',
        '  node [shape=box, style=rounded, fontname="monospace"]; edge [fontname="monospace", fontsize=10]',
        f'  input [label="{given or "input"}", shape=plaintext]',
        *_dot_blocks(graph, "  "),
    ]
    sizes = {block.key: block.size for block in _leaves(graph) if block.is_new_size}
    for source, block in flatten(graph):
        size = sizes.get(source, "").translate(_DOT)
        lines.append(f"  {_name(source)} -> {_name(block.key)}" + (f' [label="{size}"]' if size else ""))
    return "\n".join([*lines, "}"]) + "\n"


def _dot_blocks(graph: Graph, indent: str) -> Iterator[str]:
    for block in graph.blocks:
        text = "\\n".join(part.translate(_DOT) for part in (block.name, block.kind) if part)
        if block.inside is None:
            shape = ", shape=circle" if block.is_op else ""
            yield f'{indent}{_name(block.key)} [label="{text}"{shape}]'
        else:
            yield f"{indent}subgraph cluster_{block.key} {{"
            yield f'{indent}  label="{text}"'
            yield from _dot_blocks(block.inside, indent + "  ")
            yield f"{indent}}}"


def _leaves(graph: Graph) -> Iterator[Block]:
    for block in graph.blocks:
        if block.inside is None:
            yield block
        else:
            yield from _leaves(block.inside)


def _name(key: int) -> str:
    return "input" if key == INPUT else f"block{key}"

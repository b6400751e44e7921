"""Places -> SVG, complete in itself: it reads on light and dark, in a browser, a README, and a paper."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from modelsummary_ipy.display.graph.blocks import Graph
from modelsummary_ipy.display.graph.layout import Line, Placed, lay_out, text_width

_STYLE = (
    "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#1f2328}"
    ".k,.s{fill:#59636e}.s{font-size:11px}.n{font-weight:600}"
    "rect{fill:#fff;stroke:#8c959f}.f{fill:#818b981a;stroke:#d1d9e0}.g{fill:#ddf4ff}.o{fill:#fff8c5}"
    "path{fill:none;stroke:#59636e;stroke-width:1.2}.h{fill:#59636e;stroke:none}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.k,.s{fill:#9198a1}rect{fill:#0d1117;stroke:#656c76}"
    ".f{fill:#656c7633;stroke:#3d444d}.g{fill:#0c2d4d}.o{fill:#3a2e06}path{stroke:#9198a1}.h{fill:#9198a1}}"
)
_MARGIN, _CORNER = 12.0, 6.0


def render_svg(graph: Graph) -> str:
    """Render a graph as SVG; the same graph gives the same bytes."""
    placed = lay_out(graph)
    width = placed.width + 2 * _MARGIN
    given = [f"input {text}".strip() for text in graph.given]
    width = max([width, *(2 * _MARGIN + placed.axis + 8 + text_width(text) for text in given)])
    height = placed.height + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img"><title>{escape(graph.kind)}</title>'
        f"<style>{_STYLE}</style>",
        '<defs><marker id="ms-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="h" d="M0 0 8 4 0 8z"/></marker></defs>',
        f'<g transform="translate({_MARGIN:g} {_MARGIN:g})">',
    ]
    for at, text in enumerate(given):
        parts.append(_text(placed.axis + 8, 10 + 22 * at, text, "s"))
    parts += _inside(placed)
    return "".join([*parts, "</g></svg>"])


def _inside(placed: Placed) -> Iterator[str]:
    for child in placed.inside:
        yield from _block(child)
    for line in placed.lines:
        head = ' marker-end="url(#ms-head)"' if line.has_head else ""
        yield f'<path d="{_path(line)}"{head}/>'
    for label in placed.labels:
        yield _text(label.x, label.y, label.text, "s")


def _block(placed: Placed) -> Iterator[str]:
    block = placed.block
    assert block is not None
    yield f'<g transform="translate({placed.x:.1f} {placed.y:.1f})">'
    is_group = block.name.endswith("·")
    kind = "f" if block.inside is not None else "o" if block.is_op else "g" if is_group else ""
    corner = placed.height / 2 if block.is_op else 6
    attributes = f'width="{placed.width:.1f}" height="{placed.height:.1f}" rx="{corner:g}"'
    yield f'<rect class="{kind}" {attributes}/>' if kind else f"<rect {attributes}/>"
    if block.inside is not None:
        name, kind = escape(block.name), escape(block.kind)
        yield f'<text x="10" y="16"><tspan class="n">{name}</tspan> <tspan class="k">{kind}</tspan></text>'
        yield from _inside(placed)
    else:
        lines = [text for text in (block.name, block.kind) if text]
        for at, text in enumerate(lines):
            style = "n" if at == 0 and block.name else "k" if at else ""
            yield _text(placed.width / 2, 17 + 17 * at, text, style, middle=True)
    yield "</g>"


def _text(x: float, y: float, text: str, style: str, *, middle: bool = False) -> str:
    attributes = (f' class="{style}"' if style else "") + (' text-anchor="middle"' if middle else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'


def _path(line: Line) -> str:
    """A path through the points, its corners rounded."""
    points = line.points
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        a, b = _towards(here, before), _towards(here, after)
        parts.append(f"L{a[0]:.1f} {a[1]:.1f}Q{here[0]:.1f} {here[1]:.1f} {b[0]:.1f} {b[1]:.1f}")
    parts.append(f"L{points[-1][0]:.1f} {points[-1][1]:.1f}")
    return "".join(parts)


def _towards(here: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """The point a corner's radius from here, no further than half the way."""
    dx, dy = other[0] - here[0], other[1] - here[1]
    length = abs(dx) + abs(dy)
    share = min(_CORNER, length / 2) / length if length else 0.0
    return here[0] + dx * share, here[1] + dy * share

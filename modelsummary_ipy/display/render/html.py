"""Outline -> the page: HTML that reads well with every style and script taken away, and a script that adds the rest."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from modelsummary_ipy.display.outline import Outline, build_outline
from modelsummary_ipy.display.render import formatting, header, labels
from modelsummary_ipy.display.render.detail import Operations, find_detail
from modelsummary_ipy.display.render.dim_colours import MEANINGS, Names, find_names
from modelsummary_ipy.display.render.fit import find_cache_lines, find_fit
from modelsummary_ipy.display.render.icicle import Bar, Share, build_icicle, find_shares
from modelsummary_ipy.display.render.largest import Largest, find_key, find_largest, name_rows
from modelsummary_ipy.display.render.row_views import Part, Parts, lay_out_plain, markup_detail
from modelsummary_ipy.display.render.source_listing import Details
from modelsummary_ipy.display.render.step_picture import StepPicture, build_step_picture
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.view import EVERY_LEVEL, View

#: A page of a megabyte opens in half a second; rows come first, operations and details take what is left.
_MOST_BYTES = 1_000_000
#: A page that was not asked for with all levels: notebooks of more than 256 KB are refused by some of their readers.
_USUAL_BYTES = 100_000
#: From here on rows are laid out as they come into view.
_MANY_ROWS = 300
#: Style, script, header and charts.
_FRAME_BYTES = 60_000
#: Style, script and header where they are packed.
_PACKED_FRAME_BYTES = 20_000
#: What an empty row takes, and what it takes packed.
_LEAST_ROW_BYTES = 315
_LEAST_PACKED_BYTES = 150
#: Rows and their details are packed to less than this part.
_PACKED = 1 / 12
#: What details, hidden operations and rows that weigh as much take of a page: only rows are there without a script too.
_RATES = (0.13, 0.3, 1.0)
_OPEN_ROWS = 32
#: Digits of base 85 that mean something in an attribute, in JSON or in LaTeX, and others in their place.
_SAFE_DIGITS = str.maketrans("&<>`$", ",./:[")
#: What a page with scripts has, each in a file of its own.
_SCRIPTS = ("script.js", "flow.js", "links.js")
_LISTING = re.compile(r'(<pre class="ms-x" data-at="[^"]*">)(.*?)</pre>', re.DOTALL)


def render_html(
    story: Story,
    view: View,
    *,
    standalone: bool = False,
    packed: bool = True,
    details: Details | None = None,
    operations: Operations | None = None,
    failure_text: str = "",
    failure: ForwardError | None = None,
) -> str:
    """Render a summary as a page; the same for equal input, byte by byte.

    Args:
        standalone: Whether to write a complete page, that follows the system's light or dark.
        packed: Whether what only a reader with scripts sees is compressed, and the rows are also there without it.
        details: By row index, the annotated source that is put at the end of that row's detail.
        operations: By row index, the operations that ran directly in it, with their mult-adds.
        failure_text: The explanation of a failure, ``""`` for the trace's own message.
        failure: What the banner of a failure says: its reason, a fix, sizes that work.
    """
    names = find_names(story)
    layout = Parts(story, view, names, failure_text)

    @cache
    def outline_of(most: int) -> Outline:
        return build_outline(story, replace(view, max_rows=most), open_rows=_OPEN_ROWS)

    @cache
    def detail_of(row: int) -> Markup:
        pairs = find_detail(story, view, story.rows[row], operations or {}, story.total_mult_adds)
        return markup_detail(pairs, (details or {}).get(row, ()))

    limit = _USUAL_BYTES if packed and (view.depth or 0) < EVERY_LEVEL else _MOST_BYTES
    space = limit / _PACKED if packed else limit - _FRAME_BYTES
    most = min(view.max_rows, limit // (_LEAST_PACKED_BYTES if packed else _LEAST_ROW_BYTES))
    while True:
        outline, parts, weight = _fit(view, layout, outline_of, most, space)
        num_left_out, more = _add_details(parts, detail_of, space - weight)
        footer = [*header.find_footer(story, outline)]
        if num_left_out:
            footer.append(f"details of {formatting.plural(num_left_out, 'row')} left out")
        facts = {
            "standalone": standalone,
            "parts": parts,
            "flow": "\n".join(part.flow for part in parts if part.what == "open"),
            "ops": header.write_num_ops(outline),
            "fail": () if any(part.fail for part in parts) else header.failing_lines(story, failure_text),
            "why": header.find_why(failure) if any(part.fail for part in parts) else (),
            "found": header.count_flags(story.flags),
            "gravest": header.gravest_severity(story.flags),
            "legend": [(name, names.colour(name), MEANINGS.get(name.rstrip("0123456789"), "")) for name in names.names],
            **_header(story, view, outline, names),
            **_columns(view),
        }
        page = _write(facts, footer, packed=packed, many=len(parts) > 2 * _MANY_ROWS)
        size = len(page.encode())
        if size <= limit or outline.num_nodes < 2:
            return page
        # what is left out first are details, from the least notable row on, then hidden operations, then rows
        hidden = _weigh(part for part in parts if part.is_hidden)
        space = _shrink(weight - hidden, hidden, more, size, limit, _PACKED_FRAME_BYTES if packed else _FRAME_BYTES)


def _write(facts: Mapping[str, Any], footer: Sequence[str], *, packed: bool, many: bool) -> str:
    """Write style, head and rows in full, or packed beside what is read without the script, and the frame around."""
    environment = _environment()
    template, style = environment.get_template("whole.html.j2"), _asset("style.css")
    script = Markup("\n").join(map(_asset, _SCRIPTS))
    whole, page = f"<style>{style}</style>\n{template.render(is_plain=False, **facts)}", ""
    if packed:
        page, whole = (
            _pack(whole, script),
            template.render(is_plain=True, plain_steps=lay_out_plain(facts["parts"]), **facts),
        )
        script = _asset("unpack.js")
    return environment.get_template("page.html.j2" if facts["standalone"] else "summary.html.j2").render(
        script=script, whole=Markup(whole), page=page, footer=footer, many=many, **facts
    )


def _pack(whole: str, script: str) -> str:
    """Compress markup and script as ``unpack.js`` reads them: deflated, in base 85, which no attribute needs to escape.

    Listings of source stand behind the rest, each after a control character, which no text of a page has: between rows
    that are alike they would put these out of each other's reach (T5: 45 KB; 32 so).
    """
    listings = [listing for _, listing in _LISTING.findall(str(whole))]
    text = "\x01".join([_LISTING.sub(r"\1</pre>", whole), script, *listings])
    packed = zlib.compress(text.encode("utf-8", "replace"), 7)  # 9 takes a third longer for 0.5% less
    return base64.b85encode(packed).decode().translate(_SAFE_DIGITS)


def _fit(
    view: View, layout: Parts, outline_of: Callable[[int], Outline], most: int, space: float
) -> tuple[Outline, Sequence[Part], int]:
    """Outline, parts and weight of as many rows as fit; what space is left goes to hidden operations."""
    most_ops = view.max_rows
    while True:
        outline = outline_of(most)
        max_ops = max(0, min(most_ops, min(view.max_rows, int(space) // _LEAST_ROW_BYTES) - outline.num_nodes))
        parts = layout.lay_out(outline, max_ops)
        size = _weigh(parts)
        if size <= space or most < 2:
            return outline, parts, size
        hidden = [part for part in parts if part.is_hidden]
        rows = size - _weigh(hidden)
        if rows <= space:
            num_rows = sum(part.what == "open" for part in parts)
            most_ops = max(0, len(hidden) - 1 - int((size - space) / size * num_rows))
        else:
            most_ops, most = 0, min(most - 1, int(outline.num_nodes * space / rows))


def _shrink(rows: int, hidden: int, details: int, size: int, limit: int, frame: int) -> float:
    """Return the space in which a page will fit.

    Args:
        rows, hidden, details: What a page that was too large has of each, as it was weighed.
        size: Its bytes.
        frame: About how many of them are no row's.
    """
    weights = (details, hidden, rows)  # what is left out first comes first
    rate = (size - frame) / sum(weight * part for weight, part in zip(weights, _RATES, strict=True))
    excess, space = size - 0.97 * limit, 0.0
    for weight, part in zip(weights, _RATES, strict=True):
        less = min(excess / (rate * part), weight)
        excess -= less * rate * part
        space += weight - less
    return min(space, 0.98 * sum(weights))


def _weigh(parts: Iterable[Part]) -> int:
    """About how many bytes the rows will take, and not fewer."""
    size = 0
    for part in parts:
        if part.what != "open":
            size += 11 if part.what == "close" else 130
            continue
        texts = (part.name, part.kind, part.note, part.sizes, part.title, part.numbers, *part.fail)
        size += _LEAST_ROW_BYTES + sum(len(text.encode("utf-8", "replace")) for text in texts)
        size += sum(120 + 2 * sum(map(len, flag)) for flag in part.flags)
    return size


def _header(story: Story, view: View, outline: Outline, names: Names) -> dict[str, Any]:
    given, more = header.find_given(story)
    return {
        "headline": header.find_headline(story),
        "failed": header.find_failed(story),
        "title": header.find_title(story),
        "given": [*(_given_markup(leaf, names) for leaf in given), *([escape(more)] if more else [])],
        "totals": _totals(story, view, outline),
        "key_of": partial(find_key, story, name_rows(outline)),
        "caveats": header.find_caveats(story, view),
    }


def _given_markup(given: header.Given, names: Names) -> Markup:
    """An input with its named dims in their colours: ``[B=8, 3]``."""
    dims = []
    for name, size in given.dims:
        colour = names.colour(name) if name else None
        dim = f"{escape(name)}={size}" if name else size
        dims.append(dim if colour is None else f'<b class="ms-{colour}">{dim}</b>')
    label = escape(f"{given.label} ") if given.label else ""
    return Markup(f"{label}[{', '.join(dims)}] {escape(given.rest)}")


@dataclass(frozen=True, slots=True)
class _Total:
    """One number of the header, all its digits where it has not all of them, and where it comes from."""

    number: str
    rest: str
    digits: str = ""
    label: str = ""
    bars: tuple[Bar, ...] = ()
    shares: tuple[Share, ...] = ()
    is_sum: bool = False
    largest: tuple[Largest, ...] = ()
    step: StepPicture | None = None
    kinds: tuple[Share, ...] = ()
    most: str = "most"

    @property
    def levels(self) -> int:
        return 1 + max((bar.level for bar in self.bars), default=0)


def _totals(story: Story, view: View, outline: Outline) -> list[_Total]:
    totals, keys = [], name_rows(outline)
    for (number, rest), what, label in (
        (header.find_params(story), "params", "share of parameters"),
        (header.find_macs(story, view), "flops" if view.flops else "macs", f"share of {view.work}"),
    ):
        if number:
            shares = find_shares(story, outline, what)
            bars = build_icicle(story, what)
            largest = find_largest(story, outline, keys, "params" if what == "params" else "macs")
            shares = shares if bars or len(shares) > 1 else ()
            kinds = _kinds(story, view) if what != "params" else ()
            digits = header.total_in_full(story, view, what)
            totals.append(_Total(number, rest, digits, label, bars, shares, largest=largest, kinds=kinds))
    memory = header.find_memory(story)
    if memory:
        parts = tuple(Share(name, value, "", digits) for name, value, digits in header.find_memory_parts(story, view))
        number, _, rest = memory.partition(" to ")
        step = build_step_picture(story)
        what, label = ("held", "what stands at the peak, by layer")
        if step is None:
            what, label = ("activation", "share of memory kept for the backward pass")
        bars, largest = build_icicle(story, what), find_largest(story, outline, keys, what)
        most = "most at the peak" if step else "most kept for the backward pass"
        digits = header.total_in_full(story, view, "memory")
        before, verdict, after = f"to {rest}".partition(find_fit(story).partition("; ")[0] or "\n")
        fits = "fits" if verdict and "does not" not in verdict else "misfit"
        verdict = Markup('<span class="ms-{}">{}</span>').format(fits, verdict) if verdict else ""
        rest = Markup("{}{}{}").format(before, verdict, after)
        totals.append(_Total(number, rest, digits, label, bars, parts, True, largest, step, most=most))
    return [*totals, *(_Total(*line) for line in find_cache_lines(story))]


def _kinds(story: Story, view: View) -> tuple[Share, ...]:
    total = story.total_mult_adds or 0
    return tuple(
        Share(
            name,
            text := formatting.format_short(view.count(count)),
            formatting.format_percent(count, total),
            formatting.in_full(view.count(count), text),
        )
        for name, count in header.find_kinds(story)
    )


def _columns(view: View) -> dict[str, Any]:
    """Widths: the name and the sizes share what the numbers leave."""
    heads = labels.number_heads(view)
    sized, formula, source = labels.size_head(view), "formula" in view.columns, "source" in view.columns
    left = (
        100 - (11 if formula or source or len(heads) > 3 else 15 if len(heads) < 3 else 12) * len(heads) - 15 * source
    )
    share = 34 if sized and formula else 54 if len(heads) > 3 else 46
    name = left * share // 100 if sized or formula else left
    words = (left - name) // max(1, bool(sized) + formula)
    cols = [name, *[words] * (bool(sized) + formula)]
    return {
        "heads": heads,
        "sized": sized,
        "formula": formula,
        "source": source,
        "cols": Markup("".join(f"<col width={width}%>" for width in cols)),
    }


def _add_details(parts: Sequence[Part], detail_of: Callable[[int], Markup], space: float) -> tuple[int, int]:
    """Give rows their details while there is space, notable rows first.

    Returns:
        How many got none, and what the others weigh.
    """
    rows = [part for part in parts if part.what == "open"]
    left_out = weight = 0
    for part in sorted(rows, key=lambda part: (not (part.flags or part.fail), part.is_hidden)):
        is_left_out = weight >= space
        if part.row >= 0:
            part.detail = Markup("") if is_left_out else detail_of(part.row)
        left_out += is_left_out
        weight += 0 if is_left_out else len(part.detail.encode("utf-8", "replace")) + 90
    return left_out, weight


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("modelsummary_ipy.display.render"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


@cache
def _asset(name: str) -> Markup:
    """A stylesheet or script of this package without comments and indentation; nothing of a user's goes into it."""
    text = (files("modelsummary_ipy.display.render") / name).read_text(encoding="utf-8")
    text = re.sub(r"(?s:/\*.*?\*/)|(?m:(?<!\S)//.*$)", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return Markup(
        re.sub(r"\s*([{};,>])\s*|(:)\s+", r"\1\2", " ".join(lines))
        if name.endswith(".css")
        else re.sub(r"(?<=[{;,(])\n", "", "\n".join(lines))
    )

"""What the text of a forward says the dims of its inputs are: ``ids: (batch, steps)``, ``B, T, C = x.shape``."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from modelsummary_ipy.records.trace import Trace

_BATCH = re.compile(r"(b|bs|bsz|nb|.*batch.*)$")
#: What a batch is of; where a dim is called the batch, another one that is called so is not.
_SAMPLES = re.compile(r"(n|samples|episodes|sentences|subjects)$")
_STEPS = re.compile(r"(t|l|s|.*time.*|.*steps?|seq.*|.*_?len|.*length|window|lookback|.*frames|words|.*tokens|points)$")
_FEATURES = re.compile(r"(c|d|f|e|.*channels?|.*feat.*|.*dim|hidden.*|d_model|embed.*|variates|series|.*axes|n_mels)$")
#: Names, what stands between, and a tuple of words.
_TUPLE = re.compile(
    r"(\w+(?:\s*(?:,|/|and)\s*\w+)*)\s*(?:\(\w+\))?\s*[:=]?\s*((?:(?:is|are|has|have|of|an?|the|with|in|as|shape\w*|size"
    r"|dims?|\w*tensors?|float\w*|long|int\w*|input\w*)[\s:=]+)*)[(\[]([^()\[\]]+)[)\]]"
)
_UNPACKED = re.compile(r"\s*(\w+(?:\s*,\s*\w+)+)\s*=\s*(\w+)\.(?:shape|size\(\))\s*(?:#.*)?$")
_QUOTES = ('"""', "'''")


class WrittenDims(NamedTuple):
    """What is said of one input.

    Attributes:
        roles: Per dim ``"B"``, ``"T"`` of steps, ``"F"`` of features, ``""`` of anything else.
        text: The words, and their line.
    """

    roles: tuple[str, ...]
    text: str


def match_written_dims(trace: Trace) -> dict[int, WrittenDims]:
    """Read what the forward that was traced says of its inputs, by leaf: of as many dims as the input has."""
    if not trace.modules or trace.method != "forward":
        return {}
    names, said = read_written_dims(trace.modules[0].forward_file, trace.modules[0].forward_line)
    found: dict[int, WrittenDims] = {}
    for leaf, spec in enumerate(fact.spec for fact in trace.inputs):
        place = re.fullmatch(r"\[(\d+)\]", spec.name)
        at = int(place[1]) if place is not None else 0
        name = names[at] if not spec.name.isidentifier() and at < len(names) else spec.name
        if name in said and len(said[name].roles) == len(spec.shape) and (place is not None or spec.name or leaf == 0):
            found[leaf] = said[name]
    return found


def read_written_dims(filename: str, line: int) -> tuple[list[str], dict[str, WrittenDims]]:
    """Read what docstrings, comments and unpacked shapes say of the arguments of a function of a class.

    Args:
        filename: Of the function, as ``linecache`` knows it.
        line: Its first line, that of a decorator if it has one.

    Returns:
        The names of its arguments, and what is said of some of them: each the first time.
    """
    lines = linecache.getlines(filename) if filename else []
    begin = next((at for at in range(max(line - 1, 0), len(lines)) if lines[at].lstrip().startswith("def ")), None)
    if begin is None:
        return [], {}
    depth = _indent(lines[begin])
    end = next((at for at in range(begin + 1, len(lines)) if _ends(lines[at], depth)), len(lines))
    above = next((at for at in range(begin, -1, -1) if _is_class(lines[at], depth)), begin)
    first = next((at for at in range(above, begin) if lines[at].lstrip().startswith("def ")), begin)
    names = re.findall(r"(?:^|[(,])\s*\*{0,2}(\w+)", "".join(lines[begin:end]).partition(":\n")[0].partition("(")[2])
    found: dict[str, WrittenDims] = {}
    changed: set[str] = set()
    for at, remark in [*_list_remarks(lines, above, first), *_list_remarks(lines, begin, end)]:
        for said in _TUPLE.finditer(remark):
            for name in re.split(r"\s*(?:,|/|\band\b)\s*", said[1]):
                if name in names:
                    text = re.sub(rf"^.*?\b(?={name}\b)", "", said[0], count=1)
                    found.setdefault(name, WrittenDims(_read_roles(said[3]), f"'{text}' in line {at + 1}"))
    for at in range(begin, end):
        unpacked = _UNPACKED.match(lines[at])
        if unpacked is not None and unpacked[2] in names and unpacked[2] not in changed:
            text = f"'{lines[at].partition('#')[0].strip()}' in line {at + 1}"
            found.setdefault(unpacked[2], WrittenDims(_read_roles(unpacked[1]), text))
        assigned = re.match(r"\s*(\w+(?:\s*,\s*\w+)*)\s*=[^=]", lines[at])
        changed |= set(re.split(r"\s*,\s*", assigned[1])) if assigned is not None else set()
    return names[1:] if names[:1] == ["self"] else names, found


def _read_roles(words: str) -> tuple[str, ...]:
    parts = [part.strip().lower() for part in words.rstrip(", ").split(",")]
    kinds = (("B", _BATCH), ("T", _STEPS), ("F", _FEATURES))
    roles = [next((role for role, kind in kinds if kind.match(part)), "") for part in parts]
    if _SAMPLES.match(parts[0]):
        roles[0] = "B" if "B" not in roles else roles[0]
        roles = roles if parts.count("b") == 0 else [""] * len(roles)  # of n and b nothing is known
    return tuple(roles)


def _list_remarks(lines: Sequence[str], begin: int, end: int) -> Iterator[tuple[int, str]]:
    """List comments and lines of docstrings, each with its place."""
    is_inside = False
    for at in range(begin, end):
        text = lines[at]
        quotes = sum(text.count(mark) for mark in _QUOTES)
        if is_inside or quotes:
            yield at, text
            is_inside = is_inside != (quotes % 2 == 1)
        elif "#" in text:
            yield at, text.partition("#")[2]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _ends(line: str, depth: int) -> bool:
    """Return whether a line is behind a function that is indented so far."""
    return bool(line.strip()) and _indent(line) <= depth and line.lstrip()[0] not in ")#"


def _is_class(line: str, depth: int) -> bool:
    return line.lstrip().startswith("class ") and _indent(line) < depth

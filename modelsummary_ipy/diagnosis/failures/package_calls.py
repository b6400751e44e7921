"""The call of a model of an installed package, by the user or by a line of the user's: its inputs, its fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand, is_of_package
from modelsummary_ipy.diagnosis.failures.fixes import fix_line
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.source_edits import change_call
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, put_in_brackets
from modelsummary_ipy.diagnosis.failures.statements import list_forward_parameters
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate, GivenEdit
from modelsummary_ipy.records.trace import Call, ModuleFact, TensorSpec

FLOATING = ("float32", "float64", "float16", "bfloat16")
#: What a change is: of no chance where it fits, and no other failure is repaired with it.
_RANK = -1


class Given(NamedTuple):
    """One input of the model.

    Attributes:
        name: The parameter that it goes to, ``"x"`` if that is not known.
        spec: What came.
        leaf: Which leaf of the user's own input it is; ``None`` if it was made.
    """

    name: str
    spec: TensorSpec
    leaf: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.spec.shape

    @property
    def is_floating(self) -> bool:
        """Whether it holds numbers, as pixels do."""
        return self.spec.dtype in FLOATING or (self.spec.dtype == "uint8" and len(self.shape) > 2)

    @property
    def text(self) -> str:
        """``"pixel_values [2, 224, 224, 3]"``."""
        return f"{self.name} {write_shape(self.shape)}"


@dataclass(frozen=True)
class PackageCall:
    """The outermost call of a package's model around a failure.

    Attributes:
        ctx: The failure.
        call: The call; the first of all if the user's model is the package's.
        fact: The model.
        names: The parameters of its forward; none if its code can't be read.
        givens: Its inputs.
    """

    ctx: FailureContext
    call: Call
    fact: ModuleFact
    names: tuple[str, ...]
    givens: tuple[Given, ...]

    @property
    def is_root(self) -> bool:
        """Whether the user gives the inputs, and no line of a model of the user's does."""
        return self.call.parent is None

    def change(self, changes: dict[str, str]) -> Candidate:
        """Call the model with other arguments.

        Args:
            changes: Parameters and what they get: ``{"labels": "{}.long()"}``, where ``{}`` is what is given, and
                ``{input_ids}`` another argument; ``"None"`` leaves one out.

        Returns:
            ``"model(x.permute(0, 3, 1, 2))"``, ``"labels = labels.long()"``, a line that calls it otherwise.
        """
        if not self.is_root:
            return self._change_line(changes)
        given = [item.name for item in self.givens]
        texts = dict(zip(given, given, strict=True))
        codes = {name: code.format(name, **texts) for name, code in changes.items()}
        is_first = not self.names or given[0] == self.names[0]
        if not all(name in given and code != "None" for name, code in codes.items()):
            kept = {**texts, **codes}
            text = f"model({', '.join(f'{name}={code}' for name, code in kept.items() if code != 'None')})"
        elif len(given) > 1 or not is_first:
            text = "; ".join(f"{name} = {code}" for name, code in codes.items())
        else:
            text = f"model({codes[given[0]]})"
        return Candidate(text, (GivenEdit(tuple(codes.items())),), rank=_RANK)

    def _change_line(self, changes: dict[str, str]) -> Candidate:
        at = self.ctx.at_line_of(self.call)

        def edit(given: list[str], named: dict[str, str]) -> Arguments | None:
            if any(text.startswith("*") for text in given) or len(given) > len(self.names):
                return None
            positional = dict(zip(self.names, given, strict=False))
            texts = {name: put_in_brackets(text) for name, text in {**positional, **named}.items()}
            if not all(name in texts or "{}" not in code for name, code in changes.items()):
                return None
            codes = {name: code.format(texts.get(name, ""), **texts) for name, code in changes.items()}
            kept = {**positional, **named, **codes}
            first = []
            for name in self.names[: len(given)]:
                if kept[name] == "None":
                    break  # what comes after it is named
                first.append(kept.pop(name))
            return first, {name: code for name, code in kept.items() if code != "None"}

        found = fix_line(at, change_call(at.line, name_member(self.call.path), edit))
        return Candidate(found.text, found.edits, rank=_RANK)


def find_package_call(ctx: FailureContext) -> PackageCall | None:
    """Find the outermost call of a package's model around a failure; ``None`` if there is none, or no line calls it."""
    if not ctx.trace.calls:
        return None
    for call in _list_outermost(ctx):
        fact = ctx.flow.module_of(call)
        if fact is None or not is_of_package(fact) or not fact.children:  # a layer alone is none
            continue
        if call.parent is None and ctx.trace.method != "forward":
            return None
        if call.parent is not None and (call.source is None or ctx.at_line_of(call).is_in_package):
            return None
        names = list_forward_parameters(fact)
        givens = _list_givens(ctx, call, names)
        is_named = all(given.name.isidentifier() for given in givens)
        return PackageCall(ctx, call, fact, names, givens) if givens and is_named else None
    return None


def find_root_call(ctx: FailureContext) -> PackageCall | None:
    """Find the user's call of the model itself, whoever wrote it; ``None`` where its parameters are not known."""
    call = ctx.trace.calls[0] if ctx.trace.calls else None
    fact = ctx.flow.module_of(call) if call is not None and ctx.trace.method == "forward" else None
    names = list_forward_parameters(fact) if fact is not None else ()
    if call is None or fact is None or not names:
        return None
    givens = _list_givens(ctx, call, names)
    is_named = all(given.name.isidentifier() for given in givens)
    return PackageCall(ctx, call, fact, names, givens) if givens and is_named else None


def _list_outermost(ctx: FailureContext) -> list[Call]:
    """List the calls around the failed one, the outermost first, and itself; the model's own, if it failed outside."""
    found = [*ctx.flow.around(ctx.call)][::-1]
    return [*found, ctx.call] if ctx.call.index >= 0 else [ctx.trace.calls[0]]


def _list_givens(ctx: FailureContext, call: Call, names: tuple[str, ...]) -> tuple[Given, ...]:
    places = {f"[{place}]": name for place, name in enumerate(names)} | {"": names[0] if names else "x"}
    if call.parent is None:
        specs = [fact.spec for fact in ctx.trace.inputs]
        return tuple(Given(places.get(spec.name, spec.name), spec, leaf) for leaf, spec in enumerate(specs))
    return tuple(Given(places.get(x.spec.name, x.spec.name), x.spec, _find_leaf(x)) for x in ctx.operands_of(call))


def _find_leaf(x: Operand) -> int | None:
    return x.link.leaf if x.link is not None and x.link.call < 0 else None


def change_leaf(ctx: FailureContext, x: Operand, template: str) -> Candidate:
    """Change the one input that a tensor was made of, where a package's model is called; else nothing."""
    found = find_package_call(ctx)
    sources = ctx.flow.sources(x.link)
    given = [item for item in found.givens if item.leaf is not None and item.leaf in sources] if found else []
    return found.change({given[0].name: template}) if found is not None and len(given) == 1 else NOTHING


def name_field(package: PackageCall, size: int, pattern: str) -> str:
    """Name the field of a configuration that is a size: ``" (config.num_channels)"``; ``""`` if none is."""
    for fact in _list_configured(package):
        for name, value in fact.config.items():
            if value == size and re.search(pattern, name):
                return f" (config.{name})"
    return ""


def list_fields(package: PackageCall, pattern: str) -> list[int]:
    """List the sizes in the fields of the configurations whose names a pattern is found in."""
    fields = (item for fact in _list_configured(package) for item in fact.config.items())
    found = [value for name, value in fields if type(value) is int and value > 0 and re.search(pattern, name)]
    return list(dict.fromkeys(found))


def _list_configured(package: PackageCall) -> list[ModuleFact]:
    """List the model and the parts of it that have a configuration."""
    lead = f"{package.fact.path}." if package.fact.path else ""
    return [fact for fact in package.ctx.trace.modules if fact.config and f"{fact.path}.".startswith(lead)][:50]

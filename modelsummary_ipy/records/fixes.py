"""Fixes as facts: what is to be changed, where, and what the model then gives. Nothing here is text for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from modelsummary_ipy.records.packages import PACKAGES
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import TensorSpec, Trace


class LineEdit(NamedTuple):
    """Lines of the user's code become others.

    Attributes:
        filename: The code object's ``co_filename``.
        first, last: The 1-based lines that are replaced.
        text: What stands there then, without the indentation of the first line.
    """

    filename: str
    first: int
    last: int
    text: str


def change_lines(lines: Sequence[str], edits: Iterable[LineEdit]) -> list[str]:
    """Replace lines of a file; what replaces them is indented as the first of them was."""
    changed = list(lines)
    for edit in sorted(edits, key=lambda edit: -edit.first):
        old = lines[edit.first - 1]
        indent = old[: len(old) - len(old.lstrip())]
        changed[edit.first - 1 : edit.last] = [f"{indent}{row}\n" if row else "\n" for row in edit.text.splitlines()]
    return changed


class LayerEdit(NamedTuple):
    """What is kept at a path becomes the value of an expression: a layer, a parameter, a plain value.

    Attributes:
        path: ``"head.proj"``; ``""`` for the model, which gets the parts of one that is made anew.
        code: ``"nn.Linear(3136, 10)"``; what is there, if it is no module, is ``old``: ``"old()"``.
        written: The same with the user's own names, ``"Block(width, 64)"``; ``""`` if it has none.
    """

    path: str
    code: str
    written: str = ""


class AroundEdit(NamedTuple):
    """A layer that no line of the user's calls gets another input, and gives another output.

    Attributes:
        path: Of the layer.
        before: Its argument, made of ``x``: ``"x.flatten(1)"``.
        after: Its result, made of ``y``; ``""`` leaves it.
        layer: A layer that does the same, in front of it in an ``nn.Sequential``; ``""`` if there is none.
    """

    path: str
    before: str
    after: str = ""
    layer: str = ""


class SettingEdit(NamedTuple):
    """A layer, and all in it that have the setting, get another value of it: ``batch_first`` of a Transformer."""

    path: str
    name: str
    value: object


class ConfigEdit(NamedTuple):
    """A model of the ``transformers`` is made anew, of its configuration with another value of a field.

    Attributes:
        path: Of the model, ``""`` if it is the model itself.
        name: Of the field, ``"text_config.vocab_size"``.
        value: What it is to be.
    """

    path: str
    name: str
    value: int


class RemadeEdit(NamedTuple):
    """The model is made anew by a call, with the lines of its classes that other edits change.

    Attributes:
        code: ``"ResNet(Bottleneck, [2, 2])"``; ``old`` is the model that is there.
    """

    code: str


class ModeEdit(NamedTuple):
    """The model is put in train or eval mode."""

    training: bool


class InputEdit(NamedTuple):
    """The model is given other inputs; ``specs`` has one ``TensorSpec`` per input leaf."""

    specs: tuple[TensorSpec, ...]


class GivenEdit(NamedTuple):
    """The model is called with other arguments.

    Attributes:
        arguments: Name of a parameter and what it gets, an expression of the given ones by their names:
            ``("labels", "labels.long()")``; ``"None"`` leaves it out.
    """

    arguments: tuple[tuple[str, str], ...]


Edit = LineEdit | LayerEdit | AroundEdit | SettingEdit | ConfigEdit | RemadeEdit | ModeEdit | InputEdit | GivenEdit


@dataclass(frozen=True)
class Candidate:
    """A change that may make the model run; false if there is nothing to change.

    Attributes:
        text: The change as a person would write it, ``"return self.fc(x.flatten(1))"``.
        edits: The same, to be applied to a shadow.
        rank: 0 for what is written for the failure's reason; larger for what was only guessed, smaller for what is no
            chance where it fits.
        links: How many further failures it repairs.
    """

    text: str = ""
    edits: tuple[Edit, ...] = ()
    rank: int = 0
    links: int = 0

    def __bool__(self) -> bool:
        return bool(self.text)

    @property
    def edits_a_package(self) -> bool:
        """Whether it changes a line of an installed package, which is not the user's to change."""
        return any(isinstance(edit, LineEdit) and edit.filename.startswith(PACKAGES) for edit in self.edits)

    def __add__(self, other: Candidate) -> Candidate:
        """Both; nothing if one of them is nothing."""
        if not self or not other:
            return Candidate()
        return Candidate(f"{self.text}\n{other.text}", (*self.edits, *other.edits), max(self.rank, other.rank))


@dataclass(frozen=True)
class Fix:
    """A change that was applied to a copy of the model and traced to the end.

    Attributes:
        text: What to change, in code.
        patch: The same as a unified diff against the user's file or cell; ``None`` where there is no source to patch.
        outputs: What the model then gives.
        changes_input: Whether it is the input that changes.
        source: The class or function as it is then, whole; ``""`` without a patch.
    """

    text: str
    patch: str | None
    outputs: tuple[TensorSpec, ...]
    changes_input: bool = False
    source: str = ""


@dataclass(frozen=True)
class Trial:
    """A candidate that was applied to a shadow and traced.

    Attributes:
        candidate: What was changed.
        trace: What was recorded.
    """

    candidate: Candidate
    trace: Trace

    @property
    def works(self) -> bool:
        """Whether the forward ran to its end."""
        return self.trace.failure is None


@dataclass(frozen=True)
class Verdict:
    """What is known of the model with a fix that works.

    Attributes:
        keeps_batch: Whether the model runs with one more in the batch, and each output has one more then; ``None`` if
            the input has no batch.
        flags: What the rules find.
    """

    keeps_batch: bool | None = None
    flags: tuple[Flag, ...] = ()

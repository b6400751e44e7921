"""What the names of a failed function stood for, and which of the known ones are like one that was not found."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from types import FrameType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.records.errors import write_error
from modelsummary_ipy.records.trace import Held

#: No more names, and items of one container, are written down.
_MOST_NAMES = 200
_MOST_ITEMS = 32
_ABSENT = object()
_NAMED = re.compile(r"'(\w+)'")
_KEYWORD = re.compile(r"^([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")
_COMBINATION = re.compile(r"\(\) received an invalid combination of arguments - got \([^)]*?(\w+)=")

#: Keywords of other libraries and older releases, by what torch calls them.
_KEYWORDS = {"axes": "dim", "axis": "dim", "dims": "dim", "keepdims": "keepdim", "keep_dims": "keepdim", "rate": "p",
             "prob": "p", "dropout": "p", "mask": "attn_mask", "src": "input", "temperature": "tau",
             "ksize": "kernel_size", "filters": "out_channels", "scale": "scale_factor"}  # fmt: skip


def describe_names(frame: FrameType) -> dict[str, Held]:
    """Describe what the names of a function stood for: ``{"n": Held("int", ("2",)), "act": Held("type", ("ReLU",))}``.

    No code of the user's is run: properties are not read.
    """
    code, found = frame.f_code, {}
    owner = next((name for name, value in frame.f_locals.items() if isinstance(value, nn.Module)), "")
    owner = "self" if isinstance(frame.f_locals.get("self"), nn.Module) else owner
    for name, value in list(frame.f_locals.items())[:_MOST_NAMES]:
        found[name] = _describe(value)
    for name in code.co_names[:_MOST_NAMES]:
        own = find_own(frame.f_locals[owner], name) if owner else _ABSENT
        if own is not _ABSENT:
            found[f"{owner}.{name}"] = _describe(own)
        if name in frame.f_globals and name not in found:
            found[name] = _describe(frame.f_globals[name])
    return found


def find_own(owner: nn.Module, name: str) -> Any:
    """Return what a module has under a name, without running code of the user's."""
    for place in (vars(owner), owner._modules, owner._parameters, owner._buffers):
        if name in place:
            return place[name]
    return next((vars(kind)[name] for kind in type(owner).__mro__ if name in vars(kind)), _ABSENT)


def _describe(value: Any) -> Held:
    if isinstance(value, ModuleType):
        return Held("module", (value.__name__,))
    if isinstance(value, type):
        return Held("type", (value.__name__,))
    if isinstance(value, nn.Parameter):
        return Held("Parameter")
    if isinstance(value, Tensor):
        return Held("Tensor", shape=() if value.is_nested else tuple(value.shape))
    if type(value) in (int, float, str):
        return Held(type(value).__name__, (repr(value)[:80],))
    kind = type(value).__name__
    if isinstance(value, (nn.Sequential, nn.ModuleList)):
        return Held(kind, tuple(type(item).__name__ for item in list(value._modules.values())[:_MOST_ITEMS]))
    if isinstance(value, nn.ModuleDict):
        return Held(kind, tuple(map(repr, list(value._modules)[:_MOST_ITEMS])))
    if type(value) in (list, tuple):
        return Held(kind, tuple(_describe(item).kind for item in value[:_MOST_ITEMS]))
    if isinstance(value, dict):
        return Held(
            kind, tuple(repr(key)[:80] for key in list(dict.keys(value))[:_MOST_ITEMS] if type(key) in (str, int))
        )
    return Held(kind)


def list_near(error: BaseException, frame: FrameType) -> tuple[str, ...]:
    """List the names that are like one that was not found, the likeliest first, where the name was looked for."""
    word, message = getattr(error, "name", None), write_error(error)
    if isinstance(error, AttributeError) and isinstance(word, str):
        return _match(word, _list_attributes(getattr(error, "obj", None)))
    if isinstance(error, NameError) and (named := _NAMED.search(message)):
        return _match(named[1], [*frame.f_locals, *frame.f_globals])
    if type(error) is TypeError and (called := _KEYWORD.search(message)):
        return _match_keyword(called[2], _list_parameters(called[1], frame))
    if type(error) is TypeError and (called := _COMBINATION.search(message)):
        return _match_keyword(
            called[1], re.findall(r"(\w+)(?: = [^,)]+)?[,)]", "".join(re.findall(r"^ *\* \(.*", message, re.MULTILINE)))
        )
    return ()


def _match_keyword(word: str, known: list[str]) -> tuple[str, ...]:
    if word in known:  # something else was wrong
        return ()
    alias = (_KEYWORDS[word],) if _KEYWORDS.get(word) in known else ()
    return tuple(dict.fromkeys([*alias, *_match(word, known)]))


def _match(word: str, known: Iterable[str]) -> tuple[str, ...]:
    names = list(dict.fromkeys(name for name in known if name != word))
    flat = word.replace("_", "").lower()
    same = [name for name in names if name.replace("_", "").lower() == flat]
    longer = [name for name in names if name.lower().startswith(f"{word.lower()}_")]
    parts = [name for name in names if len(word) > 2 and word.lower() in name.lower().split("_")]  # "k"
    return tuple(dict.fromkeys([*same, *longer, *parts, *difflib.get_close_matches(word, names, 3, 0.6)]))[:4]


def _list_attributes(value: Any) -> list[str]:
    if isinstance(value, nn.Module):
        own = [*vars(value), *value._modules, *value._parameters, *value._buffers]
        kinds = [
            kind for kind in type(value).__mro__ if not kind.__module__.startswith("torch.") and kind is not object
        ]
        own += [name for kind in kinds for name in vars(kind)]
        return [name for name in own if not name.startswith("_")] + ["training"]
    if isinstance(value, ModuleType):
        return [name for name in vars(value) if not name.startswith("_")]
    return [name for kind in type(value).__mro__ for name in vars(kind) if not name.startswith("_")]


def _list_parameters(function: str, frame: FrameType) -> list[str]:
    """List the parameters of a function that a line of the frame calls, by the name that Python's message has."""
    last = function.rpartition(".")[2]
    owners = [*frame.f_globals.values(), *_list_modules(frame), nn.functional]
    for owner in owners:
        found = owner if isinstance(owner, FunctionType) else _look_up(owner, last)
        if isinstance(found, FunctionType) and function in (found.__qualname__, found.__name__):
            return [name for name in inspect.signature(found).parameters if name != "self"]
    known: Mapping[Any, Any] = torch.overrides.get_testing_overrides()
    made = [known[item] for item in (vars(torch).get(last), getattr(Tensor, last, None)) if item in known]
    return list(inspect.signature(made[0]).parameters) if made else []


def _look_up(owner: Any, name: str) -> Any:
    if isinstance(owner, ModuleType):
        return vars(owner).get(name)
    kind = owner if isinstance(owner, type) else type(owner) if isinstance(owner, nn.Module) else None
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None) if kind is not None else None


def _list_modules(frame: FrameType) -> list[nn.Module]:
    return [item for value in frame.f_locals.values() if isinstance(value, nn.Module) for item in value.modules()]

"""Templates whose shadows are changed, by a fix or by code; nothing of the user's is changed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.fake.fake_mode import FakeMode
from modelsummary_ipy.isolation.global_state import draws_undone
from modelsummary_ipy.isolation.shadow import Shadow, ShadowTemplate
from modelsummary_ipy.model.module_tree import ModuleTree, read_tree
from modelsummary_ipy.records.fixes import (
    AroundEdit,
    ConfigEdit,
    Edit,
    GivenEdit,
    LayerEdit,
    LineEdit,
    ModeEdit,
    RemadeEdit,
    SettingEdit,
)
from modelsummary_ipy.torch_compat.fakes import disable_function
from modelsummary_ipy.tracing.edited_source import UnfitEditError, bind_edited, edit_class
from modelsummary_ipy.tracing.made_anew import GuessedValues, make_unfilled, take_dtype

#: So many sizes may be others in a model that was made anew: of a table, and of what depends on it.
_MOST_OTHER_SIZES = 2
#: What the expressions of a fix may name.
_NAMES: dict[str, Any] = {"nn": nn, "torch": torch, "F": F}


class ChangedModel(ShadowTemplate):
    """A template whose shadows run code first: ``model.get_submodule("block").inplace = True``.

    Args:
        code: Written by this package; it reads the copy as ``model``. What it raises is raised when a shadow is built.
    """

    def __init__(self, template: ShadowTemplate, code: str) -> None:
        vars(self).update(vars(template))
        self._code = compile(code, "<patch>", "exec")

    def build_fake_shadow(self, fake_mode: FakeMode | None = None, *, lazy: bool = False) -> Shadow:
        """Make a copy that the code has changed."""
        work = super().build_fake_shadow(fake_mode, lazy=lazy)
        exec(self._code, {"model": work.module})
        return work


class FixedModel(ShadowTemplate):
    """A template whose shadows have a fix applied to them."""

    def __init__(self, template: ShadowTemplate, edits: Sequence[Edit]) -> None:
        vars(self).update(vars(template))
        self.tree: ModuleTree = copy.copy(template.tree)
        self.tree.modules, self.tree.params = list(template.tree.modules), list(template.tree.params)
        self._edits = tuple(edits)

    def build_fake_shadow(self, fake_mode: FakeMode | None = None, *, lazy: bool = False) -> Shadow:
        """Make a copy with the fix; its weights are made at once."""
        work = super().build_fake_shadow(fake_mode)
        assert work.fake_mode is not None
        for edit in self._edits:
            if isinstance(edit, RemadeEdit):
                self._remake(work, edit)
                return work
        with disable_function(), work.fake_mode, torch.device(work.device):
            self.apply(work)
        return work

    def apply(self, work: Shadow) -> None:
        """Apply the fix to a shadow.

        Raises:
            UnfitEditError: If it can't be applied.
        """
        for edit in self._edits:
            if isinstance(edit, LayerEdit):
                self._set_value(work, edit)
            elif isinstance(edit, AroundEdit):
                _set_around(work, edit)
            elif isinstance(edit, GivenEdit):
                _set_given(work.module, edit)
            elif isinstance(edit, ConfigEdit):
                self._set_config(work, edit)
            elif isinstance(edit, SettingEdit):
                self._set_everywhere(work, edit)
            elif isinstance(edit, ModeEdit):
                work.module.train(edit.training)
            elif isinstance(edit, RemadeEdit):
                raise UnfitEditError("a model is made anew with fakes only: its weights may take any memory")
        lines = [edit for edit in self._edits if isinstance(edit, LineEdit)]
        if lines:
            bind_edited(work.modules, lines)

    def _remake(self, work: Shadow, edit: RemadeEdit) -> None:
        """Put a model that a call makes, with all lines changed, in the place of the one that is there."""
        old = work.module
        names = edit_class(type(old), [edit for edit in self._edits if isinstance(edit, LineEdit)], edit.code)
        names["old"] = old
        try:
            with draws_undone():
                made = make_unfilled(work, edit.code, names)
        except Exception as error:  # the user's class refuses what was changed, or the call reads a name of a function
            raise UnfitEditError(str(error)) from error
        if not isinstance(made, nn.Module):
            raise UnfitEditError(edit.code)
        take_dtype(made, next(iter(old.parameters()), None))
        made.train(old.training)
        with draws_undone():
            tree = self.tree = read_tree(made)
        work.module, work.modules = made, list(tree.objects)
        work.index_of = {id(module): index for index, module in enumerate(tree.objects)}
        work.param_tensors = dict(enumerate(tree.tensors))
        work.param_of = {id(tensor): index for index, tensor in enumerate(tree.tensors)}
        tree.forget_objects()

    def _set_everywhere(self, work: Shadow, edit: SettingEdit) -> None:
        """Set a plain attribute of a layer and of those in it that have it."""
        for module in _find_module(work, edit.path).modules():
            if edit.name in vars(module):
                setattr(module, edit.name, edit.value)
                index = work.index_of[id(module)]
                fact = self.tree.modules[index]
                self.tree.modules[index] = fact._replace(settings={**fact.settings, edit.name: edit.value})

    def _set_value(self, work: Shadow, edit: LayerEdit) -> None:
        owner_path, _, name = edit.path.rpartition(".")
        owner: Any = _find_module(work, owner_path)
        old = owner._modules.get(name) if edit.path else work.module
        try:
            with draws_undone(), nullcontext() if edit.path else GuessedValues():
                # A module of the user's that is made anew is written by the name of its class.
                own = {type(old).__name__: type(old)} if old is not None and edit.written else {}
                value = eval(edit.code, {**_NAMES, **own, "old": vars(owner).get(name)})
        except Exception as error:  # torch, or the user's class, refuses these settings
            raise UnfitEditError(str(error)) from error
        if not edit.path:
            self._take_parts(work, value)
        elif isinstance(value, nn.Module):
            like = next(iter((old if old is not None else work.module).parameters()), None)
            take_dtype(value, like)
            value.train((old if old is not None else owner).training)
            owner.__dict__.pop(name, None)  # it was None
            owner._modules[name] = value
            self._add_facts(work, edit.path, value)
        elif isinstance(value, Tensor):
            held = owner._parameters if name in owner._parameters else owner._buffers
            old_tensor = held.get(name)
            if old_tensor is None:
                raise UnfitEditError(name)
            if value.dtype != old_tensor.dtype and not value.is_complex():
                value = value.to(old_tensor.dtype)
                value = nn.Parameter(value) if held is owner._parameters else value
            held[name] = value
            self._add_param(work, edit.path, value)
        else:
            if name not in owner.__dict__:
                raise UnfitEditError(name)
            setattr(owner, name, value)

    def _set_config(self, work: Shadow, edit: ConfigEdit) -> None:
        """Make a model anew, of a copy of its configuration with another value of a field."""
        old: Any = _find_module(work, edit.path)
        config = copy.deepcopy(old.config)
        *parts, name = edit.name.split(".")
        owner = config
        for part in parts:
            owner = getattr(owner, part)
        setattr(owner, name, edit.value)
        try:
            with draws_undone(), GuessedValues():
                made = type(old)(config)
        except Exception as error:  # the class refuses the configuration
            raise UnfitEditError(str(error)) from error
        self._take_parts(work, made, edit.path)

    def _take_parts(self, work: Shadow, made: nn.Module, path: str = "") -> None:
        """Give a module all that one of its class that was made anew has, where only one or two sizes are others.

        Raises:
            UnfitEditError: If more is another: it was made with other arguments.
        """
        old = _find_module(work, path)
        before, after = ({name: tensor.shape for name, tensor in _list_tensors(module)} for module in (old, made))
        pairs = {pair for name in before.keys() & after.keys() for pair in zip(before[name], after[name], strict=False)}
        if before.keys() != after.keys() or len({pair for pair in pairs if pair[0] != pair[1]}) > _MOST_OTHER_SIZES:
            raise UnfitEditError(path)
        lead = f"{path}." if path else ""
        like = next(iter(old.parameters()), None)
        take_dtype(made, like)
        made.train(old.training)
        for name, value in vars(made).items():
            if name not in ("_parameters", "_buffers", "_modules") and not name.startswith(("_forward", "_backward")):
                vars(old)[name] = value
        for name, child in made._modules.items():
            old._modules[name] = child
            if child is not None:
                self._add_facts(work, f"{lead}{name}", child)
        for tensors, new in ((old._parameters, made._parameters), (old._buffers, made._buffers)):
            tensors.update(new)  # type: ignore[arg-type]  # parameters of the one are of the other
            for name, tensor in new.items():
                if tensor is not None:
                    self._add_param(work, f"{lead}{name}", tensor)

    def _add_facts(self, work: Shadow, path: str, module: nn.Module) -> None:
        """Write down the modules of a layer that was put at a path, in the place of those that were there."""
        with draws_undone():
            tree = read_tree(module)
        index_at = {known: fact.index for fact in self.tree.modules for known in fact.paths}
        place_of: dict[int, int] = {}
        for number, inner in enumerate(tree.objects):
            fact = tree.modules[number]
            where = f"{path}.{fact.path}" if fact.path else path
            known = index_at.get(where)
            place_of[number] = len(self.tree.modules) if known is None else known
            parent = index_at.get(path.rpartition(".")[0], 0) if fact.parent is None else place_of[fact.parent]
            params = tuple(
                self._add_param(work, f"{path}.{tree.params[param].names[0]}", tree.tensors[param])
                for param in fact.params
            )
            made = fact._replace(index=place_of[number], paths=(where,), parent=parent, params=params, children=())
            if known is None:
                self.tree.modules.append(made)
                above = self.tree.modules[parent]
                self.tree.modules[parent] = above._replace(children=(*above.children, made.index))
            else:
                children = self.tree.modules[known].children if fact.children else ()
                paths = self.tree.modules[known].paths
                self.tree.modules[known] = made._replace(children=children, paths=paths)
            work.index_of[id(inner)] = made.index
            work.modules.append(inner)

    def _add_param(self, work: Shadow, name: str, tensor: Tensor) -> int:
        params = self.tree.params
        old = next((fact for fact in params if name in fact.names), None)
        index = len(params) if old is None else old.index
        with draws_undone():
            fact = read_tree(_Holder(tensor)).params[0]
        fact = fact._replace(index=index, names=(name,) if old is None else old.names)
        if old is None:
            params.append(fact)
        else:
            params[index] = fact
        work.param_of[id(tensor)] = index
        work.param_tensors[index] = tensor
        return index


def _list_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


class _Holder(nn.Module):
    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        if isinstance(tensor, nn.Parameter):
            self.value = tensor
        else:
            self.register_buffer("value", tensor)


def _find_module(work: Shadow, path: str) -> nn.Module:
    """Return a registered module; a layer in a plain object, which has none above it, can't be set by its path."""
    try:
        return work.module.get_submodule(path)
    except AttributeError as error:
        raise UnfitEditError(path) from error


def _set_around(work: Shadow, edit: AroundEdit) -> None:
    """Let a layer read another input, and return another output."""
    layer = _find_module(work, edit.path)
    run = layer.forward
    before = compile(edit.before, "<fix>", "eval")
    after = compile(edit.after, "<fix>", "eval") if edit.after else None

    def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
        y = run(eval(before, {**_NAMES, "x": x}), *args, **kwargs)
        return y if after is None else eval(after, {**_NAMES, "y": y})

    layer.__dict__["forward"] = forward


def _set_given(model: nn.Module, edit: GivenEdit) -> None:
    """Let the model read other arguments than it is called with."""
    run = model.forward
    names = [*inspect.signature(run).parameters]
    codes = {name: compile(code, "<fix>", "eval") for name, code in edit.arguments}

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        scope = {**_NAMES, **({"x": args[0]} if args else {}), **given}
        made = {name: eval(code, scope) for name, code in codes.items()}
        first = [made.pop(name, value) for name, value in zip(names, args, strict=False)]
        if args and "x" in made and "x" not in names:
            first[0] = made.pop("x")
        return run(*first, *args[len(first) :], **{**kwargs, **made})

    model.__dict__["forward"] = forward

"""Which storages live at which moment of a training step, which call made them, and the products of its backward."""

from __future__ import annotations

import functools
import math
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.costs.mac_formulas import count_aten_op
from modelsummary_ipy.costs.workspaces import count_lstm_workspace
from modelsummary_ipy.fake.fake_mode import FakeMode
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.records.trace import AtenOp
from modelsummary_ipy.records.training import Category, Phase
from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of
from modelsummary_ipy.torch_compat.modules import node_numbers, storage_address, storage_key
from modelsummary_ipy.tracing.aten_ops import gives_back, write_counted
from modelsummary_ipy.tracing.call_builder import RunningCall
from modelsummary_ipy.tracing.storages import find_storage

_gives_back = functools.cache(gives_back)

_ATEN = torch.ops.aten
_MUL = _ATEN.mul.Tensor
_LSTM_LAYER = _ATEN.mkldnn_rnn_layer.default
#: Products of vectors, which go back by products element by element.
_OF_VECTORS = frozenset({_MUL, _ATEN.mv.default, _ATEN.addmv.default, _ATEN.dot.default, _ATEN.vdot.default})


def _requires_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


class Life(weakref.ref[torch.UntypedStorage]):
    """A storage from its birth on.

    Attributes:
        address: Where it is while it lives.
        nbytes, birth, category: As ``StorageLife`` has them.
        death: The last moment of its life; ``None`` while it lives.
        phase: What ran when it was made.
        call: The call that ran then.
        node: The number of the autograd node that ran then, ``None`` if none did.
        turn: How many nodes had begun then, and ``last_turn`` when it died.
        param: Index of the parameter that it belongs to.
        is_gone: Whether it does not belong to the step.
    """

    __slots__ = (
        "address", "birth", "call", "category", "death", "is_gone", "last_turn", "nbytes", "node", "param", "phase",
        "turn",
    )  # fmt: skip
    address: int
    nbytes: int
    birth: int
    death: int | None
    category: Category | None
    phase: Phase
    call: RunningCall | None
    node: int | None
    turn: int
    last_turn: int
    param: int | None
    is_gone: bool


class StepLog:
    """Writes down every storage of a step while it runs; in the place of an ``AtenLog``.

    Args:
        current: Returns the call that runs now, ``None`` outside all calls.

    Attributes:
        lives: Every storage, in the order of their births.
        moments: ``(phase, running call, autograd node)`` of everything that made storages; the first is the beginning.
        phase: What runs; set by whoever runs the step.
        node: The number of the autograd node that runs or ran last: below zero for one that adds to a gradient.
        is_warming: Whether the optimizer makes its state, which a later step finds there.
        products: What multiplied and added in the backward, with the call and the node that ran then.
    """

    peak_bytes = None
    knows_saved = goes_backward = saw_threads = counts_layers = False
    input_storages: tuple[tuple[int, int], ...] = ()

    def __init__(self, current: Callable[[], RunningCall | None], work: Shadow) -> None:
        self._current = current
        self._work = work
        self._known: dict[int, Life] = {}
        self._turn = 0
        self.node: int | None = None
        self._numbers: list[int] = []
        self._makers: list[RunningCall | None] = []
        self.lives: list[Life] = []
        self.moments: list[tuple[Phase, RunningCall | None, int | None]] = [("forward", None, None)]
        self.phase: Phase = "forward"
        self.is_warming = False
        self.products: list[tuple[RunningCall | None, int | None, AtenOp]] = []
        self._of_vectors: dict[int, AtenOp] = {}

    def begin(self, params: Iterable[Tensor], inputs: Iterable[Tensor]) -> None:
        """Begin with parameters, buffers and inputs, which live to the end."""
        kinds = self._work.param_of
        for tensor in params:
            self._follow(tensor, "parameter", kinds.get(id(tensor)))
        for tensor in inputs:
            self._follow(tensor, "input")
        for index, tensor in self._work.param_tensors.items():
            if tensor.is_leaf and tensor.grad is not None:  # of the batches before
                self._follow(tensor.grad, "gradient", index)

    def close(self) -> None:
        """Let go of the storages that outlive the step."""
        for life in self._known.values():
            life.last_turn = self._turn + 1
        self._known.clear()
        self._current = lambda: None

    @contextmanager
    def recording(self, fake_mode: FakeMode | None) -> Iterator[StepLog]:
        """Record while the block runs."""
        assert fake_mode is not None
        fake_mode.listener = self._record
        try:
            with fake_mode:
                yield self
        finally:
            fake_mode.listener = None

    def begin_optimizer(self) -> None:
        """Note what lives when the optimizer's step begins, which need not make a storage."""
        self.is_warming = False
        self.moments.append(("optimizer", None, None))

    def add_lazy(self, params: Mapping[int, Tensor]) -> None:
        """Count parameters that got their size in the forward as there from the beginning."""
        for index, tensor in params.items():
            life = self._follow(tensor, "parameter", index)
            if life is not None and life.category is None:
                life.category, life.param = "parameter", index
            if life is not None:
                life.birth = 0

    def add_kept(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that are there from the beginning, as an optimizer's state is."""
        for tensor in tensors:
            life = self._follow(tensor, "optimizer state")
            if life is not None:
                life.birth = 0

    def name(self, tensors: Iterable[Tensor], category: Category, param: int | None = None) -> None:
        """Note what the storages of tensors are: the optimizer's state, a parameter's gradient."""
        for tensor in tensors:
            storage = find_storage(tensor)
            life = self._known.get(storage_key(storage)) if storage is not None else None
            if life is not None and life.category is None:
                life.category, life.param = category, param

    def follow_inputs(self, tensors: Iterable[Tensor]) -> None:
        """Follow the inputs of one more forward, which live from now on to the end."""
        for tensor in tensors:
            self._follow(tensor, "input")

    def find_peak(self, since: int = 0) -> int | None:
        """Return the most that lives at one time from a moment on; ``None`` if nothing was made since."""
        last = len(self.moments) - 1
        changes = [0] * (last + 2)
        for life in self.lives:
            changes[life.birth] += life.nbytes
            changes[(last if life.death is None else life.death) + 1] -= life.nbytes
        return max([*accumulate(changes[:-1])][since:], default=None)

    def find_maker(self, number: int | None) -> RunningCall | None:
        """Return the call in which an autograd node was made."""
        at = bisect_right(self._numbers, number) if number is not None and number >= 0 else len(self._makers)
        return self._makers[at] if at < len(self._makers) else None

    def _record(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        if node_numbers is not None:
            if self.phase == "backward":
                self._note_node()
            number = node_numbers.upcoming()
            if not self._numbers or number > self._numbers[-1]:
                self._numbers.append(number)
                self._makers.append(self._current())
        if self.phase != "optimizer":
            self._record_product(func, args, kwargs, output)
        is_first = not self.is_warming
        for item in output if isinstance(output, (tuple, list)) else (output,):
            if not isinstance(item, Tensor) or (type(item) is FakeTensor and storage_address(item) in self._known):
                continue
            if constant_of(item) is not None and _gives_back(func):  # torch gives known values a storage of their own
                alias = self._follow(item)
                if alias is not None:
                    alias.nbytes = 0
                continue
            if is_first:
                self.moments.append((self.phase, self._current(), self.node))
                is_first = False
            life = self._follow(item)
            if func is _LSTM_LAYER and item is output[-1] and life is not None and torch.is_grad_enabled():
                steps, batch, features = args[0].shape
                hidden, itemsize = output[0].shape[-1], args[1].element_size()
                life.nbytes = count_lstm_workspace(steps, batch, features, hidden, itemsize)  # fakes leave it empty

    def _record_product(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """Write down what multiplies and adds in the backward.

        An outer product, and one of vectors, goes back by products element by element, as many as it took itself.
        """
        call = self._current()
        if self.phase == "forward" and not (func in _OF_VECTORS and any(map(_requires_grad, args))):
            return
        op = write_counted(func, args, kwargs, output, call)
        if self.phase == "forward":
            if op is not None and node_numbers is not None:
                self._of_vectors[node_numbers.upcoming() - 1] = op
            return
        product = self._of_vectors.get(self.node or 0) if call is None and func is _MUL else None
        if product is not None and count_aten_op(product) == math.prod(output.shape):
            op = product
        if op is not None:
            self.products.append((call, self.node, op))

    def _note_node(self) -> None:
        """Note which autograd node runs: by its number, or below zero for the one that adds to a parameter's grad."""
        assert node_numbers is not None
        node = node_numbers.running()
        if node is None:
            return
        variable = getattr(node, "variable", None)
        index = self._work.param_of.get(id(variable)) if variable is not None else None
        number = node_numbers.of(node) if index is None else -1 - index
        if number != self.node:
            self.node = number
            self._turn += 1

    def _follow(self, tensor: Tensor, category: Category | None = None, param: int | None = None) -> Life | None:
        storage = find_storage(tensor)
        if storage is None:
            return None
        address = storage_key(storage)
        if address in self._known:
            return self._known[address]
        life = Life(storage, self._end)
        life.address, life.nbytes, life.param = address, storage.nbytes(), param
        life.birth = 0 if self.is_warming else len(self.moments) - 1
        life.death, life.category, life.is_gone = None, category, False
        life.phase, life.turn, life.last_turn = self.phase, self._turn, self._turn
        life.call, life.node = self._current(), self.node
        self._known[address] = life
        self.lives.append(life)
        return life

    def _end(self, life: Life) -> None:
        if self._known.get(life.address) is life:
            del self._known[life.address]
            life.death, life.last_turn = len(self.moments) - 1, self._turn
            life.is_gone = self.is_warming and life.phase == "optimizer"  # before the step that counts

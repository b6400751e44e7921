"""Records are written once and never changed, by whichever of their fields they are made."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from modelsummary_ipy.records.summary import Change, Cost, Flag, Memory, Retrace, Row, Story
from modelsummary_ipy.records.trace import (
    AtenOp,
    Call,
    Failure,
    InputFact,
    Link,
    ModuleFact,
    ParamFact,
    Source,
    TensorSpec,
    Trace,
)

SPEC = TensorSpec("", (2, 3), "float32", "cpu")
CALL = Call(index=0, kind="module", path="", type_name="Net", parent=None, depth=0)
MODULE = ModuleFact(index=0, paths=("",), type_name="Net")
PARAM = ParamFact(0, ("weight",), (2, 3), "float32", "cpu", 6, 24, trainable=True)
ROW = Row(index=0, path="", type_name="Net", kind="module", depth=0)
TRACE = Trace((CALL,), (MODULE,))
ATEN_OP = AtenOp("aten.mm.default", ((2, 3), (3, 4)), ((2, 4),))
MANY: tuple[Any, ...] = (SPEC, Link(0, 0), Source("net.py", 41), ATEN_OP, PARAM, MODULE, CALL, ROW)
FEW: tuple[Any, ...] = (
    InputFact(SPEC),
    Failure(None, "RuntimeError", ""),
    TRACE,
    Cost(),
    Memory(0, 0, 0),
    Flag("grown-map", "warning", 0, "", ""),
    Change("", "added", None, 0),
    Retrace({}, TRACE, ()),
    Story(TRACE, (ROW,)),
)


@pytest.mark.parametrize("record", [*MANY, *FEW], ids=lambda record: type(record).__name__)
def test_a_record_cannot_be_changed(record: Any) -> None:
    name = next(iter(getattr(record, "__dataclass_fields__", None) or record._fields))
    with pytest.raises(AttributeError):
        setattr(record, name, None)
    with pytest.raises(AttributeError):
        delattr(record, name)
    with pytest.raises((AttributeError, TypeError)):
        record.another = 4


@pytest.mark.parametrize("record", MANY, ids=lambda record: type(record).__name__)
def test_a_record_is_made_by_name_or_in_order(record: Any) -> None:
    kind, names = type(record), record._fields
    made = kind(*range(len(names)))
    assert [getattr(made, name) for name in names] == list(range(len(names)))
    assert made == kind(**{name: getattr(made, name) for name in names})
    assert kind(**record._asdict()) == record
    changed = record._replace(**{names[-1]: "another"})
    assert getattr(changed, names[-1]) == "another" != getattr(record, names[-1])
    assert changed[:-1] == record[:-1]


@pytest.mark.parametrize("record", MANY, ids=lambda record: type(record).__name__)
def test_wrong_arguments_are_refused(record: Any) -> None:
    with pytest.raises(TypeError):
        type(record)()
    with pytest.raises((TypeError, ValueError)):
        record._replace(another=4)


def test_a_line_is_written_as_people_read_it() -> None:
    assert Source("net.py", 41, "forward", "/home/me/net.py").text == "net.py:41"
    assert Source("In [5]", 3).text == "In [5] line 3"


def test_what_is_not_said_has_its_default() -> None:
    assert (CALL.status, CALL.aten_ops, CALL.source, CALL.grad, CALL.live_bytes) == ("ran", (), None, False, None)
    assert (ROW.status, ROW.call_index, ROW.inputs, ROW.parent, ROW.extra_repr) == ("ran", 0, (), None, "")
    assert (dict(MODULE.settings), MODULE.children, MODULE.reads, MODULE.training) == ({}, (), None, False)
    assert (PARAM.kind, PARAM.lazy, ATEN_OP.arguments, ATEN_OP.dtype) == ("parameter", False, (), "float32")
    with pytest.raises(TypeError):
        MODULE.settings["a"] = 1  # type: ignore[index]  # what all share is not changed either


@pytest.mark.parametrize("record", [one for one in MANY if one is not MODULE], ids=lambda record: type(record).__name__)
def test_a_copy_equals_its_record(record: Any) -> None:
    assert copy.deepcopy(record) == record == pickle.loads(pickle.dumps(record))
    assert type(copy.deepcopy(record)) is type(record)
    assert hash(record) == hash(type(record)(*record))

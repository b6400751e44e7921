"""Real architectures are clean: no rule warns of a transformer, in train mode or in eval."""

from __future__ import annotations

import pytest

from modelsummary_ipy.summary import ModelSummary
from tests.zoo import ZOO, Animal


@pytest.mark.parametrize("animal", ZOO, ids=lambda animal: animal.name)
def test_no_rule_warns_of_a_real_architecture(animal: Animal) -> None:
    ms = ModelSummary(animal.build(), animal.inputs(), mode="train")
    assert ms.error is None or animal.needs_values, ms.error
    assert [flag for flag in ms.flags if flag.severity != "note"] == []

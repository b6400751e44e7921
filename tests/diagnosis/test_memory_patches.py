"""Code of a plan: what it lists is what was asked for."""

from __future__ import annotations

import pytest

from modelsummary_ipy.diagnosis.memory_patches import write_checkpoints, write_in_place


class Recorder:
    """Stands in the place of a model, and writes down which submodules it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_submodule(self, path: str) -> Recorder:
        self.asked.append(path)
        return self


@pytest.mark.parametrize(
    ("paths", "line"),
    [
        (["a"], 'for path in ["a"]:'),
        (["0", "1", "2"], 'for path in ["0", "1", "2"]:'),
        ([f"h.{i}" for i in range(12)], 'for path in [f"h.{i}" for i in range(12)]:'),
        ([f"h.{i}.mlp" for i in range(3, 7)], 'for path in [f"h.{i}.mlp" for i in range(3, 7)]:'),
        (["h.0", "h.2", "h.3"], 'for path in ["h.0", "h.2", "h.3"]:'),
        (["h.1.fc", "stem", "h.2.fc", "h.3.fc"], 'for path in [*(f"h.{i}.fc" for i in range(1, 4)), "stem"]:'),
        (["a.0.b.0", "a.0.b.1", "a.0.b.2"], 'for path in [f"a.0.b.{i}" for i in range(3)]:'),
        (["h.00", "h.01", "h.02"], 'for path in ["h.00", "h.01", "h.02"]:'),
        (['q"{x}', "b\\c", "d\n"], "for path in ['q\"{x}', 'b\\\\c', 'd\\n']:"),
        ([f"{{i}}.{i}" for i in range(3)], "for path in ['{i}.0', '{i}.1', '{i}.2']:"),
        ([f"a_long_name_of_a_block.of_layers_{c}" for c in "abcd"], "for path in ["),
    ],
)
def test_the_code_asks_for_these_modules(paths: list[str], line: str) -> None:
    code = write_in_place(paths)
    assert line in code.splitlines()
    model = Recorder()
    exec(code, {"model": model})
    assert sorted(model.asked) == sorted(paths)
    assert line in write_checkpoints(paths, has_buffers=False) + write_checkpoints(paths, has_buffers=True)

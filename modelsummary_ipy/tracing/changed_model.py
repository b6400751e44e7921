"""A template whose shadows run code of the user's kind first: ``model.get_submodule("block").inplace = True``."""

from __future__ import annotations

from modelsummary_ipy.fake.fake_mode import FakeMode
from modelsummary_ipy.isolation.shadow import Shadow, ShadowTemplate


class ChangedModel(ShadowTemplate):
    """A template whose shadows are changed by a patch.

    Args:
        code: Written by this package; it reads the copy as ``model``. What it raises is raised when a shadow is built.
    """

    def __init__(self, template: ShadowTemplate, code: str) -> None:
        vars(self).update(vars(template))
        self._code = compile(code, "<patch>", "exec")

    def build_fake_shadow(self, fake_mode: FakeMode | None = None, *, lazy: bool = False) -> Shadow:
        """Make a copy that the patch has changed."""
        work = super().build_fake_shadow(fake_mode, lazy=lazy)
        exec(self._code, {"model": work.module})
        return work

"""The dims of a form's sizes: a slider where the sizes that work have two ends, else a number field within them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets

from modelsummary_ipy.shapes.tried_sizes import NO_LIMIT

_ANY = range(1, NO_LIMIT)
_STYLE = {"description_width": "initial"}


class DimFields:
    """A field for every named dim.

    Args:
        changed: Called with name and number when a field was changed by its user.

    Attributes:
        box: The widget that holds the fields.
        fields: The field in use, by name.
        ranges: The sizes that work, by name, where a limit or a step of them is known.
    """

    def __init__(self, changed: Callable[[str, int], None]) -> None:
        self._changed = changed
        self._quiet = False  # true while the form itself sets the fields
        self.ranges: Mapping[str, range] = {}
        self._spare: dict[bool, list[Any]] = {False: [], True: []}  # by whether they are sliders, for the next name
        self.fields: dict[str, Any] = {}
        self.box = widgets.HBox(layout={"flex_flow": "row wrap", "overflow": "visible", "grid_gap": "2px 14px"})

    @property
    def spare(self) -> list[Any]:
        """Fields that no dim uses: a widget that is closed leaves its parts open, so none is thrown away."""
        return [*self._spare[False], *self._spare[True]]

    def learn(self, ranges: Mapping[str, range], *, failed: bool) -> None:
        """Keep to the sizes that work, as the last run found them; what it did not find stays.

        Args:
            failed: Whether the run failed: inside all that was known to work, other sizes have changed what works.
        """
        numbers = {name: field.value for name, field in self.fields.items()}
        if failed:
            is_inside = all(numbers[name] in sizes for name, sizes in self.ranges.items() if name in numbers)
            self.ranges = {} if is_inside else self.ranges
        else:
            self.ranges = {**self.ranges, **ranges}
        self.show(numbers)

    def show(self, numbers: Mapping[str, int]) -> None:
        """Show a field for each of these dims; a number outside the sizes that work is kept to none."""
        before, self._quiet = self._quiet, True
        found: dict[str, Any] = {}
        for name, number in numbers.items():
            sizes = self.ranges.get(name, _ANY)
            sizes = sizes if number in sizes else _ANY
            is_slider = sizes.stop != NO_LIMIT and len(sizes) > 1
            field = self.fields.get(name)
            if field is None or isinstance(field, widgets.IntSlider) != is_slider:
                field = self._spare[is_slider].pop() if self._spare[is_slider] else self._make(is_slider)
            _limit(field, sizes)
            field.description, field.value = name, min(number, field.max)
            found[name] = field
        for field in self.fields.values():
            if all(field is not used for used in found.values()):
                self._spare[isinstance(field, widgets.IntSlider)].append(field)
        self.fields = found
        if list(self.box.children) != list(found.values()):
            self.box.children = tuple(found.values())
        self._quiet = before

    def _make(self, is_slider: bool) -> Any:
        if is_slider:
            field = widgets.IntSlider(style=_STYLE, layout={"width": "300px"})
        else:
            field = widgets.BoundedIntText(value=1, style=_STYLE, layout={"width": "110px"})
        field.observe(lambda change: self._quiet or self._changed(field.description, field.value), names="value")
        return field


def _limit(field: Any, sizes: range) -> None:
    if (field.min, field.max, field.step) != (sizes[0], sizes[-1], sizes.step):
        field.max = max(field.max, sizes[-1])  # ipywidgets refuses a smallest above the largest, for a moment too
        field.min, field.max, field.step = sizes[0], sizes[-1], sizes.step

"""Windows that slide: the settings of convolutions, their transposes and pools, and what follows from these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelsummary_ipy.records.trace import Call, ModuleFact

_USUAL = {"padding": 0, "dilation": 1, "output_padding": 0}


@dataclass(frozen=True, slots=True)
class Window:
    """A window that slides along one dim, by torch's own settings.

    Attributes:
        kernel, stride, dilation: As in torch; a stride that torch takes from the kernel is given as a number here.
        padding: On each side; ``"same"`` and ``"valid"`` as torch's convolutions take them.
        output_padding: Of a transposed convolution.
        transposed: Whether the window is spread over the output instead.

    Example:
        >>> Window(3, dilation=2).extent, Window(3, padding=5).total_padding, Window(4).same_padding
        (5, 10, (1, 2))
    """

    kernel: int
    stride: int = 1
    padding: int | Literal["same", "valid"] = 0
    dilation: int = 1
    output_padding: int = 0
    transposed: bool = False

    @property
    def extent(self) -> int:
        """Dims from the first to the last element that the kernel touches: 5 for a kernel of 3 dilated by 2."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def total_padding(self) -> int:
        """What is padded on both sides together."""
        if isinstance(self.padding, str):
            return self.extent - 1 if self.padding == "same" else 0
        return 2 * self.padding

    @property
    def same_padding(self) -> tuple[int, int]:
        """The padding before and after that keeps a size at stride 1, and leaves ``⌈size/stride⌉`` at others.

        The two differ by 1 where no one number keeps it: that of an even kernel. For a transposed convolution it is
        what keeps a size at stride 1.
        """
        total = self.extent - 1 + (self.output_padding if self.transposed else 0)
        return total // 2, total - total // 2

    @property
    def most_pool_padding(self) -> int:
        """The most padding that torch's pools take with this kernel."""
        return self.kernel // 2


def read_windows(call: Call, modules: Sequence[ModuleFact]) -> tuple[Window | None, ...]:
    """Read the settings of a layer or an operation that slides a window.

    Args:
        call: A module's call or an operation; it may have failed.
        modules: Those of its trace.

    Returns:
        A window per spatial dim, ``None`` for one whose settings are no plain numbers; ``()`` if ``call`` slides none.
    """
    settings = _read_settings(call, modules)
    kernel = settings.get("kernel_size")
    rank = _count_spatial(call, kernel)
    if kernel is None or rank is None:
        return ()
    stride = settings.get("stride")
    if stride in (None, ()):
        stride = 1 if "conv" in call.type_name.lower() else kernel
    given = {"kernel": kernel, "stride": stride, **{name: settings.get(name, usual) for name, usual in _USUAL.items()}}
    per_dim = {name: _per_dim(value, rank) for name, value in given.items()}
    per_dim["transposed"] = (bool(settings.get("transposed")),) * rank
    return tuple(_build({name: values[axis] for name, values in per_dim.items()}) for axis in range(rank))


def _read_settings(call: Call, modules: Sequence[ModuleFact]) -> Mapping[str, Any]:
    if call.kind == "module":
        return modules[call.module].settings if call.module is not None else {}
    arguments = dict(call.arguments)
    if call.type_name.startswith("conv") and len(call.inputs) > 1:
        arguments["kernel_size"] = call.inputs[1].shape[2:]
        arguments["transposed"] = "transpose" in call.type_name
    return arguments


def _count_spatial(call: Call, kernel: Any) -> int | None:
    """Return how many dims the window slides over, from ``"Conv2d"``, ``"max_pool2d"`` or the kernel's own length."""
    for digit in "123":
        if f"{digit}d" in call.type_name.lower():
            return int(digit)
    return len(kernel) if isinstance(kernel, tuple) and 0 < len(kernel) <= 3 else None


def _per_dim(value: Any, rank: int) -> tuple[Any, ...]:
    """Spread a setting over the spatial dims; ``None`` for each if it is one a dim of another number of dims."""
    if isinstance(value, tuple):
        return value if len(value) == rank else value * rank if len(value) == 1 else (None,) * rank
    return (value,) * rank


def _build(settings: dict[str, Any]) -> Window | None:
    numbers = [value for value in settings.values() if value not in ("same", "valid")]
    if not all(isinstance(number, int) for number in numbers) or settings["stride"] == 0:
        return None
    return Window(**settings)

"""The exceptions a user may meet.

ModelSummaryError
├── InputError     the arguments make no sense; raised before anything is traced; also a ValueError
├── ForwardError   the model's own forward failed; held in ``ms.error``, never raised by the constructor
└── CheckError     ``ms.check()`` found an error, a warning, or a broken ``expect``; also an AssertionError
"""

from __future__ import annotations

from collections.abc import Mapping

from modelsummary_ipy.records.fixes import Fix

#: No message is longer.
MOST_CHARACTERS = 2000
#: No text in a row, a name say, is longer.
MOST_IN_ROW = 200


def cut_text(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text, without its middle if it is longer than ``most`` characters."""
    if len(text) <= most:
        return text
    note = f" … ({len(text) - most:,} characters more) … "
    kept = max(most - len(note), 0)
    tail = kept // 4
    return text[: kept - tail] + note + (text[-tail:] if tail else "")


def write_error(error: BaseException) -> str:
    """Return the message of an exception, cut, also of one whose ``__str__`` raises."""
    try:
        return cut_text(str(error))
    except (Exception, SystemExit) as raised:  # noqa: BLE001  # the user's own class writes it
        return f"(its __str__ raised {type(raised).__name__})"


class ModelSummaryError(Exception):
    """Anything that this package raises on purpose."""


class InputError(ModelSummaryError, ValueError):
    """The arguments make no sense.

    Args:
        received: What was given, in one line.
        example: A line that works for this model, ``""`` if none is known.
    """

    def __init__(self, received: str, expected: str = "", example: str = "") -> None:
        self.received = received
        self.expected = expected
        self.example = example
        parts = [received]
        if expected:
            parts.append(f"expected {expected}")
        if example:
            parts.append(f"for example {example}")
        super().__init__(cut_text("; ".join(cut_text(part, MOST_CHARACTERS // 3 - 4) for part in parts)))


class ForwardError(ModelSummaryError):
    """The model's forward failed; the original exception is its ``__cause__``.

    Attributes:
        path: Path of the module it failed in, ``""`` for the model itself.
        row: Index of the failed row, ``None`` if it failed before any call.
        source: ``"net.py:41"``, or ``None``.
        message: The whole report: what was received and expected, why, and what to do.
        reason: Why, with the arithmetic; torch's own message where nothing better is known.
        fixes: Changes that were applied to a copy of the model and traced to the end, the best first.
        fix: The text of the best one, ``""`` if none was found.
        patch: The best one as a unified diff against the user's file or cell; ``None`` where there is none.
        code: What kind of failure it is: ``"linear"``, ``"missing-batch"``, ``"dtype"``; ``"other"`` if none is known.
        numbers: The shapes of what the failed call read, by name, and where one size is to be another, the one that
            ``came`` and the one that was ``wanted``.
        sizes: Sizes of the model's input that would work, as the magic would take them: ``("(1, 1, 32, 32)",)``.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        row: int | None = None,
        source: str | None = None,
        reason: str = "",
        fixes: tuple[Fix, ...] = (),
        advice: str = "",
        sizes: tuple[str, ...] = (),
        code: str = "",
        numbers: Mapping[str, int | tuple[int, ...]] | None = None,
    ) -> None:
        message = cut_text(message)
        super().__init__(message)
        self.message = message
        self.path = path
        self.row = row
        self.source = source
        self.reason = cut_text(reason)
        self.fixes = fixes
        self.fix = fixes[0].text if fixes else advice
        self.patch = fixes[0].patch if fixes else None
        self.sizes = sizes
        self.code = code
        self.numbers = dict(numbers or {})


class CheckError(ModelSummaryError, AssertionError):
    """``check()`` found something in a summary."""

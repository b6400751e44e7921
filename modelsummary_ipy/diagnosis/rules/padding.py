"""The rule that compares a convolution's border with what its kernel, its stride and its siblings would have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from modelsummary_ipy.diagnosis.call_arguments import Size, argument
from modelsummary_ipy.diagnosis.formatting import write_times, write_window
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.spatial import is_cropped, read_convolution
from modelsummary_ipy.diagnosis.windows import Window
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call

Border = Literal["keeps", "trims", "full", "between"]
_PADDINGS = names_of("padding")
_MOST_SIBLINGS_OFF = 0.25
_FEWEST_SIBLINGS = 3


@dataclass(frozen=True)
class _Slide:
    """One convolution of a feature map: per spatial dim its window and what it made."""

    call: Call
    windows: tuple[Window, ...]
    before: Size
    after: Size

    @lazy
    def kernel(self) -> Size:
        """The kernel's size per spatial dim."""
        return tuple(window.kernel for window in self.windows)

    @lazy
    def stride(self) -> Size:
        """The stride per spatial dim."""
        return tuple(window.stride for window in self.windows)

    @lazy
    def paddings(self) -> tuple[int | str, ...]:
        """The padding per spatial dim."""
        return tuple(window.padding for window in self.windows)

    @lazy
    def borders(self) -> Size:
        """What it takes from a dim without padding, at stride 1: 0 for a kernel of 1."""
        return tuple(window.extent - 1 for window in self.windows)

    @lazy
    def border(self) -> Border:
        """What its padding does at stride 1: keeps the size, trims it, pads fully, or something between."""
        changes = zip(self.after, self.before, self.borders, strict=True)
        pairs = [(new - old, border) for new, old, border in changes if border]
        if all(abs(change) <= border % 2 for change, border in pairs):
            return "keeps"
        if all(change == -border for change, border in pairs):
            return "trims"
        if all(change in (border, 0) for change, border in pairs):
            return "full"
        return "keeps" if all(change in (0, -border) for change, border in pairs) else "between"

    @lazy
    def loses(self) -> bool:
        """Whether a stride leaves less than its share: 15 of 32 by a stride of 2."""
        pairs = zip(self.after, self.before, self.stride, strict=True)
        return any(new < old // stride for new, old, stride in pairs)


def find_uneven_paddings(evidence: Evidence) -> Iterator[Flag]:
    """Find convolutions whose padding is neither none, nor half, nor all of what the kernel takes: a note.

    Finds ``padding=1`` for a kernel of 5, the one convolution that shrinks a feature map where its siblings keep it, a
    stride of 2 that leaves more than half, or less where its twin leaves half. Leaves alone nets whose convolutions all
    shrink, kernels of 1, padding by hand.
    """
    slides = [slide for slide in (_read_slide(evidence, step) for step in evidence.flow.steps) if slide is not None]
    yield from _find_futures(evidence, slides)
    others = _Others(evidence, slides)
    flagged: set[int | None] = set()
    for slide in slides:
        words = _judge(evidence, slide, others)
        if words and (slide.call.module if slide.call.kind == "module" else None) not in flagged:
            flagged.add(slide.call.module if slide.call.kind == "module" else -1)
            same = tuple(window.same_padding[0] for window in slide.windows)
            if words.endswith("pad fully"):
                same = slide.borders
            fix = f"padding={same[0] if len(set(same)) == 1 else same} fits this kernel"
            yield evidence.flag("uneven-padding", "note", slide.call, words, fix,
                before=slide.before, after=slide.after, kernel=slide.kernel, stride=slide.stride,
                padding=slide.paddings,
            )  # fmt: skip


def _find_futures(evidence: Evidence, slides: list[_Slide]) -> Iterator[Flag]:
    """Find a convolution that pads its whole kernel on both sides, of which the first steps are cut, not the last."""
    full = [slide for slide in slides if slide.border == "full" and slide.stride == (1,)]
    cuts = [(slide, *cut) for slide in full for cut in _list_cuts(evidence, slide.call)]
    backward = {slide.call.input_links[0] for slide, _, last in cuts if not last.start}  # and beside it one ahead
    for slide, reader, last in cuts:
        is_cut = last.start == slide.borders[0] and last.stop is None
        if is_cut and slide.call.input_links[0] not in backward:
            message = f"of {slide.after[0]} steps the first {last.start} are cut: each of the others reads only "
            message += f"what comes after it (padding {slide.paddings[0]} on both sides)"
            yield evidence.flag("uneven-padding", "warning", reader, message, f"[..., :-{last.start}] is causal",
                "future", before=slide.before, after=slide.after, kernel=slide.kernel, stride=slide.stride,
                padding=slide.paddings,
            )  # fmt: skip


def _list_cuts(evidence: Evidence, step: Call) -> Iterator[tuple[Call, slice]]:
    """List what takes a part of the steps that a convolution made."""
    for reader in evidence.flow.readers(step):
        index = argument(reader, "1", "index") if reader.type_name == "getitem" else None
        if isinstance(index, tuple) and isinstance(index[-1], slice):
            yield reader, index[-1]


def _read_slide(evidence: Evidence, step: Call) -> _Slide | None:
    windows = read_convolution(evidence.flow, step)
    if not windows:
        return None
    return _Slide(step, windows, *(spec.shape[-len(windows) :] for spec in (step.inputs[0], step.outputs[0])))


class _Others:
    """What the convolutions of a model do at their borders, counted once: a loop may call one thousands of times."""

    def __init__(self, evidence: Evidence, slides: list[_Slide]) -> None:
        self._evidence = evidence
        plain = [slide for slide in slides if max(slide.stride) == 1 and max(slide.borders) > 0]
        self._keeping = {(slide.kernel, slide.stride, slide.paddings) for slide in slides if not slide.loses}
        self.borders = Counter(slide.border for slide in plain)
        self._by_parent: dict[int | None, Counter[Border]] = {}
        self._by_module: dict[int | None, Counter[Border]] = {}
        for slide in plain:
            if slide.call.kind == "module":
                self._by_parent.setdefault(self._parent(slide), Counter())[slide.border] += 1
                self._by_module.setdefault(slide.call.module, Counter())[slide.border] += 1

    def has_keeping_twin(self, slide: _Slide) -> bool:
        """Return whether a convolution with the same kernel and stride, and another padding, loses nothing."""
        return any(
            (kernel, stride) == (slide.kernel, slide.stride) and paddings != slide.paddings
            for kernel, stride, paddings in self._keeping
        )

    def beside(self, slide: _Slide) -> Counter[Border]:
        """Count the borders of those that stand beside a convolution: in one list, or in one module of few."""
        if slide.call.kind != "module":
            return Counter()
        none: Counter[Border] = Counter()
        return self._by_parent.get(self._parent(slide), none) - self._by_module.get(slide.call.module, none)

    def _parent(self, slide: _Slide) -> int | None:
        return self._evidence.modules[slide.call.module or 0].parent


def _judge(evidence: Evidence, slide: _Slide, others: _Others) -> str:
    sizes = f"{write_times(slide.before)} became {write_times(slide.after)}"
    kernel, padding = write_window(slide.kernel), write_window([window.padding for window in slide.windows])
    if max(slide.stride) > 1 and slide.loses and others.has_keeping_twin(slide):
        return f"{sizes}: padding {padding} loses a border that other convolutions of kernel {kernel} keep"
    if max(slide.stride) > 1:
        more = [
            f"{new} from {old} at stride {stride}, more than ⌈{old} / {stride}⌉"
            for new, old, stride in zip(slide.after, slide.before, slide.stride, strict=True)
            if stride > 1 and new > -(-old // stride)
        ]
        return f"{sizes}: {more[0]} (kernel {kernel}, padding {padding})" if more else ""
    grown = any(new > old for new, old in zip(slide.after, slide.before, strict=True))
    if slide.border == "trims" and _is_padded_before(evidence, slide):
        return ""
    if max(slide.borders) == 0 or (grown and not is_cropped(evidence.flow, slide.call, len(slide.kernel))):
        return ""  # what grows a feature map for good is another rule's
    if slide.border == "between":
        return f"{sizes}: padding {padding} with kernel {kernel} neither keeps the size nor drops the whole border"
    keep, off = others.borders["keeps"], others.borders["trims"]
    if slide.border == "trims" and keep >= _FEWEST_SIBLINGS and off <= _MOST_SIBLINGS_OFF * others.borders.total():
        return f"{sizes}: padding {padding} shrinks the feature map, {keep} other convolutions keep its size"
    return _compare_siblings(slide, others.beside(slide), sizes)


def _is_padded_before(evidence: Evidence, slide: _Slide) -> bool:
    """Return whether a layer or a function pads what the convolution reads: ``ReplicationPad2d(1)`` before it."""
    maker = evidence.flow.producer(slide.call.input_links[0])
    return maker is not None and maker.type_name in _PADDINGS


def _compare_siblings(slide: _Slide, siblings: Counter[Border], sizes: str) -> str:
    """Say that all beside a convolution keep the size where it trims it, or pad fully where it keeps it."""
    if max(slide.after) == 1:  # it takes the place of a Linear
        return ""
    order: tuple[Border, ...] = ("trims", "keeps", "full")
    if slide.border not in order[:2] or siblings.keys() != {border := order[order.index(slide.border) + 1]}:
        return ""
    if border == "keeps" or siblings.total() > 1:
        words = {"keeps": "keep the size", "full": "pad fully"}[border]
        padding = write_window([window.padding for window in slide.windows])
        return f"{sizes} with padding {padding}, where all {siblings.total()} beside it {words}"
    return ""


RULES = {"uneven-padding": find_uneven_paddings}

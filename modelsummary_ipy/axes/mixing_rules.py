"""How operations read the tensors that depend on a dim of the input: entry by entry, or across them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from math import prod
from typing import Any, NamedTuple, TypeVar

from modelsummary_ipy.axes import table
from modelsummary_ipy.axes.registry import find_entry
from modelsummary_ipy.records.op_events import OpEvent, TensorRef


class At(NamedTuple):
    """The dim is an axis of a tensor, or a part of one.

    Attributes:
        place: Which axis.
        inner: How many entries of the axis in a row belong to one entry of the dim; 0 if they no longer stand in the
            order of the dim, or not all of them do: what reads along the axis still reads across the dim.
    """

    place: int
    inner: int = 1


class Mixed(NamedTuple):
    """Entries depend on several of the dim: the operation that read across it."""

    by: int


class Unclear(NamedTuple):
    """Entries may depend on several of the dim: the operation of which that is not known."""

    by: int


#: Of a tensor; ``None`` if it does not depend on the dim.
State = At | Mixed | Unclear | None


def is_in_order(state: State) -> bool:
    """Return whether the entries of a tensor are those of the dim, or do not depend on it."""
    return state is None or (isinstance(state, At) and state.inner > 0)


class AcrossError(Exception):
    """An operation reads across the dim."""


class UnknownError(Exception):
    """What an operation does to the dim is not described."""


class Read(NamedTuple):
    """How one operation reads one tensor.

    Attributes:
        event: The operation.
        name: The argument that the tensor was given for.
        ref: The tensor.
        at: Where the dim is in it.
        num: The size of the dim.
    """

    event: OpEvent
    name: str
    ref: TensorRef
    at: At
    num: int

    @property
    def args(self) -> Mapping[str, Any]:
        """The arguments of the operation."""
        return self.event.args

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.ref.shape

    @property
    def rank(self) -> int:
        """Number of axes of the tensor."""
        return len(self.shape)

    @property
    def made(self) -> tuple[int, ...]:
        """Shape of the first result."""
        return self.event.outputs[0].shape

    def dims(self, name: str = "dim") -> set[int]:
        """Return the axes that an argument names; all, where it was not given."""
        given = self.args.get(name)
        if given is None or given == []:
            return set(range(self.rank))
        return {dim % max(self.rank, 1) for dim in (given if isinstance(given, list) else [given])}

    def dim(self, name: str = "dim", extra: int = 0) -> int:
        """Return the axis that an argument names; the first, where it was not given."""
        return int(self.args.get(name) or 0) % (self.rank + extra)

    def to(self, place: int) -> At:
        """Return the same at another axis."""
        return At(place, self.at.inner)

    def moved(self) -> At:
        """Return an axis whose entries no longer stand where those of the dim stand."""
        return At(self.at.place, 0)

    @property
    def from_last(self) -> int:
        """The place of the axis, counted from the last: -1."""
        return self.at.place - self.rank


#: Returns what is known of all results, or of each.
Rule = Callable[[Read], "At | list[State]"]
R = TypeVar("R", bound=Rule)
_rules: dict[str, Rule] = {}


def find_rule(op: str) -> Rule:
    """Find what is known of an operation; for one without a rule nothing is."""
    rule = _rules.get(op) or _rules.get(op.rstrip("_"))
    return rule or (_elementwise if find_entry(op) is table.elementwise.elementwise else _unknown)


def _rule(names: str) -> Callable[[R], R]:
    def register(function: R) -> R:
        _rules.update((f"aten.{name}", function) for name in names.split())
        return function

    return register


def _goes_to(names: str, place: Callable[[Read], int]) -> None:
    """Operations after which the same entries stand along another axis."""
    _rule(names)(lambda read: read.to(place(read)))


def _stays(names: str, across: Callable[[Read], Collection[int]]) -> None:
    """Operations that leave the axes where they are, and read across some."""

    def follow(read: Read) -> At:
        if read.at.place in across(read):
            raise AcrossError
        return read.at

    _rule(names)(follow)


def _unknown(_: Read) -> At:
    raise UnknownError


@_rule(
    "_to_copy clone alias detach copy lift_fresh native_dropout dropout bernoulli tril triu prelu contiguous expand "
    "expand_copy fill_diagonal log_sigmoid_forward _conj conj resolve_conj rrelu_with_noise"
)
def _elementwise(read: Read) -> At:
    if read.at.inner != 1 and read.shape[read.at.place] != read.made[read.from_last]:
        raise UnknownError
    return read.to(len(read.made) + read.from_last)


@_rule("zeros_like ones_like full_like empty_like rand_like randn_like randint_like")
@_rule("new_zeros new_ones new_full new_empty zero fill")
def _makes_new(read: Read) -> list[State]:
    return [None] * len(read.event.outputs)


# -- the same entries at other places --------------------------------------------------------------------------------

_goes_to("permute", lambda read: [dim % read.rank for dim in read.args["dims"]].index(read.at.place))
_goes_to("t numpy_T", lambda read: read.rank - 1 - read.at.place)
_goes_to("unsqueeze stack", lambda read: read.at.place + (read.dim(extra=1) <= read.at.place))
_goes_to("squeeze", lambda read: read.at.place - sum(read.shape[d] == 1 and d < read.at.place for d in read.dims()))
_goes_to("repeat", lambda read: len(read.made) + read.from_last)
_goes_to("view_as_real", lambda read: read.at.place)
_stays("view_as_complex", lambda read: {read.rank - 1})


@_rule("transpose swapaxes")
def _transpose(read: Read) -> At:
    one, two = read.dim("dim0"), read.dim("dim1")
    return read.to({one: two, two: one}.get(read.at.place, read.at.place))


@_rule("view _unsafe_view reshape _reshape_alias view_copy unflatten flatten")
def _view(read: Read) -> At:
    """The entries stay in a row: a run of them is one entry of the dim wherever it went."""
    behind = prod(read.shape[read.at.place + 1 :])
    run = read.at.inner * behind
    for place, size in enumerate(read.made):
        left = prod(read.made[place + 1 :])
        if run and run % left == 0 and (left * size) % (run * read.num) == 0:
            return At(place, run // left)
        if not run and size == read.shape[read.at.place] and left == behind:
            return At(place, 0)
    raise UnknownError


@_rule("flip roll")
def _reorder(read: Read) -> At:
    return read.moved() if read.at.place in read.dims("dims") else read.at


@_rule("select select_copy unbind")
def _select(read: Read) -> At:
    if read.dim() == read.at.place:
        raise AcrossError  # one entry, for whatever comes after it
    return read.to(read.at.place - (read.dim() < read.at.place))


@_rule("slice slice_copy narrow split unsafe_split split_with_sizes unsafe_split_with_sizes chunk")
def _cut(read: Read) -> list[State]:
    """Parts of an axis: each is the whole dim, again and again, or entries of it."""
    dim, place, run = read.dim(), read.at.place, read.at.inner * read.num
    found: list[State] = []
    start = read.args.get("start") or 0
    start += read.shape[dim] if start < 0 else 0
    for ref in read.event.outputs:
        size, is_all = ref.shape[dim], dim != place or ref.shape[dim] == read.shape[dim]
        is_whole = run and size % run == start % run == 0 and read.args.get("step", 1) == 1
        found.append(read.at if is_all or is_whole else read.moved())
        start += size
    return found


@_rule("cat concatenate")
def _cat(read: Read) -> At:
    parts = [ref for ref in read.event.refs if len(ref.shape) == read.rank]
    is_whole = read.at.inner and all(ref.shape == read.shape for ref in parts)
    return read.at if read.dim() != read.at.place or is_whole else read.moved()


@_rule("constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d")
def _pad(read: Read) -> At:
    pads = read.args["pad" if "pad" in read.args else "padding"]
    place = 2 * (read.rank - 1 - read.at.place)
    return read.moved() if any(pads[place : place + 2]) else read.at


@_rule("unfold")
def _unfold(read: Read) -> At:
    return read.moved() if read.dim("dimension") == read.at.place else read.at


@_rule("pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle im2col col2im")
def _of_channels(read: Read) -> At:
    if read.at.place:
        raise UnknownError
    return read.at


# -- along some axes -------------------------------------------------------------------------------------------------

_stays(
    "_softmax _safe_softmax softmax _log_softmax log_softmax cumsum cumprod cummax cummin logcumsumexp sort argsort "
    "topk _fft_c2c _fft_r2c _fft_c2r glu",
    lambda read: read.dims() if "dim" in read.args else {read.rank - 1},
)
_stays(
    "native_layer_norm _fused_rms_norm rms_norm",
    lambda read: range(read.rank - len(read.args["normalized_shape"]) if read.name == "input" else 0, read.rank),
)
_stays(
    "native_group_norm _thnn_fused_lstm_cell",
    lambda read: range(read.name not in ("weight", "bias"), read.rank),
)


def _last(count: int, read: Read) -> Collection[int]:
    return range(read.rank - count, read.rank)


for _n in (1, 2, 3):  # pools and resizes
    _stays(
        f"max_pool{_n}d max_pool{_n}d_with_indices avg_pool{_n}d _adaptive_avg_pool{_n}d adaptive_avg_pool{_n}d "
        f"adaptive_max_pool{_n}d upsample_nearest{_n}d _upsample_nearest_exact{_n}d upsample_linear{_n}d "
        f"upsample_bilinear{_n}d upsample_bicubic{_n}d upsample_trilinear{_n}d _upsample_bilinear{_n}d_aa "
        f"_upsample_bicubic{_n}d_aa",
        partial(_last, _n),
    )


@_rule(
    "mean sum amax amin prod logsumexp linalg_vector_norm norm any all argmax argmin max min var std var_mean std_mean "
    "count_nonzero nansum median nanmedian mode kthvalue"
)
def _reduce(read: Read) -> At:
    if "other" in read.args:  # of two tensors
        return _elementwise(read)
    is_last = read.event.op in ("aten.mode", "aten.kthvalue") and "dim" not in read.args
    gone = {read.rank - 1} if is_last else read.dims()
    if read.at.place in gone:
        raise AcrossError
    return read.at if read.args.get("keepdim") else read.to(read.at.place - sum(dim < read.at.place for dim in gone))


@_rule(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm "
    "_batch_norm_with_update _batch_norm_no_update miopen_batch_norm"
)
def _batch_norm(read: Read) -> list[State]:
    is_training = "no_" not in read.event.op and read.args.get("training", True)
    if read.name != "input" or (read.at.place != 1 and is_training):
        raise AcrossError
    statistics = At(0, read.at.inner) if read.at.place == 1 else None
    return [read.at, *[statistics] * (len(read.event.outputs) - 1)]


@_rule("mse_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits")
def _loss(read: Read) -> At:
    if read.args.get("reduction", 1):
        raise AcrossError
    return _elementwise(read)


@_rule("nll_loss_forward nll_loss2d_forward")
def _label_loss(read: Read) -> list[State]:
    """``(B, classes, …)`` and ``(B, …)``; the second result is what the weights sum up to."""
    if read.args.get("reduction", 1) or read.name == "weight" or (read.name == "self" and read.at.place == 1):
        raise AcrossError
    return [read.to(read.at.place - (read.name == "self" and read.at.place > 1)), None]


# -- products --------------------------------------------------------------------------------------------------------


@_rule("mm bmm addmm baddbmm mv addmv dot")
def _product(read: Read) -> At:
    if read.name == "self" and read.event.op in ("aten.addmm", "aten.baddbmm", "aten.addmv"):
        return _elementwise(read)
    is_first = read.name in ("self", "mat1", "batch1", "mat")
    if read.at.place == (read.rank - 1 if is_first else max(read.rank - 2, 0)):
        raise AcrossError
    return read.to(read.at.place if is_first else len(read.made) + read.from_last)


@_rule("linear")
def _linear(read: Read) -> At:
    if (read.name == "input") == (read.at.place == read.rank - 1) and read.name != "bias":
        raise AcrossError
    return read.at if read.name == "input" else read.to(len(read.made) - 1)


@_rule("convolution _convolution")
def _convolution(read: Read) -> At:
    args, place = read.args, read.at.place
    is_whole = read.at.inner * read.num == read.shape[place]
    if read.name == "input" and place == 0:
        return read.at
    if read.name == "input" and place == 1 and is_whole and args.get("groups", 1) % read.num == 0:
        return At(1, read.made[1] // read.num)  # a sample a group
    if read.name != "input" and place == 0 and is_whole and not args.get("transposed"):
        return At(1, read.at.inner)
    if read.name == "input" and place > 1 and args["weight"].shape[place] == 1:
        stride, padding = (args[name][place - 2 if len(args[name]) > 1 else 0] for name in ("stride", "padding"))
        if (stride, padding) == (1, 0):
            return read.at
    raise AcrossError


@_rule("scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math")
def _attention(read: Read) -> At:
    """``(…, T, d)``, and a mask on ``(…, T, S)``; the second result has no ``d``."""
    own = {"query": -2, "value": -1}.get(read.name)
    if read.name in ("attn_mask", "attn_bias") and read.from_last < -1:
        return read.to(len(read.made) + read.from_last)
    if read.from_last >= -2 and read.from_last != own:
        raise AcrossError
    return read.at


@_rule("mkldnn_rnn_layer")
def _lstm_layer(read: Read) -> list[State]:
    """``(T, B, F)``; the states have a batch too."""
    if {"input": 1, "hx_": read.rank - 2, "cx_": read.rank - 2}.get(read.name) != read.at.place:
        raise AcrossError
    state = At(len(read.event.outputs[1].shape) - 2, read.at.inner)
    return [read.to(1), state, state, *[None] * (len(read.event.outputs) - 3)]


@_rule("_cdist_forward")
def _distances(read: Read) -> At:
    if read.from_last == -1:
        raise AcrossError
    return read.to(len(read.made) + read.from_last + (read.name == "x2" and read.from_last == -2))


# -- look up and write -----------------------------------------------------------------------------------------------


@_rule("grid_sampler_2d grid_sampler_3d")
def _sample_grid(read: Read) -> At:
    if read.at.place:
        raise UnknownError if read.name == "grid" else AcrossError
    return read.at


@_rule("embedding")
def _embedding(read: Read) -> At:
    if read.name == "weight" and read.at.place == 0:
        raise AcrossError
    return read.at if read.name == "indices" else read.to(len(read.made) - 1)


@_rule("bucketize")
def _bucketize(read: Read) -> At:
    if read.name != "self":
        raise AcrossError
    return read.at


@_rule("gather scatter scatter_add scatter_reduce")
def _gather(read: Read) -> At:
    """``gather`` reads the data across, the others write to other places; an index stands where its results do."""
    is_kept = read.name == ("index" if read.event.op == "aten.gather" else "self")
    if read.at.place == read.dim() and not is_kept:
        raise AcrossError
    return read.at


@_rule("index_select")
def _index_select(read: Read) -> At:
    if read.name == "index":
        return read.to(read.args["dim"] % len(read.made))
    if read.at.place == read.dim():
        raise UnknownError
    return read.at


@_rule("index_add index_copy")
def _index_add(read: Read) -> At:
    if read.name == "index" or (read.name != "self" and read.at.place == read.dim()):
        raise UnknownError
    return read.at


@_rule("index _unsafe_index")
def _index(read: Read) -> At:
    """``x[i, :, j]`` with tensors side by side; of a mask nothing is known."""
    given = read.args["indices"]
    places = [place for place, item in enumerate(given) if isinstance(item, TensorRef)]
    is_apart = places != list(range(places[0], places[-1] + 1))
    if is_apart or any(given[place].dtype in ("bool", "uint8") for place in places):
        raise UnknownError
    rank = max(len(given[place].shape) for place in places)
    if read.name == "indices":
        return read.to(places[0] + rank + read.from_last)
    if read.at.place in places:
        raise UnknownError
    return read.at if read.at.place < places[0] else read.to(read.at.place - len(places) + rank)

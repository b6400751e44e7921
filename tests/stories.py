"""Hand-made stories: what a trace would have found, written down without torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from modelsummary_ipy.records.summary import Memory, Story
from modelsummary_ipy.records.trace import (
    AtenOp,
    Failure,
    Source,
)
from tests.story_builder import StoryBuilder, spec


def two_convs() -> Story:
    """The seed's worked example: ``conv0`` grows the map, and is flagged for it."""
    build = StoryBuilder("Net", (1, 1, 256, 256), (1, 32, 262, 262))
    conv0 = build.module(
        "conv0", "Conv2d", (1, 1, 256, 256), (1, 16, 264, 264), params={"weight": (16, 1, 3, 3), "bias": (16,)},
        mult_adds=10036224, activation=262144, source="net.py:9",
        extra_repr="1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(5, 5)",
        formula=[("B", "16", "H + 8", "W + 8")],
        aten_ops=[AtenOp("aten.convolution.default", ((1, 1, 256, 256), (16, 1, 3, 3), (16,)), ((1, 16, 264, 264),))],
    )  # fmt: skip
    build.module(
        "conv1", "Conv2d", (1, 16, 264, 264), (1, 32, 262, 262), params={"weight": (32, 16, 3, 3), "bias": (32,)},
        mult_adds=316311552, activation=4460544, source="net.py:10",
        extra_repr="16, 32, kernel_size=(3, 3), stride=(1, 1)", formula=[("B", "32", "H + 6", "W + 6")],
    )  # fmt: skip
    build.formulas[0] = (("B", "32", "H + 6", "W + 6"),)
    build.input_formulas.update(
        {0: (("B", "1", "H", "W"),), 1: (("B", "1", "H", "W"),), 2: (("B", "16", "H + 8", "W + 8"),)}
    )
    build.flag(
        conv0, "grown-map", "warning", "a stride-1 convolution grew the feature map from 256 × 256 to 264 × 264",
        "padding=1 keeps 256 × 256",
    )  # fmt: skip
    memory = Memory(19200, 0, 262144, 4722688, 19200, 38400, 13372928, 18_019_328)
    return build.story(dims=[("B", "", "H", "W")], memory=memory)


def bert_like(num_layers: int = 12, *, flagged: int | None = None, width: int = 768) -> Story:
    """Identical layers in a list; ``flagged`` puts a warning inside one of them."""
    size, inner = (8, 128, width), (8, 128, 4 * width)
    tokens = {"input_ids": (8, 128), "attention_mask": (8, 128)}
    build = StoryBuilder("BertModel", tokens, {".last_hidden_state": size, ".pooler_output": (8, width)})
    ids = tuple(leaf._replace(dtype="int64") for leaf in build.rows[0].inputs)
    build.rows[0] = build.rows[0]._replace(inputs=ids)
    embed = build.module("embeddings", "BertEmbeddings", spec((8, 128), dtype="int64"), size)
    build.module(
        "embeddings.word_embeddings", "Embedding", spec((8, 128), dtype="int64"), size, parent=embed,
        params={"weight": (30522, width)}, extra_repr=f"30522, {width}, padding_idx=0",
    )  # fmt: skip
    build.module(
        "embeddings.LayerNorm", "LayerNorm", size, size, parent=embed, params={"weight": (width,), "bias": (width,)},
        activation=3145728,
    )  # fmt: skip
    encoder = build.module("encoder", "BertEncoder", size, {".last_hidden_state": size})
    for number in range(num_layers):
        layer = build.module(f"encoder.layer.{number}", "BertLayer", size, size, parent=encoder)
        for name, out, macs in (("query", size, 1), ("key", size, 1), ("value", size, 1)):
            row = build.module(
                f"encoder.layer.{number}.{name}", "Linear", size, out, parent=layer,
                params={"weight": (width, width), "bias": (width,)}, mult_adds=macs * 8 * 128 * width * width,
                activation=3145728, formula=[("B", "T", str(width))],
            )  # fmt: skip
            if flagged == number and name == "key":
                build.flag(row, "batch-lost", "warning", "the batch of 8 moved to dim 1", "x.transpose(0, 1)")
        build.op("scaled_dot_product_attention", size, size, parent=layer, mult_adds=8 * 128 * 128 * width * 2)
        build.module(
            f"encoder.layer.{number}.up", "Linear", size, inner, parent=layer,
            params={"weight": (4 * width, width), "bias": (4 * width,)}, mult_adds=8 * 128 * width * width * 4,
            formula=[("B", "T", str(4 * width))],
        )  # fmt: skip
        build.op("gelu", inner, inner, parent=layer, source="bert.py:40", activation=12582912)
        build.module(
            f"encoder.layer.{number}.down", "Linear", inner, size, parent=layer,
            params={"weight": (width, 4 * width), "bias": (width,)}, mult_adds=8 * 128 * width * width * 4,
        )  # fmt: skip
    pooler = build.module("pooler", "BertPooler", size, (8, width))
    build.op("getitem", size, (8, width), parent=pooler, extra_repr=":, 0", source="bert.py:77")
    build.module(
        "pooler.dense", "Linear", (8, width), (8, width), parent=pooler,
        params={"weight": (width, width), "bias": (width,)}, mult_adds=8 * width * width,
    )  # fmt: skip
    build.module("head", "Linear", parent=0, params={"weight": (2, width)}, status="uncalled", trainable=False)
    build.formulas[0] = (("B", "T", str(width)), ("B", str(width)))
    build.input_formulas[0] = (("B", "T"), ("B", "T"))
    memory = Memory(437_935_104, 4096, 16384, 1_100_000_000, 437_935_104, 875_870_208, 60_000_000, 2_851_760_896)
    return build.story(
        dims=[("B", "T"), ("B", "T")], constraints=("T ≤ 512",), unknown_ops=("my::op",), memory=memory
    )  # fmt: skip


def failed_unet() -> Story:
    """A U-Net at an odd size: ``cat`` fails in ``up1``, what comes after is not reached."""
    build = StoryBuilder("UNet", (1, 3, 65, 65), status="failed")
    down = build.module("down1", "Down", (1, 3, 65, 65), (1, 16, 32, 32))
    build.module(
        "down1.conv", "Conv2d", (1, 3, 65, 65), (1, 16, 65, 65), parent=down, params={"weight": (16, 3, 3, 3)},
        mult_adds=16 * 3 * 9 * 65 * 65,
    )  # fmt: skip
    build.module("down1.pool", "MaxPool2d", (1, 16, 65, 65), (1, 16, 32, 32), parent=down)
    up = build.module(
        "up1", "Up", {"x": (1, 16, 32, 32), "skip": (1, 16, 65, 65)}, status="failed", source="unet.py:30"
    )
    build.module("up1.scale", "Upsample", (1, 16, 32, 32), (1, 16, 64, 64), parent=up)
    cat = build.op(
        "cat", {"[0]": (1, 16, 64, 64), "[1]": (1, 16, 65, 65)}, parent=up, status="failed", source="unet.py:22",
        extra_repr="dim=1",
    )  # fmt: skip
    build.module("up1.conv", "Conv2d", parent=up, params={"weight": (16, 32, 3, 3)}, status="unreached")
    build.module("head", "Conv2d", params={"weight": (2, 16, 1, 1), "bias": (2,)}, status="unreached")
    failure = Failure(
        build.rows[cat].call, "RuntimeError", "Sizes of tensors must match except in dimension 1.",
        Source("unet.py", 22, "forward"), "x = torch.cat([x, skip], dim=1)",
    )  # fmt: skip
    return build.story(failure=failure, dims=[("B", "C", "H", "W")], failed_at=(("H = W = 65", "cat in up1"),))


@cache
def mixture(num_layers: int = 61, num_experts: int = 256, *, linears: int = 3) -> Story:
    """A mixture of experts: about ``num_layers × num_experts × (linears + 1)`` modules, most not called."""
    size = (1, 4, 64)
    build = StoryBuilder("MixtureModel", spec((1, 4), dtype="int64"), size)
    for layer in range(num_layers):
        block = build.module(f"layers.{layer}", "MoELayer", size, size)
        build.module(
            f"layers.{layer}.gate", "Linear", size, (1, 4, num_experts), parent=block,
            params={"weight": (num_experts, 64)},
        )  # fmt: skip
        for expert in range(num_experts):
            path = f"layers.{layer}.experts.{expert}"
            used = expert == 7
            row = build.module(
                path, "Expert", (2, 64) if used else None, (2, 64) if used else None, parent=block,
                status="ran" if used else "uncalled",
            )  # fmt: skip
            for name in range(linears):
                build.module(
                    f"{path}.w{name}", "Linear", (2, 64) if used else None, (2, 64) if used else None, parent=row,
                    params={"weight": (64, 64)}, status="ran" if used else "uncalled", mult_adds=8192 if used else 0,
                )  # fmt: skip
    return build.story()


@cache
def all_different(num_rows: int = 50_000, *, wide: int = 25) -> Story:
    """Nothing folds: every module has another size."""
    build = StoryBuilder("Zoo", (1, 1), (1, 1))
    parents = [0]
    while len(build.rows) < num_rows:
        number = len(build.rows)
        parent = parents[(number - 1) // wide]
        path = f"{build.rows[parent].path}.m{number}".lstrip(".")
        parents.append(
            build.module(path, "Block", (1, number), (1, number + 1), parent=parent, extra_repr=f"size={number}")
        )
    return build.story()


def flat(num_rows: int = 1000) -> Story:
    """A long list of distinct convolutions, as deep nets without repetition have."""
    build = StoryBuilder("Flat", (8, 3, 224, 224), (8, 64, 7, 7))
    for number in range(num_rows):
        build.module(
            f"features.block{number}.conv", "Conv2d", (8, 64 + number, 56, 56), (8, 65 + number, 56, 56),
            params={"weight": (65 + number, 64 + number, 3, 3), "bias": (65 + number,)},
            mult_adds=8 * 56 * 56 * 9 * (64 + number) * (65 + number), activation=8 * 56 * 56 * 4 * (64 + number),
            extra_repr=f"{64 + number}, {65 + number}, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)",
            source="net.py:41", formula=[("B", str(65 + number), "H/4", "W/4")],
        )  # fmt: skip
    return build.story(dims=[("B", "C", "H", "W")])


def nested_leaves() -> Story:
    """Tuples, dicts and a dataclass in and out, with a cache of 24 equal leaves."""
    cache = {f".past_key_values[{n}][{k}]": (2, 4, 9, 16) for n in range(12) for k in range(2)}
    outputs = {".logits": (2, 9, 100), **cache, ".aux['loss']": ()}
    build = StoryBuilder("Decoder", {"ids": (2, 9), "state[0]": (2, 32), "state[1]": (2, 32)}, outputs)
    build.module(
        "rnn", "LSTM", {"input": (2, 9, 16), "hx[0]": (1, 2, 32), "hx[1]": (1, 2, 32)},
        {"[0]": (2, 9, 32), "[1][0]": (1, 2, 32), "[1][1]": (1, 2, 32)}, mult_adds=None,
        params={"weight_ih_l0": (128, 16), "weight_hh_l0": (128, 32)},
    )  # fmt: skip
    build.module(
        "pack", "Pack", {"xs[0]": (2, 3), "xs[1]": (2, 4)}, {"['left']": (2, 3), "['right']": (2, 4)},
    )  # fmt: skip
    build.module("ragged", "Nested", (3, -1, 8), (3, -1, 4))
    return build.story(unknown_ops=("aten._thing",))


def repeated_calls(num_calls: int = 16) -> Story:
    """One cell called many times in a row, and two that take turns."""
    build = StoryBuilder("Loop", (16, 4, 8), (4, 8))
    for _ in range(num_calls):
        build.module(
            "cell", "GRUCell", {"input": (4, 8), "hx": (4, 8)}, (4, 8), params={"weight": (24, 8)}, mult_adds=12288
        )
    for _ in range(num_calls):
        build.module("left", "Linear", (4, 8), (4, 8), params={"weight": (8, 8)}, mult_adds=256)
        build.module("right", "ReLU", (4, 8), (4, 8))
    return build.story()


def static_net() -> Story:
    """Only the module tree is known."""
    build = StoryBuilder("Net", status="uncalled")
    for number in range(3):
        build.module(
            f"conv{number}", "Conv2d", params={"weight": (8 * (number + 1), 8, 3, 3)}, status="uncalled",
            extra_repr="8, 8, kernel_size=(3, 3)",
        )  # fmt: skip
    return build.story(engine="static", engine_reason="no input was given")


def real_run() -> Story:
    """A model that reads a value, so that it was run."""
    build = StoryBuilder("Router", (4, 8), (4, 8))
    build.module("gate", "Linear", (4, 8), (4, 2), params={"weight": (2, 8)}, mult_adds=64)
    build.op("item", (1,), None, source="net.py:41")
    return build.story(engine="real", engine_reason=".item() at net.py:41")


#: Text that tries to be markup, script, a terminal code, a table or another line.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</details></table><h1>out</h1>",
    "a|b`c`*d*_e_[f](javascript:alert(1))",
    "line\nbreak\rtab\t\x1b[31mred\x07",
    "\u202egnp.exe\u2066",
    "{{ 7 * 7 }}{% for x in y %}",
    "&lt;b&gt;&#60;",
    "👩‍👩‍👧 模型 é",
    "x" * 300,
    "\ud800lone",
)


def hostile(text: str) -> Story:
    """A story in which every string that a user's code can choose is ``text``."""
    build = StoryBuilder(text, {text: (1, 2)}, {f"['{text}']": (1, 3)})
    row = build.module(
        text, text, {text: (1, 2)}, {text: (1, 3), f"['{text}']": (4,)}, params={text: (2, 3)}, extra_repr=text,
        source=f"{text}:3", formula=[(text, text), (text,)], aten_ops=[AtenOp(text, ((1, 2),), ((1, 3),))],
    )  # fmt: skip
    build.op(text, (1, 2), (2, 1), parent=row, extra_repr=text, source=text)
    failed = build.module(f"{text}.2", text, {text: (1, 2)}, status="failed", extra_repr=text)
    build.module(f"{text}.3", text, status="unreached")
    build.flag(row, text or "rule", "error", text, text)
    failure = Failure(build.rows[failed].call, text, text, Source(text, 1, text), text)
    return build.story(
        failure=failure, engine="real", engine_reason=text, dims=[(text, text)], constraints=(text,),
        failed_at=((text, text),), unknown_ops=(text,), method=text,
    )  # fmt: skip


#: By the names of their golden files.
STORIES: dict[str, Callable[[], Story]] = {
    "two_convs": two_convs,
    "bert_like": lambda: bert_like(flagged=4),
    "failed_unet": failed_unet,
    "mixture": lambda: mixture(3, 16),
    "nested_leaves": nested_leaves,
    "repeated_calls": repeated_calls,
    "static_net": static_net,
    "real_run": real_run,
}

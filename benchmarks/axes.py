"""``python -m benchmarks axes``: how many operations of public architectures the table of axes describes.

An operation is described if its entry applied and agreed with torch at every size that was traced. The zoo of the tests
is walked, and timm's and torchvision's models where these are installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import nn

from modelsummary_ipy.axes.walk import Walk, Walked
from modelsummary_ipy.shapes import walked_formulas
from modelsummary_ipy.summary import ModelSummary
from tests.zoo import ZOO

__all__ = ["main"]

#: Models of other zoos: one of each kind.
_TIMM = (
    "resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "efficientnet_b0",
    "mixer_s32_224", "maxvit_nano_rw_256", "coat_lite_tiny", "edgenext_xx_small", "mobilevit_xxs", "nfnet_f0",
    "pvt_v2_b0", "volo_d1_224", "xcit_nano_12_p8_224", "focalnet_tiny_srf", "hrnet_w18_small", "levit_128s",
    "poolformer_s12", "regnety_002", "repvgg_a0", "tnt_s_patch16_224", "twins_pcpvt_small", "visformer_tiny",
    "fastvit_t8", "mambaout_femto",
)  # fmt: skip
_TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_0",
    "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16", "fcn_resnet50", "deeplabv3_resnet50",
    "lraspp_mobilenet_v3_large", "swin3d_t", "r3d_18", "mvit_v1_b", "s3d", "raft_small",
)  # fmt: skip
_VIDEOS = ("swin3d_t", "r3d_18", "mvit_v1_b", "s3d")

#: Makes a model and its inputs.
Make = Callable[[], tuple[nn.Module, Any]]


def find_models() -> Iterator[tuple[str, Make]]:
    """Yield names of models, and what makes a model with its inputs."""
    for animal in ZOO:
        yield animal.name, lambda animal=animal: (animal.build(), animal.give())  # type: ignore[misc]
    for name in _TIMM if importlib.util.find_spec("timm") else ():
        yield f"timm {name}", lambda name=name: _make_timm(name)  # type: ignore[misc]
    for name in _TORCHVISION if importlib.util.find_spec("torchvision") else ():
        yield f"torchvision {name}", lambda name=name: _make_torchvision(name)  # type: ignore[misc]


def _make_timm(name: str) -> tuple[nn.Module, Any]:
    model = importlib.import_module("timm").create_model(name, pretrained=False).eval()
    return model, (2, *model.default_cfg["input_size"])


def _make_torchvision(name: str) -> tuple[nn.Module, Any]:
    backbone = {"weights_backbone": None} if name.startswith(("fcn", "deeplab", "lraspp")) else {}
    model = importlib.import_module("torchvision").models.get_model(name, weights=None, **backbone).eval()
    size = (1, 3, 16, 224, 224) if name in _VIDEOS else (2, 3, 299, 299) if name == "inception_v3" else (2, 3, 224, 224)
    return model, (size, size) if name == "raft_small" else size


def main(words: Sequence[str]) -> None:
    """Print one line for each architecture whose name holds one of ``words``, and what is not described."""
    warnings.simplefilter("ignore")
    total, opaque, wrong = 0, Counter[str](), Counter[str]()
    walks: list[tuple[Walk, Walked]] = []

    class Kept(Walk):
        """A walk that is kept."""

        def run(self) -> Walked:
            walks.append((self, super().run()))
            return walks[-1][1]

    with mock.patch.object(walked_formulas, "Walk", Kept):
        for name, make in find_models():
            if words and not any(word.lower() in name.lower() for word in words):
                continue
            torch.manual_seed(0)
            walks.clear()
            model, given = make()
            _ = ModelSummary(model, given).formulas
            if not walks:
                print(f"{name:40} not walked")
                continue
            walk, walked = walks[-1]
            events = walk.events
            contradicted = Counter(events[index].op for index, _, _ in walked.wrong)
            print(
                f"{name:40} {len(events):6} operations  {_write(walked.opaque)}{_write(contradicted, '!')}", flush=True
            )
            total += len(events)
            opaque += walked.opaque
            wrong += contradicted
    described = total - opaque.total() - wrong.total()
    print(f"\n{described:,} of {total:,} operations are described: {described / max(total, 1):.2%}")
    print(f"no entry, or one that does not apply: {_write(opaque)}\ncontradicted by torch: {_write(wrong)}")


def _write(counts: Counter[str], mark: str = "") -> str:
    return " ".join(f"{mark}{name} × {count}" for name, count in counts.most_common(12))

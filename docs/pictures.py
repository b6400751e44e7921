"""Draw the documentation's pictures: pages made by ``ms.to_html(standalone=True)``, photographed in light and dark."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from modelsummary_ipy import ModelSummary, Size

FOLDER = Path(__file__).parent / "pictures"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


class Net(nn.Module):
    """The example of the first page."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 16, 3, padding=5)
        self.conv1 = nn.Conv2d(16, 32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(self.conv0(x))


class UNet(nn.Module):
    """Two skips, for the rail beside the names."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2 = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.bottom = nn.Conv2d(64, 128, 3, padding=1)
        self.up2, self.up1 = nn.ConvTranspose2d(128, 64, 2, 2), nn.ConvTranspose2d(64, 32, 2, 2)
        self.dec2, self.dec1 = nn.Conv2d(128, 64, 3, padding=1), nn.Conv2d(64, 32, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e1 = self.enc1(x).relu()
        e2 = self.enc2(self.pool(e1)).relu()
        y = self.bottom(self.pool(e2)).relu()
        y = self.dec2(torch.cat([e2, self.up2(y)], 1)).relu()
        return self.dec1(torch.cat([e1, self.up1(y)], 1))


def build_summaries() -> dict[str, ModelSummary]:
    """Return what is photographed, by the name of its picture."""
    resnet = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Linear(3136, 10))
    summaries = {
        "summary": ModelSummary(resnet, Size("B=8 3 H=224 W=224")),
        "example": ModelSummary(Net(), (1, 1, 256, 256)),
        "flow": ModelSummary(UNet(), (2, 3, 64, 64)),
        "failure": ModelSummary(head, (32, 64, 28, 28)),
    }
    for summary in summaries.values():
        summary.pipeline.allow(3600)  # a busy machine leaves nothing out
    summaries["summary"].view = replace(summaries["summary"].view, depth=5)  # one screen of it
    return summaries


def main() -> None:
    if CHROMIUM is None:
        sys.exit("no Chromium was found: `make browser` installs one")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, summary in build_summaries().items():
            page_file = summary.save(Path(folder) / f"{name}.html")
            for scheme in ("light", "dark"):
                page = browser.new_page(
                    viewport={"width": 960, "height": 100}, device_scale_factor=1.5, color_scheme=scheme
                )
                page.goto(page_file.as_uri())
                page.locator(".ms-bar").wait_for()
                target = FOLDER / f"{name}-{scheme}.png"
                page.screenshot(path=target, full_page=True, animations="disabled")
                page.close()
                print(target)
        browser.close()


if __name__ == "__main__":
    main()

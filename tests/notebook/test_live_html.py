"""The page inside a widget: what a browser will run is the package's own, and the model's words stay text."""

from __future__ import annotations

import lxml.html
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.notebook.form.live_html import live_page, static_page

EVIL = '"><img src=x onerror=alert(1)><style onload=alert(2)>'


class Evil(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module(EVIL.replace(".", ""), nn.Linear(2, 2))

    def forward(self, x):
        return next(self.children())(x)


def test_the_only_handler_is_ours_and_no_script_is_left() -> None:
    tree = lxml.html.fromstring(live_page(ModelSummary(Evil(), (1, 2)).to_html(packed=False)))
    handlers = [(node.tag, name) for node in tree.iter() for name in node.attrib if name.startswith("on")]
    assert handlers == [("style", "onload")]
    assert tree.xpath("//script") == []
    assert tree.xpath("//img") == []
    assert "alert(1)" not in tree.xpath("//style[@onload]")[0].get("onload")


def test_the_page_that_stands_beside_says_that_a_form_belongs_to_it() -> None:
    page = ModelSummary(nn.Linear(2, 2), (1, 2)).to_html()
    assert page in static_page(page)
    assert "needs a running kernel" in lxml.html.fromstring(static_page(page)).text_content()

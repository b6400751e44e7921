"""Names, settings and messages of a hostile model are words on the page, and nothing but words."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from tests.browser.hosts import show_page

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</details></table><script>alert(2)</script>",
    "</style><script>alert(3)</script>",
    '"><svg onload=alert(4)>',
    "'><iframe src=javascript:alert(5)>",
    "</script><script>alert(6)</script>",
    "</title><script>alert(7)</script>",
    "{{ 7 * 7 }}{% raw %}",
]

#: Elements that the page may hold; nothing a model says may add another kind.
OWN = {
    "b", "bdi", "body", "br", "button", "code", "col", "colgroup", "dd", "details", "div", "dl", "dt", "em", "h1",
    "head", "html", "i", "input", "label", "li", "line", "main", "meta", "meter", "noscript", "output", "p", "path",
    "pre", "rect", "script", "section", "small", "span", "style", "summary", "svg", "table", "template", "tbody", "td",
    "text", "th", "title", "tr", "ul",
}  # fmt: skip


class Hostile(nn.Module):
    """A layer whose every word is markup."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word
        self.inner = nn.ModuleDict()
        self.inner.add_module(word.replace(".", " "), nn.Linear(2, 2))

    def extra_repr(self) -> str:
        return self.word

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        (layer,) = self.inner.values()
        return {self.word: layer(x)}


class Failing(Hostile):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        raise RuntimeError(self.word)


def find_kinds(page: Page) -> set[str]:
    return set(page.evaluate("() => [...document.querySelectorAll('*')].map(one => one.localName)"))


def test_no_word_of_a_model_becomes_markup(new_page: Callable[..., Page]) -> None:
    page = new_page()
    alerts: list[str] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    for word in HOSTILE:
        for kind in (Hostile, Failing):
            named = type(word, (kind,), {})
            summary = ModelSummary(named(word), (1, 2))
            for html in (summary.to_html(standalone=True), f"<main>{summary.to_html()}</main>"):
                show_page(page, html)
                assert find_kinds(page) <= OWN
                assert page.locator("script").count() == 1
                assert word in page.locator("body").inner_text()
    assert alerts == []

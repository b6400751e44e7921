"""The page of a summary inside a widget, where a ``<script>`` does not run: with its toolbar, and kept as it was."""

from __future__ import annotations

import html

from modelsummary_ipy.notebook.keep import read_script

#: Where the same cell's output holds a form, the table that is saved beside it is not shown a second time. Without
#: the form (a saved notebook, a host without widgets) nothing hides it.
_HIDE_TWIN = ".jp-OutputArea-child:has(.ms-beside):has(+ .jp-OutputArea-child .ms-root){display:none}"
#: A form without its kernel is an error in JupyterLab ("model not found"), and the sentence once more on a page made of
#: the notebook: the table says it already.
_HIDE_DEAD = ".jp-OutputArea-child:has(.ms-beside)+.jp-OutputArea-child:not(:has(.ms-root)){display:none}"
SENTENCE = "A form to change sizes belongs to this table. It needs a running kernel and ipywidgets; the table does not."


def live_page(page: str) -> str:
    """Return a page that runs its script in an HTML widget, and keeps what its reader opened and scrolled to.

    A browser runs no script that is put into a page as text. The load of a style is an event like any other: the script
    is its handler. Where a host forbids that, the page is as in an untrusted notebook.

    Args:
        page: From ``ModelSummary.to_html(packed=False)``: one that is compressed is not whole when it is put in place.
    """
    before, found, after = page.rpartition("<script>")
    script, _, after = after.partition("</script>")
    handler = f"{script if found else ''}\n{read_script()}(this.parentElement);"
    handler += f"\n{read_script('form/sliders.js')}(this.closest('.widget-vbox'));"
    return f'{before}{after}<style onload="{html.escape(handler)}">{_HIDE_TWIN}</style>'


def copied_line(line: str) -> str:
    """Return a line of code that copies itself when it is put into a page, and says so."""
    handler = f"{read_script('form/copy.js')}(this);"
    shown = f'<code style="white-space:pre-wrap">{html.escape(line)}</code> <span role="status"></span>'
    return f'{shown}<style onload="{html.escape(handler)}"></style>'


def static_page(page: str) -> str:
    """Return a page to show beside a form: it is what a saved notebook shows."""
    return f'<div class="ms-beside">{page}<p style="font-size:12px">{SENTENCE}</p><style>{_HIDE_DEAD}</style></div>'

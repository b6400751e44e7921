"""Where summaries are looked at: one Jupyter server that serves JupyterLab, Notebook 7 and Voila, and pages by hand."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

#: A kernel that imports torch on a busy machine needs its time; nothing waits this long when all is well.
PATIENCE = 120_000

KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}


@dataclass(frozen=True)
class Server:
    """A running Jupyter server.

    Attributes:
        url: Where it listens, without a slash at the end.
        token: What it asks for.
        root: The folder whose notebooks it serves.
    """

    url: str
    token: str
    root: Path

    def write(self, name: str, cells: Sequence[str], outputs: Sequence[dict[str, str] | None] = ()) -> str:
        """Write a notebook; outputs are what a colleague's saved file has: there, and not trusted."""
        import nbformat  # 1.5 s, for its checker of schemas: not while tests are collected
        from nbformat.v4 import new_code_cell, new_notebook, new_output

        notebook = new_notebook(metadata={"kernelspec": KERNELSPEC})
        for source, data in zip(cells, [*outputs, *[None] * len(cells)], strict=False):
            cell = new_code_cell(source)
            if data is not None:
                cell.execution_count = 1
                cell.outputs = [new_output("execute_result", data=data, execution_count=1)]
            notebook.cells.append(cell)
        nbformat.write(notebook, self.root / name)
        return name

    def address(self, path: str) -> str:
        return f"{self.url}/{path}{'&' if '?' in path else '?'}token={self.token}"


@contextmanager
def start_server(root: Path, log: Path) -> Iterator[Server]:
    """Start a server of its own on a free port, and stop it and its kernels however the block ends."""
    port = find_port()
    token = secrets.token_hex(8)
    settings = Path(os.environ["JUPYTER_CONFIG_DIR"]) / "lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    # otherwise JupyterLab asks, in a bubble over the page, whether it may fetch news
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": root,
        "ServerApp.terminals_enabled": False,
        "IdentityProvider.token": token,
        "LabApp.expose_app_in_browser": True,
        "LabApp.extension_manager": "readonly",
        "JupyterNotebookApp.expose_app_in_browser": True,
        "VoilaConfiguration.file_allowlist": ".*",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    server = Server(f"http://127.0.0.1:{port}", token, root)
    with serve(command, server.address("api/status"), log):
        yield server


def find_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(command: Sequence[str | Path], url: str, log: Path) -> Iterator[None]:
    """Run a server until the block ends; the block begins when the server answers."""
    with log.open("w") as written:
        # a session of its own, so that its kernels can be ended with it
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(url, process, log)
            yield
        finally:
            _end(process)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{log.read_text()}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the server does not answer:\n{log.read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


class Notebook:
    """A notebook open in JupyterLab or Notebook 7, driven as its reader would."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @classmethod
    def open(cls, page: Page, server: Server, name: str, app: str = "lab") -> Notebook:
        """Open a notebook, and wait until its kernel answers.

        Args:
            page: The page to open it in.
            server: Who serves it.
            name: The notebook's file, below the server's root.
            app: ``"lab"`` or ``"notebook"``.
        """
        # `doc` is JupyterLab's page for a single document; `reset` forgets the workspace of an earlier test
        path = f"doc/tree/{name}?reset" if app == "lab" else f"notebooks/{name}"
        page.goto(server.address(path), wait_until="domcontentloaded")
        expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=PATIENCE)
        notebook = cls(page)
        notebook.wait_until_idle()
        return notebook

    def wait_until_idle(self) -> None:
        """Wait until there is a kernel and it runs nothing: pages that it showed are then the last ones."""
        # The toolbar says "idle" before there is a kernel, and running a cell then asks for one in a dialog.
        self.page.wait_for_function(
            """() => {
                const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
                return session?.isReady && session.session?.kernel?.status === "idle";
            }""",
            timeout=PATIENCE,
        )

    def command(self, name: str) -> None:
        """Run one of the application's commands; `void`, because evaluate would wait for it without an end."""
        self.page.evaluate("name => void window.jupyterapp.commands.execute(name)", name)

    def run_all(self) -> None:
        """Run every cell, from the first."""
        self.command("notebook:run-all-cells")

    @property
    def summaries(self) -> Locator:
        """What the package put into the outputs, in order."""
        return self.page.locator(".jp-OutputArea-output .ms-root")

    def wait_for_summary(self, number: int = 0) -> Locator:
        """Wait until that many summaries and one more are shown; return that one."""
        shown = self.summaries.nth(number)
        failed = self.page.locator("[data-mime-type='application/vnd.jupyter.stderr']")
        expect(shown.or_(failed).first).to_be_visible(timeout=PATIENCE)
        assert failed.count() == 0, failed.first.inner_text()
        wait_for_script(shown)
        return shown

    def set_theme(self, name: str) -> None:
        """Change the application's theme (``"JupyterLab Dark"``), and wait until the curtain is up again."""
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        expect(self.page.locator(f"body[data-jp-theme-name='{name}']")).to_be_attached()
        expect(self.page.locator("#jupyterlab-splash")).to_be_hidden()

    def save(self) -> None:
        """Save the notebook, and wait until it is."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")


def wait_for_script(inside: Page | Locator) -> None:
    """Wait until the pages' own script has unpacked them; where it does not run there is nothing to wait for."""
    roots = inside if isinstance(inside, Locator) else inside.locator(".ms-root")
    roots.evaluate_all("roots => Promise.all(roots.map(root => root.msReady))")


def show_page(page: Page, html: str) -> None:
    """Show a page, and wait until its script has run."""
    page.set_content(html)
    wait_for_script(page)


def find_row(inside: Page | Locator, name: str) -> Locator:
    """Return the row that has a name: its disclosure, which holds the rows below it, or a line without one."""
    text = "normalize-space({}) = '{name}' or starts-with(normalize-space({}), '{name} ')"
    row, line = (text.replace("{}", head).replace("{name}", name) for head in ("./summary//th", "./th"))
    return inside.locator(f"xpath=.//details[{row}] | .//tr[not(ancestor::summary)][{line}]").first


def find_head(row: Locator) -> Locator:
    """Return the part of a row that is clicked."""
    return row.locator("xpath=./summary")


def is_open(row: Locator) -> bool:
    """Whether a disclosure stands open."""
    return bool(row.evaluate("row => row.open"))


def find_violations(page: Page, axe: Path, inside: str = ".ms-root") -> list[str]:
    """Ask axe-core about everything inside a selector: one line for each rule that is violated, and where."""
    wait_for_script(page)
    page.add_script_tag(path=axe)
    found: list[dict[str, Any]] = page.evaluate(
        "async inside => (await axe.run({include: [[inside]]}, {resultTypes: ['violations']})).violations", inside
    )
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]

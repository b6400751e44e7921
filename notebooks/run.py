"""Execute a notebook in a real kernel, and leave it beside what it wrote: ``python run.py quickstart.ipynb build``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def run_notebook(source: Path, folder: Path) -> Path:
    """Execute ``source`` with ``folder`` as its working directory.

    Returns:
        Where the executed notebook lies.

    Raises:
        CellExecutionError: If a cell raises; the notebook is written all the same, up to that cell.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(source, as_version=4)
    target = folder / source.name
    with tempfile.TemporaryDirectory() as home:
        # a kernel of the python that runs this, whatever kernels the user has installed
        os.environ.update({f"JUPYTER_{name}_DIR": home for name in ("CONFIG", "DATA", "RUNTIME")}, IPYTHONDIR=home)
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],  # it warns, on every start, that it talks over TCP
            resources={"metadata": {"path": str(folder)}},
        )
        try:
            client.execute()
        finally:
            nbformat.write(notebook, target)
    return target


if __name__ == "__main__":
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    before = {page: page.stat().st_mtime_ns for page in folder.glob("*.html")}
    print(f"executed notebook: {run_notebook(source, folder)}")
    for page in sorted(folder.glob("*.html")):
        if before.get(page) != page.stat().st_mtime_ns:
            print(f"standalone page:   {page}")

"""Where installed packages are: their code is not the user's."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Sequence


def list_package_folders(path: Sequence[str]) -> tuple[str, ...]:
    """Return the folders of installed packages, each with a separator at its end.

    Those of this environment, the user's own, and what is so named on the path: a virtual environment that sees the
    system's packages has several.

    Args:
        path: Where modules are looked for, as ``sys.path``.
    """
    own = [sysconfig.get_paths()[key] for key in ("purelib", "platlib")]
    named = [entry for entry in path if os.path.basename(entry.rstrip(os.sep)) in ("site-packages", "dist-packages")]
    folders = (*own, *site.getsitepackages(), site.getusersitepackages(), *named)
    return tuple(dict.fromkeys(folder.rstrip(os.sep) + os.sep for folder in folders))


#: Folders of installed packages.
PACKAGES = list_package_folders(sys.path)
#: The same, and Python's own.
INSTALLED = (*PACKAGES, *(sysconfig.get_paths()[key] + os.sep for key in ("stdlib", "platstdlib")))


def find_file(name: str) -> str:
    """Return the file of an imported module; ``""`` if it has none.

    Read from its namespace: a module that imports others when it is asked for an attribute (speechbrain's, for
    optional packages) would do so, and may fail.
    """
    namespace = getattr(sys.modules.get(name), "__dict__", {})
    return str(namespace.get("__file__") or "")

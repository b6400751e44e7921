"""Where installed packages are: their code is not the user's."""

from __future__ import annotations

import os
import sysconfig

#: Folders of installed packages, each with a separator at its end.
PACKAGES = tuple(sysconfig.get_paths()[key] + os.sep for key in ("purelib", "platlib"))

"""Where installed packages are."""

from __future__ import annotations

import pytest

from modelsummary_ipy.records.packages import INSTALLED, list_package_folders


@pytest.mark.parametrize(
    ("entry", "is_package"),
    [
        ("/usr/lib/python3/dist-packages", True),  # the system's, which a virtual environment may see
        ("/opt/env/lib/python3.12/site-packages/", True),
        ("/home/somebody/project", False),
        ("/home/somebody/site-packages-notes", False),
        ("", False),
    ],
)
def test_every_folder_of_packages_on_the_path_counts(entry: str, is_package: bool) -> None:
    file = f"{entry.rstrip('/')}/torch/nn/functional.py"
    assert file.startswith(list_package_folders([entry])) == is_package


def test_packages_and_pythons_own_modules_are_installed() -> None:
    import asyncio

    assert pytest.__file__.startswith(INSTALLED)
    assert asyncio.__file__.startswith(INSTALLED)
    assert not __file__.startswith(INSTALLED)

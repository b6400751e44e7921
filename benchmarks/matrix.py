"""The tests on each torch that ``pyproject.toml`` admits: ``make matrix``, or ``make matrix VERSIONS="2.9.1 lowest"``.

One version at a time, each in an environment of its own outside the checkout that is deleted after it: with the
libraries for a graphics card a torch is six gigabytes. ``lowest`` takes the lower bound of every run-time dependency
at once. What follows ``--`` goes to pytest: parts of the suite, say.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("2.7.1", "2.8.0", "2.9.1", "2.10.0", "2.11.0", "2.13.0", "2.14.1", "2.15.0", "lowest")


def find_requirements(version: str) -> list[str]:
    """Return what pip is asked for beside the package itself, and the pins of ``constraints.txt`` except torch's."""
    if version != "lowest":
        return [f"torch=={version}"]
    (listed,) = re.findall(r"^dependencies = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    # The pandas of that bound was built for the numpy before 2.
    return [*(bound.replace(">=", "==") for bound in re.findall(r'"(.+?)"', listed)), "numpy<2"]


def run_version(version: str, arguments: Sequence[str]) -> str:
    """Run the tests on one version, and return what pytest says in its last line."""
    with tempfile.TemporaryDirectory(prefix=f"modelsummary-torch-{version}-") as folder:
        python = str(Path(folder, "bin", "python"))
        pins = Path(folder, "pins.txt")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        pins.write_text("\n".join(line for line in lines if not line.startswith("torch==")))
        install = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--constraint", str(pins)]
        asked = [*find_requirements(version), "--editable", f"{ROOT}[test]"]
        if subprocess.run([*install, *asked], cwd=ROOT).returncode:
            return "could not be installed"
        environment = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}", "VIRTUAL_ENV": folder}
        command = [python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *arguments]
        last = ""
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as tests:
            for line in tests.stdout or ():
                print(line, end="", flush=True)
                last = line.strip(" =\n") or last
        return last


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of torch; all: {' '.join(VERSIONS)}")
    words = list(sys.argv[1:] if given is None else given)
    split = words.index("--") if "--" in words else len(words)
    versions = parser.parse_args(words[:split]).versions or VERSIONS
    results = {}
    for version in versions:
        print(f"\n=== torch {version}", flush=True)
        results[version] = run_version(version, words[split + 1 :])
    print("\n| torch | tests |\n|---|---|")
    for version, result in results.items():
        print(f"| {version} | {result} |")
    return int(any("passed" not in result or "failed" in result or "error" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())

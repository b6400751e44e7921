"""How many imports lead from one package of ``modelsummary_ipy`` to another: ``make arrows``."""

from __future__ import annotations

from collections import Counter

import grimp

ROOT = "modelsummary_ipy"


def main() -> None:
    graph = grimp.build_graph(ROOT, cache_dir=None)
    arrows = {
        (importer.removeprefix(f"{ROOT}."), importer.split(".")[1], imported.split(".")[1])
        for importer in graph.modules - {ROOT}
        for imported in graph.find_modules_directly_imported_by(importer) - {ROOT}
    }
    between = Counter((package, other) for _, package, other in arrows if package != other)
    for (package, other), files in sorted(between.items()):
        print(f"{package:>10} -> {other:10} {files:3} files")
    print(f"{len(between)} arrows between packages, {between.total()} from a file to another package")


if __name__ == "__main__":
    main()

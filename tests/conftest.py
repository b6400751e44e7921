"""What every test may ask for: golden files, a clean Jupyter, and a loud notice of browser tests that did not run."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch is imported: on small tensors more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import HealthCheck, settings

from tests.fresh_process import FreshProcesses

# Nothing about time is asserted: a slow machine is not a broken one.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("untimed")

# Thousands of tests keep models and summaries; looking through them every 700 objects took an eighth of the time.
gc.set_threshold(10_000, 10, 10)

# A shell starts what it runs in the background with interrupts ignored; some tests interrupt themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_CHROMIUM = "no Chromium was found: `make browser` installs one"

#: Why browser tests were skipped, and how many.
_not_run: dict[str, int] = {}


def find_chromium() -> str | None:
    """Path of the Chromium to drive, or ``None``; ``$CHROMIUM`` overrides what is on the path."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files with what came out")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a browser or a server's kernels; tests in a browser run last, when all cheaper ones passed."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("kernel")
        if "browser" in item.path.parts:
            item.add_marker("browser")
            if find_chromium() is None:
                item.add_marker(pytest.mark.skip(reason=NO_CHROMIUM))
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and "browser" in report.keywords:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _not_run[reason] = _not_run.get(reason, 0) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, count in _not_run.items():
        terminalreporter.section("BROWSER TESTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.line(f"{count} browser tests were skipped. {reason.removeprefix('Skipped: ')}", red=True)


@pytest.fixture(scope="module", autouse=True)
def new_objects_alone_are_collected() -> None:
    """Keep the collector from looking through what the tests of earlier modules keep: late in a run that takes seconds.

    A test that asks what a trace does where nothing is frozen runs in a process of its own: ``fresh``.
    """
    gc.collect()
    gc.freeze()


class _Records(logging.Handler):
    """Keeps the lines that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def every_fix_is_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply and run every fix of every failure that a test looks at: see ``tests/fix_is_true.py``.

    Not in a module that says ``RUNS_FIXES = False``: it compares what a summary leaves, and a real run leaves more.
    """
    if not getattr(request.module, "RUNS_FIXES", True):
        return
    if "torch" not in sys.modules or "modelsummary_ipy.pipeline.stages" not in sys.modules:
        return
    from modelsummary_ipy.pipeline.findings import Findings
    from modelsummary_ipy.pipeline.stages import Pipeline
    from tests.fix_is_true import check_fixes, copy_model

    explain, build = vars(Findings)["error"].func, Pipeline.__init__
    copies: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # the model is mostly gone by then

    def build_and_copy(pipeline: Any, model: Any, traced: Any, *args: Any) -> None:
        build(pipeline, model, traced, *args)
        if traced.trace.failure is not None:
            copies[pipeline] = copy_model(model, traced.trace)

    def explain_and_run(pipeline: Any) -> Any:
        error = explain(pipeline)
        if error is not None and error.fixes:
            check_fixes(copies.get(pipeline), pipeline.traced.trace, pipeline.traced.request.inputs, error)
        return error

    monkeypatch.setattr(Pipeline, "__init__", build_and_copy)
    monkeypatch.setattr(vars(Findings)["error"], "func", explain_and_run)


@pytest.fixture(autouse=True)
def internal_errors() -> Iterator[list[str]]:
    """What the package logged as its own mistake: a test fails by it unless it takes the lines out of the list."""
    records, log = _Records(), logging.getLogger("modelsummary_ipy")
    log.addHandler(records)
    yield records.lines
    log.removeHandler(records)
    assert records.lines == [], "\n".join(records.lines)


#: Where a search ends after some seconds.
_TIMED = ("records.retraced", "pipeline.trials", "tracing.engine")
#: Seconds of this process that are one second to a search: a machine four times as slow finds the same.
_SLOWER = 4


@pytest.fixture(autouse=True)
def limits_count_our_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let limits of time count what this process computes: a busy or slow machine then finds what an idle one does."""
    for module in (sys.modules.get(f"modelsummary_ipy.{name}") for name in _TIMED):
        if module is not None:
            monkeypatch.setattr(module, "monotonic", lambda: time.process_time() / _SLOWER)
            if hasattr(module, "thread_time"):
                monkeypatch.setattr(module, "thread_time", lambda: time.thread_time() / _SLOWER)


@pytest.fixture
def attention_as_traced() -> Iterator[None]:
    """The fast path of attention runs other kernels and is off while tracing; torch's warnings are not tested here."""
    import torch

    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.backends.mha.set_fastpath_enabled(was)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with ``tests/golden/<name>``; ``--update-golden`` writes it instead."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path.name} is not there yet: run pytest --update-golden, then read what it wrote"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def fresh() -> Iterator[FreshProcesses]:
    """Processes in which torch has been imported, and nothing of this package."""
    with FreshProcesses() as processes:
        yield processes


@pytest.fixture(scope="session", autouse=True)
def clean_jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kernels, servers and shells that know nothing of the settings of whoever runs the tests."""
    home = tmp_path_factory.mktemp("jupyter")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        for name in names:
            patch.setenv(name, str(home / name.lower()))
        yield home

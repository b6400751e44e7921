"""The worker: one request at a time, the newest wins."""

from __future__ import annotations

import threading

import torch

from modelsummary_ipy.notebook.form.worker import TorchState, Worker


def test_the_newest_request_wins_and_the_running_one_is_cancelled() -> None:
    started, seen = threading.Event(), []

    def work(request, stopped):
        if request == "first":
            started.set()
            while not stopped():
                threading.Event().wait(0.001)
            seen.append("first was cancelled")
        else:
            seen.append(request)

    worker = Worker(work, seen.append, delay=0.0)
    worker.submit("first", now=True)
    assert started.wait(10)
    worker.submit("second")
    assert worker.wait(10)
    assert seen == ["first was cancelled", "second"]


def test_requests_within_the_delay_are_one() -> None:
    seen = []
    worker = Worker(lambda request, stopped: seen.append(request), seen.append, delay=0.2)
    for request in "abc":
        worker.submit(request)
    assert worker.wait(10)
    assert seen == ["c"]


def test_no_two_requests_run_at_once() -> None:
    running, most = [], []

    def work(request, stopped):
        running.append(request)
        most.append(len(running))
        threading.Event().wait(0.01)
        running.pop()

    worker = Worker(work, most.append, delay=0.0)
    threads = [threading.Thread(target=worker.submit, args=(number,), kwargs={"now": True}) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worker.wait(10)
    assert set(most) == {1}


def test_the_thread_ends_when_there_is_nothing_to_do() -> None:
    worker = Worker(lambda request, stopped: None, print, delay=0.0)
    before = threading.active_count()
    worker.submit("x", now=True)
    assert worker.wait(10)
    for thread in threading.enumerate():
        if thread.name == "modelsummary-form":
            thread.join(10)
    assert threading.active_count() == before
    assert not worker.busy


def test_cancelling_drops_what_waits() -> None:
    seen = []
    worker = Worker(lambda request, stopped: seen.append(request), seen.append, delay=5.0)
    worker.submit("never")
    worker.cancel()
    assert worker.wait(10)
    assert seen == []


def test_an_exception_is_reported_and_the_next_request_still_runs() -> None:
    seen = []

    def work(request, stopped):
        if request == "bad":
            raise ValueError("no")
        seen.append(request)

    worker = Worker(work, lambda error: seen.append(type(error).__name__), delay=0.0)
    worker.submit("bad", now=True)
    assert worker.wait(10)
    worker.submit("good", now=True)
    assert worker.wait(10)
    assert seen == ["ValueError", "good"]


def test_a_thread_enters_the_grad_mode_autocast_and_default_device_of_another() -> None:
    seen = {}

    def look(state: TorchState) -> None:
        with state.entered():
            seen["inside"] = TorchState.read()
        seen["after"] = TorchState.read()

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
        state = TorchState.read()
    thread = threading.Thread(target=look, args=(state,))
    thread.start()
    thread.join()
    assert seen["inside"] == state
    assert seen["inside"] != seen["after"] == TorchState.read()

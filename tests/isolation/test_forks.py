"""Children that are forked while another thread traces."""

from __future__ import annotations

import os

import pytest

from tests.fresh_process import FreshProcesses

SCRIPT = '''
import gc, os, signal, sys, threading, time, traceback, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
import torch
from torch import nn
from modelsummary_ipy import ModelSummary

torch.set_num_threads(1)
BEGAN, FORKED, WAITS = threading.Event(), threading.Event(), threading.Event()
KEPT = {}
STDOUT, HANDLER, LIMIT = sys.stdout, signal.getsignal(signal.SIGINT), sys.getrecursionlimit()
codes = []

class Waits(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
    def forward(self, x):
        x = self.layer(x)
        KEPT["last"] = x
        if WAITS.is_set():
            BEGAN.set()
            FORKED.wait(60)
        return x

def check():
    """Do in a child what a child does: look, summarise, train."""
    assert gc.isenabled()
    assert sys.stdout is STDOUT
    assert signal.getsignal(signal.SIGINT) is HANDLER
    assert sys.getrecursionlimit() == LIMIT
    assert torch.backends.mha.get_fastpath_enabled()
    assert not KEPT, KEPT
    assert shared.pipeline.lock.acquire(timeout=5)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))  # of four ReLUs all are dead one time in 16
    made = ModelSummary(net, (2, 4))
    assert made.formulas and str(made)
    weight = net[0].weight.detach().clone()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    net(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(weight, net[0].weight)
    assert type(torch.ones(2) * 2) is torch.Tensor

def fork():
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(60)
    try:
        check()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def trace():
    WAITS.set()
    str(ModelSummary(Waits(), (2, 4)))

def trace_again():
    ms = ModelSummary(Waits(), (2, 4))
    WAITS.set()
    str(ms)

def fork_meanwhile():
    BEGAN.wait(60)
    codes.append(fork())
    FORKED.set()

shared = ModelSummary(nn.Linear(2, 2), (1, 2))
str(shared)
for here, there in ((trace, fork_meanwhile), (fork_meanwhile, trace), (fork_meanwhile, trace_again)):
    BEGAN.clear(), FORKED.clear(), WAITS.clear(), KEPT.clear()
    thread = threading.Thread(target=there)
    thread.start()
    here()
    thread.join()
assert codes == [0, 0, 0], codes
assert sys.stdout is STDOUT and gc.isenabled() and sys.getrecursionlimit() == LIMIT
'''


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows forks nothing")
def test_a_child_forked_during_a_trace_summarises_and_trains(fresh: FreshProcesses) -> None:
    """The trace runs in the main thread, and another one forks; then the other way round."""
    ran = fresh.run(SCRIPT)
    assert ran.returncode == 0, ran.stderr

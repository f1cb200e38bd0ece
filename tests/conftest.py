import os

import pytest
import torch


def pytest_configure():
    """Threads stay as they are, whatever else this machine does: sums depend on them in their last digits,
    and some tests ask for the same ones.
    `make test-machines` runs the suite as other processors would: what is left to `auto` in bfloat16 as well"""
    os.environ.setdefault("GRAD_KIT_THREADS", str(torch.get_num_threads()))
    if os.environ.get("GRAD_KIT_TEST_PRECISION") != "bfloat16": return
    import grad_kit.grad
    original = grad_kit.grad.pick_dtype
    def pick_dtype(precision, device): return torch.bfloat16 if precision == "auto" else original(precision, device)
    grad_kit.grad.pick_dtype = pick_dtype


def pytest_pycollect_makeitem(collector, name, obj):
    "Leave fastcore's own `test_eq` and friends alone: a star import brings them into each test module"
    if getattr(obj, "__module__", "").startswith("fastcore."): return []


def pytest_collection_modifyitems(items):
    "Tests that need a GPU say so and skip where there is none"
    if torch.cuda.is_available(): return
    for item in items:
        if "gpu" in item.keywords: item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


def pytest_terminal_summary(terminalreporter):
    "What the slow tests measured, in one place at the end: the lines they print that begin with 'measured:'"
    passed = terminalreporter.stats.get("passed", [])
    figures = [line for r in passed for line in r.capstdout.splitlines() if line.startswith("measured: ")]
    if figures: terminalreporter.write_sep("=", "figures")
    for line in figures: terminalreporter.write_line(line.removeprefix("measured: "))

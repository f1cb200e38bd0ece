import pytest
import torch


def pytest_pycollect_makeitem(collector, name, obj):
    "Leave fastcore's own `test_eq` and friends alone: a star import brings them into each test module"
    if getattr(obj, "__module__", "").startswith("fastcore."): return []


def pytest_collection_modifyitems(items):
    "Tests that need a GPU say so and skip where there is none"
    if torch.cuda.is_available(): return
    for item in items:
        if "gpu" in item.keywords: item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))

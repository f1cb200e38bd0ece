"""GRAD, Generating and Reweighting Dense contrastive patterns (Dai et al., AAAI 2024, arXiv 2312.15911).
Bi-Grid Reconstruction is another method of that name"""
import os
from importlib import import_module

__version__ = "0.1.0"

# idle threads sleep: two fits at once take 1.3 times as long each, not 3 times (notebook base/compute);
# torch reads it when it is first imported
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# public name -> its module
_HOME = {"Config": "base.config", "GradKitError": "base.config", "read_dataset": "data.layouts", "GRAD": "model.grad"}
__all__ = list(_HOME)


def __getattr__(name):
    "Import a public name's module at its first use, so that `import grad_kit` itself takes no time (PEP 562)"
    if name not in _HOME: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__(): return sorted([*globals(), *_HOME])

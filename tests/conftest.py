import os, tempfile
from pathlib import Path
from contextlib import contextmanager, nullcontext

import pytest
import torch


def pytest_configure():
    "`make test-machines` runs the suite as other processors would: what is left to `auto` in bfloat16 as well"
    # a folder's neighbours up to two levels above are asked for labels: those of tests are ours
    tempfile.tempdir = str(Path(tempfile.mkdtemp())/"a"/"b")
    os.makedirs(tempfile.tempdir)
    if os.environ.get("GRAD_KIT_TEST_PRECISION") != "bfloat16": return
    import grad_kit.model.grad
    original = grad_kit.model.grad.pick_dtype
    def pick_dtype(precision, device): return torch.bfloat16 if precision == "auto" else original(precision, device)
    grad_kit.model.grad.pick_dtype = pick_dtype


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    "Folder of a closed-form model that the command `grad_fit` wrote; copy it where something is written beside it"
    from test_promises import CLOSED, fit, goods, run
    root = tmp_path_factory.mktemp("model")
    status, text = run(fit, goods(root/"parts", 30), "--out", root/"m", *CLOSED)
    assert status == 0, text
    return root/"m"


def tiny(**changes):
    "Settings of the smallest fit that goes through every stage"
    from grad_kit.base.config import Config
    return Config.preset("demo").replace(**dict(
        scorers=("detector",), score_top=0., image_size=64, generator="both", contrastive_levels=((5, 9),), blur=8.,
        n_contrastive=6, sample_steps=4, generator_steps=6, generator_width=8, generator_batch=2, analytic_images=4,
        reweight_after=0., tail_reweighting=True, beta_density=1., alpha_1=.1, alpha_2=.1, detector_steps=40,
        detector_width=.125, patches=4, bank_size=32, negative_bank_size=32) | changes)


CALLERS = dict(
    autocast=lambda: torch.autocast("cpu", torch.bfloat16),
    float64=lambda: default_dtype(torch.float64),
    inference=torch.inference_mode)


# their own sums or training steps are the caller's, and what they are compared with is not
OWN_ARITHMETIC = {f"test_{name}" for name in """the_scorer_is_the_method_step_by_step
    restored_training_takes_the_same_steps
    a_killed_run_goes_on_to_the_same_numbers the_nearest_vector_is_found_in_the_units_of_the_place
    the_bias_of_a_level_is_an_input_channel the_loop_equals_a_plain_one one_network_serves_several_levels
    scorers_keep_what_they_need_and_treat_images_apart a_thin_defect_raises_the_map_where_it_is""".split()}


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try: yield
    finally: torch.set_default_dtype(torch.float32)


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    "`GRAD_KIT_TEST_CALLER=autocast` (or another of `CALLERS`) runs each test as a program does that has set this"
    caller = os.environ.get("GRAD_KIT_TEST_CALLER")
    if caller and pyfuncitem.name in OWN_ARITHMETIC:
        pytest.skip(f"computes by itself, or trains a part alone, which {caller} may change")
    with CALLERS[caller]() if caller else nullcontext(): yield


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

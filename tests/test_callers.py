"""Calls from many threads, under other settings of torch, numpy and PIL, and with warnings as errors: every score is
compared with the one computed alone."""
import copy, json, os, pickle, shutil, subprocess, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageFile

from grad_kit.base.compute import own_state
from grad_kit.base.config import Config, GradKitError
from grad_kit.data.dataset import Dataset
from grad_kit.data.layouts import as_dataset, read_dataset
from grad_kit.model.export import Exported, compare, export_model
from grad_kit.model.grad import GRAD
from grad_kit.model.frozen import FrozenModel
from test_promises import CONFIG, part, put

TINY = Config.preset("quick", detector_steps=10, n_contrastive=4, sample_steps=3, contrastive_levels=((5,),),
                     analytic_images=4, bank_size=32, negative_bank_size=32, beta_density=1., score_top=.01,
                     scorers=("detector", "local", "filters", "window"), filters_size=64, window_levels=(5,),
                     local_steps=4, local_width=8, local_changes=("piece", "stain"))


pytestmark = pytest.mark.filterwarnings("ignore:.*too few.*")


def images(first=0, n=20, **kw): return np.stack([part(first + i, **kw) for i in range(n)])


def mixed(n=24): return np.concatenate([images(500, n - n // 3), images(900, n // 3, defect=True)])


@pytest.fixture(scope="module")
def model(): return GRAD(CONFIG, device="cpu").fit(images(n=40), progress=False)


@pytest.fixture(scope="module")
def trained(): return GRAD(TINY, device="cpu").fit(images(), progress=False)


@pytest.fixture(scope="module")
def exports(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    for suffix in (".onnx", ".xml"): export_model(model, folder/f"m{suffix}", check=mixed())
    return folder


def same(model, a, b): assert (a - b).abs().max() <= model.tolerance() + 1e-5 * b.abs().max(), (a, b)


# --- settings of the calling program

@contextmanager
def process_wide(get, put, value):
    before = get()
    put(value)
    try: yield
    finally:
        assert get() == value, "the caller's setting was changed"
        put(before)


def dtype(value): return process_wide(torch.get_default_dtype, torch.set_default_dtype, value)


def truncated():
    def put(value): ImageFile.LOAD_TRUNCATED_IMAGES = value
    return process_wide(lambda: ImageFile.LOAD_TRUNCATED_IMAGES, put, True)


def matmul(how): return process_wide(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, how)


def deterministic():
    return process_wide(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True)


@contextmanager
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


NEWER = """
import sys, torch
from grad_kit import GRAD
from test_callers import mixed
b = torch.backends
switches = b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul, b.mkldnn.conv
model = GRAD.load(sys.argv[1], "cpu")
want, b.fp32_precision = model.score(mixed()).image_score, "tf32"
before = [s.fp32_precision for s in switches]
assert torch.equal(model.score(mixed()).image_score, want)
assert [s.fp32_precision for s in switches] == before
"""

def test_torchs_newer_switches_change_no_score(model, tmp_path):
    "In a process of its own: torch's older switches can no longer be read once some of the newer ones were set"
    if not hasattr(torch.backends, "fp32_precision"): pytest.skip("this torch has the older switches only")
    model.save(tmp_path/"m")
    done = subprocess.run([sys.executable, "-c", NEWER, tmp_path/"m"], capture_output=True, text=True,
                          cwd=Path(__file__).parent, timeout=200)
    assert done.returncode == 0, done.stderr


STATES = dict(
    float16=lambda: torch.autocast("cpu", torch.float16), bfloat16=lambda: torch.autocast("cpu", torch.bfloat16),
    default_float64=lambda: dtype(torch.float64), default_float16=lambda: dtype(torch.float16),
    no_grad=torch.no_grad, inference=torch.inference_mode, grad_off=lambda: torch.set_grad_enabled(False),
    strict=strict, numpy_raises=lambda: np.errstate(all="raise"), deterministic=deterministic, truncated=truncated,
    on_meta=lambda: torch.device("meta"), medium=lambda: matmul("medium"))


@pytest.fixture(scope="module")
def plain(model, trained):
    return dict(closed=model.score(mixed()), trained=trained.score(mixed(6)), fitted=trained)


@pytest.mark.parametrize("state", STATES)
def test_the_callers_settings_change_no_score(state, plain, model, exports, tmp_path):
    before = torch.get_rng_state()
    with STATES[state]():
        result, labels = model.score(mixed()), model.predict(mixed())
        alone = FrozenModel(model)(as_dataset(mixed()).images(CONFIG.image_size))[1]
        each = model.score(mixed(6), each=True)
        folder = put(tmp_path/"a.png", part(1)).parent
        with_file = model.score(read_dataset(folder, "score"))
        model.save(tmp_path/"model")
        loaded = GRAD.load(tmp_path/"model", "cpu").score(mixed())
        exported = [Exported(exports/f"m{suffix}").score(mixed()) for suffix in (".onnx", ".xml")]
        found = compare(model, Exported(exports/"m.onnx"), mixed())
    assert torch.equal(torch.get_rng_state(), before), "scoring drew random numbers"
    assert torch.equal(result.image_score, plain["closed"].image_score)
    assert torch.equal(loaded.image_score, plain["closed"].image_score)
    assert torch.equal(result.anomaly_map, plain["closed"].anomaly_map)
    assert torch.equal(labels, plain["closed"].label)
    for r in exported: same(model, r.image_score, plain["closed"].image_score)
    same(model, alone, plain["closed"].image_score)
    assert found["alarms"][0] == found["alarms"][1] and with_file.image_score.isfinite().all()
    for r in (result, each, loaded, *exported):
        tensors = alone, r.image_score, r.anomaly_map, *r.scorer_map.values()
        assert not any(t.is_inference() or t.requires_grad for t in tensors)
        assert {t.dtype for t in tensors} == {torch.float32}


@pytest.mark.parametrize("state", STATES)
def test_the_callers_settings_change_no_fit(state, plain):
    with STATES[state](): new = GRAD(TINY, device="cpu").fit(images(), progress=False)
    assert torch.equal(new.score(mixed(6)).image_score, plain["trained"].image_score)
    assert new.threshold_ == plain["fitted"].threshold_
    maps = new.scorers_["detector"].weight_maps(torch.from_numpy(mixed(3)).permute(0, 3, 1, 2), 34)
    assert all(m.isfinite().all() for m in maps)


def test_a_truncated_file_is_refused_whatever_pil_was_told(model, tmp_path):
    good = put(tmp_path/"a.jpg", part(1), quality=90)
    (tmp_path/"b.jpg").write_bytes(good.read_bytes()[:len(good.read_bytes()) // 2])
    with truncated(), pytest.raises(GradKitError, match="b.jpg"): model.score(tmp_path)


def test_overlapping_calls_leave_the_callers_settings():
    begun, end = threading.Barrier(4), threading.Event()
    def call(i):
        with own_state():
            begun.wait(5)
            end.wait(5)
            assert torch.get_default_dtype() == torch.float32 and not ImageFile.LOAD_TRUNCATED_IMAGES
    with dtype(torch.float64), truncated(), ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(call, i) for i in range(3)]
        begun.wait(5)
        assert torch.get_default_dtype() == torch.float32
        end.set()
        for c in calls: c.result()
    assert torch.get_default_dtype() == torch.float32 and not ImageFile.LOAD_TRUNCATED_IMAGES


# --- threads

def in_threads(f, n, rounds=10, workers=8):
    with ThreadPoolExecutor(workers) as pool: return list(pool.map(f, list(range(n)) * rounds))


@pytest.mark.parametrize("suffix", (".onnx", ".xml"))
def test_each_thread_gets_its_own_images_score_from_an_export(suffix, exports, model):
    x, e, other = mixed(), Exported(exports/f"m{suffix}"), Exported(exports/f"m{suffix}")
    alone = torch.stack([e.score(x[i:i + 1]).image_score[0] for i in range(len(x))])
    def score(i): return (e if i % 2 else other).score(x[i:i + 1])
    got = in_threads(score, len(x))
    for i, r in enumerate(got):
        assert abs(float(r.image_score[0] - alone[i % len(x)])) <= 1e-5 * (1 + abs(float(alone[i % len(x)]))), i
        assert bool(r.label[0]) == bool(alone[i % len(x)] > e.threshold)


def test_each_thread_gets_its_own_images_score(model):
    x, fresh = mixed(), copy.copy(model)
    alone = torch.cat([model.score(x[i:i + 1]).image_score for i in range(len(x))])
    pixels = as_dataset(x).images(CONFIG.image_size)
    scorer = FrozenModel(model)
    fresh._frozen = {}   # eight threads make it at once
    def all_ways(i):
        scored, made = fresh.score(x[i:i + 1]).image_score[0], scorer(pixels[i:i + 1])[1][0]
        return float(scored), float(made), bool(fresh.predict(x[i:i + 1])[0])
    for i, (scored, made, alarm) in enumerate(in_threads(all_ways, len(x), 3)):
        want = float(alone[i % len(x)])
        assert max(abs(scored - want), abs(made - want)) <= model.tolerance() + 1e-5 * abs(want), i
        assert alarm == (want > model.threshold_)


def test_a_fit_in_one_thread_does_not_mix_with_scores_in_others(model):
    x, changing = mixed(6), copy.copy(model)
    sets = [images(n=40), 255 - images(n=40)]
    known = [model, GRAD(CONFIG, device="cpu").fit(sets[1], progress=False)]
    pairs = {(round(float(r.image_score[0]), 3), round(r.threshold, 3)) for r in (m.score(x) for m in known)}
    seen, stop = set(), threading.Event()
    def score():
        while not stop.is_set():
            r = changing.score(x)
            seen.add((round(float(r.image_score[0]), 3), round(r.threshold, 3)))
    with ThreadPoolExecutor(3) as pool:
        scorings = [pool.submit(score) for _ in range(3)]
        for s in sets[::-1] + sets: changing.fit(s, progress=False)
        stop.set()
        for s in scorings: s.result()
    assert len(pairs) == 2 and seen <= pairs, (seen, pairs)


def test_two_fits_at_once_draw_what_each_draws_alone(trained):
    "Bit for bit but for the training, whose sums may round otherwise beside another one"
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda: GRAD(TINY, device="cpu").fit(images(), progress=False)) for _ in range(2)]
    for new in (b.result() for b in both):
        for n, want in trained.contrastive_[34].items(): assert torch.equal(new.contrastive_[34][n], want)
        for name in ("filters", "window"):
            for k, want in trained.scorers_[name].state().items():
                assert torch.equal(new.scorers_[name].state()[k], want), (name, k)
        assert np.allclose(new.history_[34]["loss"][:3], trained.history_[34]["loss"][:3], rtol=0, atol=2e-6)


def test_scoring_does_not_wait(model, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda s: pytest.fail(f"slept {s} s"))
    model.score(mixed(3))


# --- pickled, empty, of another version

@pytest.mark.parametrize("again", (lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy))
def test_models_and_exports_can_be_pickled(again, model, trained, exports):
    x = mixed(6)
    for m in (model, trained): assert torch.equal(again(m).score(x).image_score, m.score(x).image_score)
    for suffix in (".onnx", ".xml"):
        e = Exported(exports/f"m{suffix}")
        assert torch.equal(again(e).score(x).image_score, e.score(x).image_score)


def test_a_pickled_export_refuses_another_file(model, exports, tmp_path):
    (tmp_path/"m.onnx").write_bytes((exports/"m.onnx").read_bytes())
    kept = pickle.dumps(Exported(tmp_path/"m.onnx"))
    (tmp_path/"m.onnx").write_bytes((exports/"m.onnx").read_bytes() + b"\0")
    with pytest.raises(GradKitError, match="m.onnx"): pickle.loads(kept)


def test_an_empty_dataset_gives_an_empty_result(model, trained, exports):
    empty = Dataset("x", "array", ())
    for m in (model, trained, Exported(exports/"m.onnx"), Exported(exports/"m.xml")):
        r, size = m.score(empty), m.config.image_size
        assert r.image_score.shape == (0,) and r.anomaly_map.shape == (0, size, size) and not len(r.label)
        assert {len(s) for s in r.scorer_score.values()} == {0}
    assert not len(model.predict(empty)) and not len(model.score(empty, each=True).scorer_map["window"])


def test_a_model_of_a_later_version_says_so(model, exports, tmp_path):
    model.save(tmp_path/"m")
    m = json.loads((tmp_path/"m/manifest.json").read_text())
    for change in (dict(roi="x"), dict(scorers=["telescope"]), dict(density="cubic")):
        new = m | dict(version="9.1.0", config=m["config"] | change)
        (tmp_path/"m/manifest.json").write_text(json.dumps(new))
        with pytest.raises(GradKitError, match="made by grad_kit 9.1.0 .* install grad_kit 9.1.0"):
            GRAD.load(tmp_path/"m", "cpu")
    import onnx
    proto = onnx.load(exports/"m.onnx")
    about = json.loads(proto.metadata_props[0].value)
    about |= dict(version="9.1.0", config=about["config"] | dict(roi="x"))
    onnx.helper.set_model_props(proto, {"grad_kit": json.dumps(about)})
    onnx.save(proto, tmp_path/"new.onnx")
    with pytest.raises(GradKitError, match="9.1.0"): Exported(tmp_path/"new.onnx")


PLUGIN = """
from grad_kit.model.scorers import Scorer, register_scorer
@register_scorer("telescope")
class Telescope(Scorer):
    def forward(self, x): return x.mean(1)
"""

def test_commands_find_the_scorer_of_an_installed_package(tmp_path):
    "A package as pip installs it; its scorer looks at no detector levels, which at 64 pixels would be refused"
    site = tmp_path/"site"; info = site/"telescope-1.0.dist-info"; info.mkdir(parents=True)
    (info/"METADATA").write_text("Metadata-Version: 2.1\nName: telescope\nVersion: 1.0\n")
    (info/"entry_points.txt").write_text("[grad_kit.scorers]\ntelescope = telescope_scorer\n")
    (site/"telescope_scorer.py").write_text(PLUGIN)
    for i in range(8): put(tmp_path/"parts"/f"{i}.png", part(i))
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from grad_kit.cli import fit; sys.exit(fit(sys.argv[1:]))"
    settings = ["--preset", "instant", "--set", 'scorers=["telescope"]', "image_size=64", "blur=4"]
    def fitted(): return subprocess.run([sys.executable, "-c", code, tmp_path/"parts", "--out", tmp_path/"m", *settings],
                                        capture_output=True, text=True, timeout=200)
    done = fitted()
    assert done.returncode == 0 and (tmp_path/"m"/"manifest.json").exists(), done.stdout + done.stderr
    (site/"telescope_scorer.py").write_text("import nosuch")
    done = fitted()
    assert done.returncode == 2 and "the plug-in 'telescope = telescope_scorer' of the package 'telescope'" in done.stderr
    assert "No module named 'nosuch'" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_instant_does_not_ask_for_detector_levels_at_small_sizes():
    small = Config.preset("instant", image_size=64, blur=4.)   # windows and filters look at larger sides than 64
    m = GRAD(small, device="cpu").fit(images(), progress=False)
    assert m.score(mixed(6)).image_score.argsort().tolist()[4:] in ([4, 5], [5, 4])
    with pytest.raises(GradKitError, match="detector_levels"): Config.preset("cpu_loco", image_size=64, blur=4.)


# --- exports have the checks of the model

def test_an_export_of_local_contrast_takes_any_number_of_images(tmp_path):
    model = GRAD(TINY.replace(scorers=("local",)), device="cpu").fit(images(), progress=False)
    export_model(model, tmp_path/"m.onnx")
    want, exported = model.score(mixed(9)).image_score, Exported(tmp_path/"m.onnx")
    for batch in (1, 3, 8): same(model, exported.score(mixed(9), batch).image_score, want)


def test_an_export_refuses_images_of_another_size(model, exports):
    wide = images(500, 2, w=128)
    for m in (model, Exported(exports/"m.onnx"), Exported(exports/"m.xml")):
        with pytest.raises(GradKitError, match="128 x 64"): m.score(wide)
    assert Exported(exports/"m.onnx").native_size_ == model.native_size_ == (64, 64)
    with pytest.raises(GradKitError, match="128 x 64"): export_model(model, exports/"wide.onnx", check=wide)
    assert not (exports/"wide.onnx").exists()


def test_an_export_that_scores_otherwise_is_not_written(model, exports, tmp_path, monkeypatch):
    import grad_kit.model.export
    monkeypatch.setattr(grad_kit.model.export, "write_float", lambda m, file: shutil.copy(exports/"m.onnx", file))
    other = copy.copy(model)
    other.units_ = {k: (zero + .01, *more) for k, (zero, *more) in model.units_.items()}
    other._frozen = {}
    with pytest.raises(GradKitError, match="differ from the model's"): export_model(other, tmp_path/"m.onnx")   # random images
    assert not list(tmp_path.iterdir())


def test_an_export_whose_score_is_no_number_raises(exports):
    e = Exported(exports/"m.onnx")
    run = e._run
    e._run = lambda x: [run(x)[0], np.full(len(x), np.nan, np.float32), run(x)[2]]
    with pytest.raises(GradKitError, match="nan"): e.score(mixed(3))


def test_idle_threads_sleep_unless_the_user_says_otherwise():
    code = "import os, grad_kit; print(os.environ['OMP_WAIT_POLICY'])"
    for given, want in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
        assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip() == want

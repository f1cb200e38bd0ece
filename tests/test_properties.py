"Written by hand: what must hold for any input, tried on inputs that hypothesis makes up"
import io, json, os

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from grad_kit.base.config import PRESETS, Config, GradKitError
from grad_kit.data.images import read_image, read_mask
from grad_kit.evaluate.metrics import PixelCurve, auroc_table, image_auroc, spro
from grad_kit.paper.reweight import MemoryBank, patch_weights

# the same inputs each time, on every machine
settings.register_profile("grad_kit", deadline=None, max_examples=80, derandomize=True, database=None)
# `make test-slow`: other inputs each time
settings.register_profile("wide", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "grad_kit"))
seeds, beta = st.integers(0, 2**32 - 1), st.floats(0, 100)


# --- weights, Eqs. 1, 2 and 4 ---

def banks(rng, n, dim, size):
    "Features (n,dim) and two full banks' contents"
    def draw(k): return torch.from_numpy(rng.normal(size=(k, dim)).astype(np.float32) + .1)
    return draw(n), draw(size), draw(size)

def filled(content):
    bank = MemoryBank(*content.shape)
    bank.enqueue(content)
    return bank

@given(seeds, st.integers(1, 40), st.integers(2, 12), st.integers(1, 30), beta)
def test_weights_are_positive_and_sum_to_one(seed, n, dim, size, beta):
    z, a, b = banks(np.random.default_rng(seed), n, dim, size)
    for bank in ([], [filled(a)], [filled(a), filled(b)]):
        w = patch_weights(z, *bank, beta_density=beta)
        assert (w >= 0).all() and abs(float(w.double().sum()) - 1) < 1e-5
        if beta <= 20: assert (w > 0).all()   # a sharper kernel may leave less than float32 holds

@given(seeds, st.integers(1, 40), st.integers(2, 12), st.integers(1, 30), st.floats(0, 20), st.floats(1e-3, 1e3))
def test_weights_ignore_the_order_of_a_bank_and_the_scale_of_features(seed, n, dim, size, beta, scale):
    rng = np.random.default_rng(seed)
    z, a, b = banks(rng, n, dim, size)
    want = patch_weights(z, filled(a), filled(b), beta_density=beta)
    shuffled = a[torch.from_numpy(rng.permutation(size))]
    torch.testing.assert_close(patch_weights(z, filled(shuffled), filled(b), beta_density=beta), want, rtol=1e-3,
                               atol=1e-6)
    torch.testing.assert_close(patch_weights(z * scale, filled(a * scale), filled(b), beta_density=beta), want,
                               rtol=1e-3, atol=1e-6)

@given(seeds, st.integers(2, 20), st.integers(2, 8), st.floats(0, 20))
def test_equal_features_weigh_the_same_and_rare_ones_no_less(seed, n, dim, beta):
    rng = np.random.default_rng(seed)
    z, a, _ = banks(rng, n, dim, 10)
    z[1] = z[0]
    w = patch_weights(z, filled(a), beta_density=beta)
    # a matrix product may sum equal rows in another order: beta * 2**-22 or so in the exponent
    torch.testing.assert_close(w[0], w[1], rtol=1e-4, atol=0.)
    rare = torch.stack([a.mean(0), -a.mean(0)])   # amid the bank, and opposite to it
    w = patch_weights(rare, filled(a.mean(0).expand(5, -1)), beta_density=beta)
    assert w[1] >= w[0] * (1 - 1e-4)   # with a beta near 0 both are alike but for rounding


# --- metrics ---

def test_set(seed, values, n=4, side=9):
    "Masks with and without defects, and maps of few or many different values"
    rng = np.random.default_rng(seed)
    masks = [rng.random((side, side)) < p for p in (.2, .05, 0., 0.)][:n]
    masks[0][0, 0] = True
    return masks, [rng.integers(values, size=(side, side)).astype(np.float64) for _ in masks]
test_set.__test__ = False

@given(seeds, st.sampled_from([2, 10, 1000]))
def test_only_the_order_of_a_map_counts(seed, values):
    masks, maps = test_set(seed, values)
    a, b = PixelCurve(masks, maps), PixelCurve(masks, [m**3 + 2 * m - 7 for m in maps])
    def figures(c): return c.auroc(), c.average_precision(), c.oracle_f1(), c.area(.3)
    assert figures(a) == figures(b)
    defects = [[m] if m.any() else [] for m in masks]
    areas = [[max(1, int(m.sum()) // 2)] if m.any() else [] for m in masks]
    assert spro(masks, defects, areas, maps) == spro(masks, defects, areas, [np.exp(m / 200) for m in maps])

@given(seeds, st.sampled_from([2, 10, 1000]))
def test_pixel_metrics_keep_their_bounds(seed, values):
    masks, maps = test_set(seed, values)
    c = PixelCurve(masks, maps)
    share = c.bad.sum() / (c.bad.sum() + c.n_good)
    assert 0 <= c.auroc() <= 1 and 0 < c.average_precision() <= 1
    assert 2 * share / (1 + share) - 1e-12 <= c.oracle_f1() <= 1   # all pixels called defects is one threshold
    areas = [c.area(l) for l in (.01, .05, .1, .3, 1.)]
    assert all(0 <= a <= b + 1e-12 for a, b in zip(areas, areas[1:]))   # the curve rises, so its mean does
    perfect = PixelCurve(masks, [m.astype(float) for m in masks])
    assert perfect.auroc() == perfect.average_precision() == perfect.oracle_f1() == 1
    assert abs(perfect.area(.05) - 1) < 1e-12

@given(st.lists(st.tuples(st.booleans(), st.floats(-1e6, 1e6)), min_size=2, max_size=60))
def test_image_auroc_is_symmetric(pairs):
    labels, scores = zip(*pairs)
    if all(labels) or not any(labels): return
    assert abs(image_auroc(labels, scores) + image_auroc(labels, [-s for s in scores]) - 1) < 1e-12
    assert image_auroc(labels, scores) == auroc_table(scores, labels)["pooled"]


# --- readers ---

@given(seeds, st.sampled_from(["L", "RGB", "RGBA", "P", "1", "CMYK", "LA"]),
       st.sampled_from(["PNG", "TIFF", "BMP", "WEBP", "JPEG"]), st.integers(1, 40), st.integers(1, 40))
def test_whatever_pil_writes_is_read_upright_in_three_channels(tmp_path_factory, seed, mode, kind, h, w):
    rng = np.random.default_rng(seed)
    im = Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)).convert("L" if mode == "LA" else mode)
    if mode == "LA": im.putalpha(128)
    path = tmp_path_factory.getbasetemp()/f"any.{kind.lower()}"
    try: im.save(path, kind)
    except (OSError, KeyError): return   # PIL itself does not write this mode so
    a = read_image(path)
    assert a.dtype == np.uint8 and a.shape == (h, w, 3)
    if kind == "PNG" and mode == "RGB": assert (a == np.asarray(im)).all()
    assert read_mask(path).shape == (h, w)

@given(st.sampled_from(sorted(PRESETS)), seeds)
def test_a_config_survives_its_json(preset, seed):
    c, rng = Config.preset(preset), np.random.default_rng(seed)
    names = [name for name, value in c.to_dict().items() if type(value) in (int, float)]
    for name in rng.choice(names, 4):
        value = getattr(c, name)
        try: c = c.replace(**{name: type(value)(value * rng.uniform(.5, 2))})
        except GradKitError: pass
    assert Config(**json.loads(json.dumps(c.to_dict()))) == c

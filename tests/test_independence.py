"""Held-out images must be independent of those fitted on, and scores must be finite.
Where copies, several shots, film frames or near-duplicates lie on both sides, the threshold is far too low: in 27 parts
of five shots each, every fresh part raised an alarm. Inputs are drawn here."""
import dataclasses, io, json, math, re

import numpy as np
import pytest
import torch
from PIL import Image
from test_promises import CLOSED, CONFIG, goods, part, put, run

from grad_kit import GRAD, GradKitError, read_dataset
from grad_kit.cli import fit
from grad_kit.data.dataset import Dataset, hash_images
from grad_kit.data.layouts import as_dataset
from grad_kit.model.calibration import divide

pytestmark = pytest.mark.filterwarnings("ignore:.*too few.*", "ignore:.*do not count.*", "ignore:.*look like shots.*",
                                        "ignore:.*times as far.*")


SPLIT = CONFIG.replace(folds=0)   # images are held out; CONFIG has folds

def fitted(images, config=SPLIT, seed=0, **how):
    return GRAD(config, seed, "cpu").fit(images, progress=False, **how)

def stack(arrays): return np.stack(list(arrays))

def shot(i, j, noise=1.):
    "Shot j of part i, with noise of the camera"
    a = part(i) + np.random.default_rng([i, j]).normal(0, noise, (64, 64, 1))
    return a.clip(0, 255).astype(np.uint8)

def jpeg(a, quality=90):
    file = io.BytesIO()
    Image.fromarray(a).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))

def sides(images, config=SPLIT, seed=0, **how):
    "{hash of an image: whether it is held out} of what a fit of these would divide"
    a, b = divide(as_dataset(images), config, seed)[:2]
    return dict.fromkeys(hash_images(a), False) | dict.fromkeys(hash_images(b), True)

def alarms(model, first=5000, n=40):
    "The share of fresh normal parts that raise an alarm"
    return float((model.score(stack(part(first + i) for i in range(n))).image_score > model.threshold_).float().mean())

# 40 of 80 images are held out, so that 5 % can be promised
half = SPLIT.replace(holdout=.5)


# --- copies ---

def test_photos_that_are_there_twice_count_once(tmp_path):
    for i in range(45):
        put(tmp_path/f"twice/IMG_{i:03d}.png", part(i))
        put(tmp_path/f"twice/IMG_{i:03d} (1).png", part(i))
    with pytest.warns(UserWarning, match="45 of the 90 normal images of 'twice' are copies"):
        model = fitted(tmp_path/"twice", half)
    seen = model.seen_
    assert len(set(seen["fitted"] + seen["held_out"])) == 45 == len(seen["fitted"]) + len(seen["held_out"])
    assert model.n_normal_ == len(seen["fitted"]) == 23 and not model.no_promise()
    assert alarms(model) <= .15   # every one before

def test_a_validation_split_that_was_copied_from_the_training_images(tmp_path):
    d = tmp_path/"valcopy"
    for i in range(40):
        put(d/f"train/good/{i:03d}.png", part(i))
        put(d/f"validation/good/{i:03d}.png", part(i))
    for i in range(12):
        put(d/f"test/good/{i:03d}.png", part(3000 + i))
        put(d/f"test/bad/{i:03d}.png", part(3100 + i, True))
    with pytest.warns(UserWarning, match="40 of the 80 normal images of 'valcopy' are copies"):
        model = fitted(d, half)
    test = read_dataset(d).split("test")
    label = model.score(test).label.numpy()
    assert not model.no_promise() and len(model.holdout_scores_) == 20
    assert label[test.labels].all() and label[~test.labels].mean() <= .25   # all of them before

def test_some_copies_in_a_validation_split_are_left_out_of_it(tmp_path):
    goods(tmp_path/"d"/"train"/"good", 30)
    goods(tmp_path/"d"/"validation"/"good", 25, first=5)          # 25 copies ...
    goods(tmp_path/"d"/"test"/"good", 2, first=900)
    for i in range(40): put(tmp_path/f"d/validation/good/new{i:03d}.png", part(100 + i))   # ... and 40 others
    with pytest.warns(UserWarning, match="25 of the 95 normal images"): model = fitted(tmp_path/"d")
    assert len(model.holdout_scores_) == 40 and model.n_normal_ == 30 and not model.no_promise()
    assert set(model.seen_["held_out"]) == set(hash_images(torch.from_numpy(
        stack(part(100 + i) for i in range(40))).permute(0, 3, 1, 2)))

def test_copies_alone_are_refused():
    with pytest.raises(GradKitError, match="copies of one"): fitted(stack([part(0)] * 5))


# --- shots, frames, near-duplicates ---

def test_several_shots_of_a_part_stay_together_and_count_once():
    x = stack(shot(i, j) for i in range(27) for j in range(5))
    model = fitted(x)
    held = set(model.seen_["held_out"])
    by_part = np.array([h in held for h in hash_images(torch.from_numpy(x).permute(0, 3, 1, 2))]).reshape(27, 5)
    assert (by_part.all(1) | ~by_part.any(1)).all() and by_part.all(1).sum() == 4 == len(model.holdout_scores_)
    assert "4 parts in 20 held-out normal images are too few" in model.no_promise()   # of .05, and that is said
    assert not model.no_promise(.2)
    scores = model.score(x[by_part.ravel()]).image_score.reshape(4, 5).amax(1)
    assert (scores <= model.threshold_).all()   # a part counts by its highest shot

def test_with_folds_all_images_are_fitted_on_and_calibrate(tmp_path):
    x = stack(shot(i, j) for i in range(27) for j in range(5))
    fit_on, held, groups, folds, why = divide(as_dataset(x), CONFIG, 0)
    assert len(fit_on) == len(held) == 135 and why == "" and folds.unique().tolist() == [*range(10)]
    by_part = dict.fromkeys(zip(groups, folds.tolist()))
    assert len(by_part) == 27 == len(set(groups))   # all shots of a part are in one fold
    assert torch.equal(folds, divide(as_dataset(x), CONFIG, 1)[3])   # whatever the seed
    a, b = (fitted(x, CONFIG, seed) for seed in (0, 1))
    assert (a.n_normal_, len(a.holdout_scores_), a.seen_["held_out"]) == (135, 27, []) and a.threshold_ == b.threshold_
    assert a.no_promise() == b.no_promise() == ""
    goods(tmp_path/"d/train/good", 20)
    goods(tmp_path/"d/validation/good", 10, first=100)
    goods(tmp_path/"d/test/good", 2, first=900)
    model = fitted(tmp_path/"d", CONFIG)
    assert (model.n_normal_, len(model.holdout_scores_)) == (30, 30)   # the validation split is fitted on too

def test_of_very_many_images_some_calibrate(monkeypatch):
    import grad_kit.model.calibration as calibration
    monkeypatch.setattr(calibration, "MOST", 24)
    x = stack(part(i) for i in range(40))
    assert [len(of) for of in divide(as_dataset(x), CONFIG, 0)[:4]] == [40, 24, 24, 40]
    model = fitted(x, CONFIG)
    assert (model.n_normal_, len(model.holdout_scores_)) == (40, 24) and not model.no_promise()

@pytest.mark.parametrize("noise, config", [(1., SPLIT), (3., SPLIT), (1., CONFIG), (3., CONFIG)])
def test_fresh_parts_raise_alarms_at_the_rate_that_is_promised(noise, config):
    rates = []
    for draw in range(4):
        x = stack(shot(1000 * draw + i, j, noise) for i in range(27) for j in range(5))
        model = fitted(x, config.replace(false_alarm_rate=.2), draw)
        assert not model.no_promise(), model.no_promise()
        fresh = model.score(stack(shot(1000 * draw + 500 + i, 0, noise) for i in range(10))).image_score
        rates.append(float((fresh > model.threshold_).float().mean()))
    print(f"measured: alarms on fresh parts, asked .2, in four draws: {rates}")
    assert np.mean(rates) < .45, rates   # 1.0 in each draw before; the standard error is .1

def test_frames_of_a_film_are_not_divided_or_nothing_is_promised():
    films = stack(np.roll(shot(i, j), j, 0) for i in range(4) for j in range(12))   # few parts: a tenth and more each
    model = fitted(films, half)
    assert "look like shots of one part" in model.no_promise(.5) and "groups=" in model.not_independent_
    with pytest.raises(GradKitError, match="look like shots"): model.predict(films, false_alarm_rate=.5)
    with pytest.warns(UserWarning, match="look like shots"): model.predict(films)
    many = stack(np.roll(shot(i, j), j, 0) for i in range(24) for j in range(4))
    held = list(sides(many).values())
    where = np.array([sides(many)[h] for h in hash_images(torch.from_numpy(many).permute(0, 3, 1, 2))]).reshape(24, 4)
    assert (where.all(1) | ~where.any(1)).all() and 0 < sum(held) < 96

@pytest.mark.parametrize("change", [jpeg, lambda a: np.roll(a, 1, 1), lambda a: np.roll(a, 1, 0), lambda a: a + 1,
                                    lambda a: a - 1])
def test_near_duplicates_go_one_way(change):
    x = stack(a for i in range(30) for a in (part(i), change(part(i))))
    found = np.array([sides(x)[h] for h in hash_images(torch.from_numpy(x).permute(0, 3, 1, 2))]).reshape(30, 2)
    assert (found[:, 0] == found[:, 1]).all() and found.any() and not found.all()

def test_a_validation_split_of_other_shots_of_the_fitted_parts(tmp_path):
    for i in range(30):
        put(tmp_path/f"d/train/good/{i:03d}.png", shot(i, 0))
        put(tmp_path/f"d/validation/good/{i:03d}.png", shot(i, 1))
        put(tmp_path/f"d/test/good/{i:03d}.png", part(700 + i))
    with pytest.warns(UserWarning, match="30 of the 30 validation images"): model = fitted(tmp_path/"d", half)
    assert len(model.holdout_scores_) == 15 and model.score(read_dataset(tmp_path/"d").split("test")).label.float().mean() < .3

def test_held_out_images_that_are_near_are_said(tmp_path):
    x = stack(shot(i, j, 1.) for i in range(40) for j in range(2))
    ds = as_dataset(x)   # groups that divide the parts: shot 0 fitted on, shot 1 held out
    items = [dataclasses.replace(it, split=("train", "validation")[i % 2], group=str(i)) for i, it in enumerate(ds.items)]
    model = fitted(Dataset("divided", "array", tuple(items)))
    assert re.search(r"0\.\d\d times as far", model.not_independent_) and "'divided'" in model.no_promise(.5)
    model.save(tmp_path/"m")
    again = GRAD.load(tmp_path/"m", "cpu")
    assert again.not_independent_ == model.not_independent_ and again.no_promise(.5) == model.no_promise(.5)
    assert again.pixel_threshold_ == model.pixel_threshold_ and math.isfinite(again.pixel_threshold_)


# --- groups that are given ---

def test_given_groups_are_held_out_whole():
    x = stack(part(i) for i in range(60))   # nothing to find
    groups = [f"part {i // 4}" for i in range(60)]
    model = fitted(x, half, groups=groups)
    held = np.array([h in set(model.seen_["held_out"]) for h in hash_images(torch.from_numpy(x).permute(0, 3, 1, 2))])
    assert (held.reshape(15, 4).all(1) | ~held.reshape(15, 4).any(1)).all() and len(model.holdout_scores_) == 8
    frames = stack(np.roll(shot(i, j), j, 0) for i in range(4) for j in range(12))
    assert fitted(frames, groups=np.arange(48) // 12).not_independent_ == ""   # and what is found gives way to them
    test_single = fitted(x, groups=["one"] * 60)
    assert "all 60 normal images of 'images' are in one group, 'one'" in test_single.not_independent_
    with pytest.raises(GradKitError, match="groups has 3 values, but there are 60 images"): fitted(x, groups=[1, 2, 3])
    loose = fitted(x, half, groups=[None, float("nan")] * 30)   # in no group: each by itself
    assert len(loose.holdout_scores_) == 30

def test_the_same_images_in_another_order_are_divided_alike():
    x = stack([*(part(i) for i in range(30)), *(shot(100 + i, j) for i in range(10) for j in range(3))])
    order = np.random.default_rng(0).permutation(len(x))
    a, b = sides(x), sides(x[order])
    assert a == b and 0 < sum(a.values()) < 60
    assert a != sides(x, seed=1)
    cameras = np.arange(60) % 5   # sorted by name, each fifth is one camera's
    y = stack(part(i) for i in range(60))
    s = sides(y, half)
    held = np.array([s[h] for h in hash_images(torch.from_numpy(y).permute(0, 3, 1, 2))])
    assert all(0 < held[cameras == c].sum() < 12 for c in range(5))

def test_views_of_few_cameras_are_all_fitted_on():
    "Images of one camera of a station are alike; no camera is held out whole"
    def view(i, c):
        a = part(1000 * c + i).astype(int)
        a[6:14, 4 + 11 * c:11 + 11 * c] = [200, 60 + 30 * c, 40]
        return a.clip(0, 255).astype(np.uint8)
    x = stack(view(i, c) for i in range(12) for c in range(5))
    for seed in range(3):
        s = sides(x, seed=seed)
        fitted_on = ~np.array([s[h] for h in hash_images(torch.from_numpy(x).permute(0, 3, 1, 2))]).reshape(12, 5)
        assert fitted_on.any(0).all() and fitted_on.mean() > .8


# --- few images ---

@pytest.mark.parametrize("n", range(1, 11))
def test_few_images_give_finite_scores_or_are_refused(n):
    x = stack(part(i) for i in range(n))
    if n == 1:
        with pytest.raises(GradKitError, match="1 normal training images, but at least 2 are needed"): fitted(x)
        return
    with pytest.warns(UserWarning, match="too few for a false-alarm rate"): model = fitted(x)
    r = model.score(stack([*(part(50 + i) for i in range(4)), part(60, True)]))
    assert math.isfinite(model.threshold_) and math.isfinite(model.pixel_threshold_) and r.image_score.isfinite().all()
    assert "too few" in model.no_promise() and r.label.shape == (5,) and r.mask.shape == (5, 64, 64)
    if n >= 4: assert r.image_score[4] > r.image_score[:4].max()

def test_the_smallest_fit_by_the_command_line(tmp_path):
    status, text = run(fit, goods(tmp_path/"two", 2), "--out", tmp_path/"m", *CLOSED)
    assert status == 0 and math.isfinite(GRAD.load(tmp_path/"m", "cpu").threshold_), text


# --- scores that are not finite ---

@pytest.fixture(scope="module")
def broken():
    "A model that gives NaN for images with a white corner"
    model = fitted(stack(part(i) for i in range(20)))
    scorer = model.frozen()
    forward = scorer.forward
    def fail(x):
        maps, scores, columns = forward(x)
        return maps, torch.where(x[:, 0, 0, 0] == 255, torch.nan, scores), columns
    scorer.forward = fail
    return model

def spoilt():
    x = stack(part(i) for i in range(4))
    x[2, 0, 0] = 255
    return x

def test_a_score_that_is_nan_is_raised_by_name(broken, tmp_path):
    for use in (broken.score, broken.predict):
        with pytest.raises(GradKitError, match="'train/000002' is nan"): use(spoilt())
    for i, a in enumerate(spoilt()): put(tmp_path/f"{i}.png", a)
    with pytest.raises(GradKitError, match="2.png' is nan"): broken.score(tmp_path)
    r = broken.score_pixels(torch.from_numpy(spoilt()).permute(0, 3, 1, 2))
    with pytest.raises(GradKitError, match="'image 2' is nan"): r.label
    from grad_kit.evaluate.report import score_images
    with pytest.raises(GradKitError, match="2.png' is nan"): score_images(broken, read_dataset(tmp_path, "score"))

def test_held_out_images_without_a_score_stop_the_fit(monkeypatch):
    from grad_kit.model.frozen import FrozenModel
    monkeypatch.setattr(FrozenModel, "fuse", lambda self, values, *how: torch.full_like(values[0], math.nan))
    with pytest.raises(GradKitError, match="NaN or infinite"): fitted(stack(part(i) for i in range(30)))

@pytest.mark.parametrize("field", ["holdout_scores", "holdout_peaks"])
def test_a_model_file_with_nan_is_refused(field, tmp_path):
    fitted(stack(part(i) for i in range(20))).save(tmp_path/"m")
    d = json.loads((tmp_path/"m/manifest.json").read_text())
    d[field][0] = math.nan
    (tmp_path/"m/manifest.json").write_text(json.dumps(d))
    with pytest.raises(GradKitError, match=field): GRAD.load(tmp_path/"m", "cpu")


# --- pixels ---

def test_the_mask_marks_the_defect_and_little_else():
    model = fitted(stack(part(i) for i in range(80)), half)
    bad, fresh = (model.score(stack(part(7000 + i, d) for i in range(20))) for d in (True, False))
    truth = np.zeros((64, 64), bool)
    truth[64 // 3:64 // 3 + 4, 16:48] = True
    share, by_image_threshold = bad.mask.float().mean(), (bad.anomaly_map > bad.threshold).float().mean()
    print(f"measured: marked {share:.3f}, true {truth.mean():.3f}, above the image threshold {by_image_threshold:.3f}; "
          f"fresh normal images with a marked pixel: {fresh.mask.any((1, 2)).float().mean():.2f}")
    assert .5 * truth.mean() < share < 6 * truth.mean() < .2 < by_image_threshold
    assert bad.mask[:, truth].float().mean() > .8 and fresh.mask.any((1, 2)).float().mean() <= .25
    assert model.threshold_at(.5, pixels=True) < model.pixel_threshold_ == model.threshold_at(pixels=True)
    with pytest.raises(GradKitError, match="too few"): model.threshold_at(.001, pixels=True)


# --- labels, as scikit-learn has them ---

def test_fit_takes_labels_that_say_normal():
    x = stack(part(i) for i in range(12))
    want = fitted(x).threshold_
    for y in (np.zeros(12), [False] * 12, ["good"] * 12, torch.zeros(12, dtype=torch.long), None):
        assert GRAD(SPLIT, device="cpu").fit(x, y, progress=False).threshold_ == want
    for y, said in (([0] * 11 + [1], r"y\[11\] is 1"), (["good"] * 11 + ["bad"], r"y\[11\] is 'bad'"),
                    (np.ones(12), r"y\[0\] is 1.0"), ([0] * 11, "y has 11 values, but there are 12 images"),
                    ([0] * 11 + [math.nan], r"y\[11\] is nan"), ("stages", "use stages='stages'")):
        with pytest.raises(GradKitError, match=said): GRAD(SPLIT, device="cpu").fit(x, y, progress=False)

"""Faults that readers of the code found, each with the shortest way to see it."""
import json, shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from grad_kit import GRAD, Config, read_dataset
from grad_kit.base.compute import pick_device
from grad_kit.base.config import GradKitError
from grad_kit.cli import ablate as grad_ablate
from grad_kit.data.dataset import Dataset, Item
from grad_kit.data.layouts import as_dataset, with_labels
from grad_kit.data.trays import tray_dataset
from grad_kit.evaluate.places import default_place, source_of
from grad_kit.inference import Inferencer
from grad_kit.lab.ablate import find_categories, run_cell, write_ablation
from grad_kit.model import export
from grad_kit.model.export import Exported, export_model
from grad_kit.model.tiles import TiledGRAD
from grad_kit.view.explain import leads
from grad_kit.view.why import images_to_explain, page_meta
from grad_kit.view.widgets import scored

pytestmark = pytest.mark.filterwarnings("ignore:.*too few.*")
C = Config.preset("instant", image_size=64, filters_size=64, window_size=32)
FAST = C.replace(scorers=("components",))


def trays(n=12, seed=0, size=64, normal=0, defects=0): return tray_dataset(n, 0, normal, defects, size, seed)


def pixels(n=12, seed=0, size=64): return trays(n, seed, size).images(size).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def model(): return GRAD(FAST, device="cpu").fit(pixels(24), progress=False)


def fit(seed, **kw): return GRAD(FAST, device="cpu").fit(pixels(seed=seed), progress=False, **kw)


# --- what a user has is not lost, and results are of the model that one names

def test_a_model_saved_from_python_keeps_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(0).save("runs/parts")
    (tmp_path/"a"/"parts").mkdir(parents=True)
    assert source_of("runs/parts") == "" and default_place(tmp_path/"a"/"parts").name.startswith("parts_")


def test_a_refitted_model_is_not_of_the_earlier_images(model):
    other = GRAD(FAST, device="cpu"); other.source_ = "earlier"
    assert other.fit(pixels(), progress=False).source_ is None


def test_an_ablation_is_not_written_over_other_results(tmp_path, capsys):
    (tmp_path/"results.json").write_text('{"my": "own"}')
    assert grad_ablate(["trays", "--preset", "quick", "--out", str(tmp_path)]) == 2
    assert "results.json, which grad_kit did not write" in capsys.readouterr().err
    assert (tmp_path/"results.json").read_text() == '{"my": "own"}'


def test_a_loaded_model_does_not_change_with_its_file(tmp_path):
    fit(0).save(tmp_path/"a"); fit(1).save(tmp_path/"b")
    loaded, name = GRAD.load(tmp_path/"a", "cpu"), "scorer_components.safetensors"
    before = loaded.scorers_["components"].mean.clone()
    shutil.copyfile(tmp_path/"b"/name, tmp_path/"a"/name)
    assert torch.equal(loaded.scorers_["components"].mean, before)


def test_tiles_of_another_model_are_refused(tmp_path):
    def fitted(seed): return TiledGRAD(FAST, tile=64, device="cpu").fit(pixels(seed=seed, size=128), progress=False)
    fitted(0).save(tmp_path/"m")
    loaded = TiledGRAD.load(tmp_path/"m", "cpu"); loaded.score(pixels(2, size=128))
    fitted(1).save(tmp_path/"m")
    for use in (lambda: loaded.score(pixels(2, size=128)), lambda: loaded.save(tmp_path/"n")):
        with pytest.raises(GradKitError, match="holds another by now"): use()


def test_weights_of_another_export_are_refused(tmp_path):
    export_model(fit(0), tmp_path/"a.xml"); export_model(fit(1), tmp_path/"b.xml")
    shutil.copyfile(tmp_path/"b.bin", tmp_path/"a.bin")
    with pytest.raises(GradKitError, match="its .bin is that of another model"): Exported(tmp_path/"a.xml")
    with pytest.raises(ValueError, match="its .bin is that of another model"): Inferencer(tmp_path/"a.xml")


def test_home_is_expanded_where_results_are_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path)); monkeypatch.chdir(tmp_path)
    cell = run_cell(trays(normal=4, defects=1), FAST.replace(scorers=("filters",)), device="cpu") | dict(variant="x")
    write_ablation([cell], "~/results")
    assert (tmp_path/"results"/"results.json").is_file() and not Path("~").exists()


# --- nothing odd in silence

@pytest.mark.parametrize("a", (np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint16),
                               np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8)))
def test_items_hold_bytes_with_three_channels(a):
    items = tuple(Item(a, "train", name=str(i)) for i in range(3))
    with pytest.raises(GradKitError, match="'0' is .* must be uint8"): GRAD(FAST).fit(Dataset("mine", "array", items))


def test_tiles_say_that_files_use_12_bits(tmp_path):
    for i, a in enumerate(pixels(12, size=128)):
        Image.fromarray(a[..., 0].astype(np.uint16) * 15).save(tmp_path/f"{i}.png")
    with pytest.warns(UserWarning, match="look like 12 bits"): TiledGRAD(FAST, tile=64).fit(tmp_path, progress=False)


def test_eight_bits_are_not_chosen_on_test_images(monkeypatch, tmp_path):
    small = dict(local_steps=4, local_width=8, local_changes=("piece", "stain"))
    model = GRAD(C.replace(scorers=("local",), **small), device="cpu").fit(pixels(), progress=False)
    seen, whole = [], export.quantised
    def counted(file, x):
        seen.append(len(x))
        return whole(file, x)
    monkeypatch.setattr(export, "quantised", counted)
    ds = trays(12, normal=2, defects=2)
    export_model(model, tmp_path/"m.onnx", int8=ds)
    assert seen == [12]
    with pytest.raises(GradKitError, match="only test images"):
        export_model(model, tmp_path/"n.onnx", int8=ds.split("test"))


def test_copies_inside_the_region_are_copies():
    x = np.repeat(pixels(1, size=128), 12, 0)
    for i in range(12): x[i, :10, :10] = i * 20   # a clock
    region = np.ones((128, 128), bool); region[:16, :16] = False
    for folds in (-1, 0):
        with pytest.raises(GradKitError, match="copies of one"): GRAD(C.replace(folds=folds)).fit(x, region=region)


def test_a_test_folder_alone_is_not_measured_on(tmp_path):
    for kind, n in dict(good=6, broken_large=12).items():
        (tmp_path/"test"/kind).mkdir(parents=True)
        for i, a in enumerate(pixels(n, n)): Image.fromarray(a).save(tmp_path/"test"/kind/f"{i}.png")
    with pytest.raises(GradKitError, match="is one part of the data set"): read_dataset(tmp_path/"test", "evaluate")
    assert read_dataset(tmp_path, "evaluate").split("test").labels.tolist() == [False] * 6 + [True] * 12


def test_images_without_defects_are_refused_before_the_fit(monkeypatch):
    monkeypatch.setattr(GRAD, "fit", None)
    with pytest.raises(GradKitError, match="no anomalous test images"): run_cell(trays(), FAST)


# --- scores beside their images

def test_scores_of_a_folder_stay_with_their_images(model, tmp_path):
    ds = trays(1, normal=3, defects=1)
    for it in ds.split("test").items:
        folder = tmp_path/"test"/it.defect
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(it.image).save(folder/f"{len(list(folder.iterdir()))}.png")
    result = model.score(tmp_path)
    shown, result = scored(model, tmp_path, result)[:2]
    explained, _, scores = images_to_explain(model, tmp_path, result.image_score)
    for ds, given in (shown, result.image_score), (explained, torch.as_tensor(scores)):
        assert torch.equal(given, model.score(ds).image_score)


def test_the_page_has_the_scores_and_thresholds_of_the_results(model):
    class Why: size, names, pictures, own = 64, [], None, {}
    scores = model.score(pixels(3, 5)).image_score
    assert page_meta(Why, "abc", scores, .5)["scores"] == scores.tolist()


def test_what_is_rarest_leads():
    def evidence(share, units): return type("E", (), dict(share=share, units=units))
    rare, large = evidence(1., .1), evidence(.85, 3.)
    assert max((large, rare), key=leads) is rare


# --- arguments

@pytest.mark.parametrize("batch", (0, -1, 2.5, "4"))
def test_exports_refuse_batches_as_models_do(batch, model, tmp_path):
    export_model(model, tmp_path/"m.onnx")
    for m in (model, Exported(tmp_path/"m.onnx")):
        with pytest.raises(GradKitError, match="batch is"): m.score(pixels(2), batch=batch)
    with pytest.raises(ValueError, match="34 x 34"): Inferencer(tmp_path/"m.onnx").read(np.zeros((9, 9, 3), np.uint8))


def test_odd_arguments_are_one_sentence(tmp_path):
    class NA:
        def __repr__(self): return "<NA>"
        def __ne__(self, other): raise TypeError("boolean value of NA is ambiguous")
    with pytest.raises(GradKitError, match="None"): pick_device(None)
    with pytest.raises(GradKitError, match="torch.bfloat16 of shape"): as_dataset(torch.zeros(2, 64, 64, 3).bfloat16())
    with pytest.raises(GradKitError, match="write out another path"): find_categories("~nobody_of_that_name/mv")
    assert [it.group for it in with_labels(trays(3), None, [NA(), float("nan"), "nan"]).items] == ["", "", "nan"]
    fit(0).save(tmp_path/"m")
    file = tmp_path/"m"/"manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(holdout_scores=[])))
    with pytest.raises(GradKitError, match="holdout_scores"): GRAD.load(tmp_path/"m", "cpu")


# --- found on 1 December, by a reader who tried each ---

def pictures(folder, n, first=0, name="{:02d}", size=64, gain=lambda i: 1.):
    "n trays as PNG files"
    folder.mkdir(parents=True, exist_ok=True)
    for i, it in enumerate(tray_dataset(n, 0, 0, 0, seed=first, size=size).items):
        Image.fromarray((it.image * gain(i)).clip(0, 255).astype(np.uint8)).save(folder/f"{name.format(i)}.png")
    return folder


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch, capsys):
    from grad_kit.cli import fit as grad_fit
    photos = pictures(tmp_path/"photos", 6)
    (tmp_path/"here").mkdir()
    monkeypatch.chdir(tmp_path/"here")
    assert grad_fit([str(photos), "--out", ".", "--preset", "instant"]) == 2
    assert "the current folder" in capsys.readouterr().err and not any((tmp_path/"here").iterdir())


def test_drift_follows_the_numbers_in_names(tmp_path):
    from grad_kit.evaluate.drift import drift_note
    from grad_kit.evaluate.report import score_images
    model = GRAD(FAST, device="cpu").fit(tray_dataset(40, 0, 0, 0), progress=False)
    series = pictures(tmp_path/"new", 120, 7, "img_{}", gain=lambda i: 1.1 if i >= 60 else 1.)
    note = drift_note(model, score_images(model, read_dataset(series, "score")))
    assert "brighter" in note, note
    assert 55 <= int(note.split("since image ")[1].split()[0]) <= 65 and "('img_1')" not in note, note


def test_images_taken_for_masks_are_counted(tmp_path):
    from grad_kit.data.layouts import read_folders
    pictures(tmp_path/"a", 4, name="p{}_front")
    pictures(tmp_path/"a", 4, 9, name="p{}_front_label")
    with pytest.warns(UserWarning, match="4 masks"): ds = read_folders(tmp_path/"a")
    assert len(ds) == 4 and ds.passed_over == "4 masks"


def test_results_are_not_written_among_defective_photographs(tmp_path, capsys):
    from grad_kit.cli import evaluate as grad_eval
    photos, bad = pictures(tmp_path/"ok", 12), pictures(tmp_path/"ng", 3, 5)
    GRAD(FAST, device="cpu").fit(str(photos), progress=False).save(tmp_path/"m")
    given = [str(tmp_path/"m"), "--normal", str(photos), "--abnormal", str(bad), "--device", "cpu"]
    assert grad_eval([*given, "--out", str(bad)]) == 2
    assert "folder of the images" in capsys.readouterr().err and len(list(bad.iterdir())) == 3


@pytest.mark.parametrize("field", ["minutes", "name", "device", "layout"])
def test_set_takes_fields_alone(field):
    from grad_kit.cli import parse_set
    with pytest.raises(GradKitError, match=f"no field '{field}'"): parse_set([f"{field}=3"])


def test_a_model_is_named_from_inside_its_folder(tmp_path, monkeypatch):
    (tmp_path/"m"/"deep").mkdir(parents=True)
    for where, given in (("m", "."), ("m/deep", "..")):
        monkeypatch.chdir(tmp_path/where)
        assert default_place(Path("new"), "scores_", Path(given)) == tmp_path/"m_scores_new"


def test_inspect_checks_the_size_of_every_image(tmp_path):
    from grad_kit.view.why import inspect
    good, new = pictures(tmp_path/"good", 12), pictures(tmp_path/"new", 1, 5)
    Image.fromarray(np.full((64, 96, 3), 128, np.uint8)).save(new/"1.png")
    region = np.ones((64, 64), bool)
    region[:8] = False
    config = C.replace(scorers=("window",), window_levels=(5,), frame="letterbox", blur=4.)
    with pytest.raises(GradKitError, match="96 x 64"): inspect(good, new, tmp_path/"out", config, region=region)


def test_scores_of_tiles_are_written(tmp_path):
    from grad_kit.evaluate.report import score_images
    ds = tray_dataset(12, 0, 2, 1, 128)
    model = TiledGRAD(FAST, tile=64, device="cpu").fit(ds, progress=False)
    score_images(model, ds.split("test")).write(tmp_path/"out")
    assert (tmp_path/"out"/"results.json").exists() and len([*(tmp_path/"out"/"maps").glob("**/*.png")]) == 8


def test_explain_takes_the_folder_that_was_fitted_on(tmp_path):
    from grad_kit.cli import score as grad_score
    from grad_kit.data.layouts import read_folders
    good, new = pictures(tmp_path/"set"/"test"/"x", 12), pictures(tmp_path/"new", 3, 5)
    config = C.replace(scorers=("window",), window_levels=(5,), blur=4.)
    GRAD(config, device="cpu").fit(read_folders(good), progress=False).save(tmp_path/"m")
    assert grad_score([str(tmp_path/"m"), str(new), "--out", str(tmp_path/"out"), "--explain", str(good)]) == 0
    assert (tmp_path/"out"/"why.html").exists()

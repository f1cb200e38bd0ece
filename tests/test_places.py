"""Where results go, a series that differs as a whole, and broken files: one test for each kind of case in public
reports. Written by hand; inputs are drawn here, commands run as a user would run them."""
import csv, json, os, shutil, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import grad_kit.base.files
from grad_kit import GRAD, GradKitError, read_dataset
from grad_kit.cli import demo, evaluate, export, fit, score
from grad_kit.base.files import run_lock, try_place
from grad_kit.closed_form.placement import Placement
from grad_kit.data.images import image_statistics, statistic_ranges
from grad_kit.evaluate.report import evaluate_model, score_images, series_note
from test_promises import CLOSED, CONFIG, bads, goods, mvtec, part, put, run
from test_survival import in_a_namespace

pytestmark = pytest.mark.filterwarnings("ignore:.*too few.*", "ignore:.*passed over.*")


def files(folder): return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}

def result(out): return json.loads((Path(out)/"results.json").read_text())

def table(out):
    with open(Path(out)/"scores.csv") as f: return list(csv.DictReader(f))

def two_lines(d):
    for i in range(5): put(d/f"lineA/A{i:03d}.png", part(2000 + i)); put(d/f"lineB/B{i:03d}.png", part(2100 + i))
    return d

def is_whole(out, letter):
    "Whether all files in a folder of results belong to one line"
    names = {r["name"][0] for r in table(out)} | {p.name[0] for p in (out/"maps").iterdir()}
    return names == {letter} and all((out/r["map"]).exists() for r in table(out)) and result(out)["n"] == 5


# --- each folder has its own place ---

def test_two_folders_scored_with_one_model_keep_both_results(tmp_path, model):
    shutil.copytree(model, tmp_path/"m")
    two_lines(tmp_path); two_lines(tmp_path/"night")
    for line in ("lineA", "lineB", "night/lineA", "lineA"):   # the last one into the place of the first
        status, text = run(score, tmp_path/"m", tmp_path/line)
        assert status == 0, text
    made = sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("m_scores"))
    assert len(made) == 3 and made[0] == "m_scores_lineA" and made[1].startswith("m_scores_lineA_")
    assert made[2] == "m_scores_lineB" and all(is_whole(tmp_path/name, name[len("m_scores_line")]) for name in made)
    for name in ("lineA/A000.png", "lineA/A001.png"): assert run(score, tmp_path/"m", tmp_path/name)[0] == 0
    assert table(tmp_path/"m_scores_A000")[0]["name"] == "A000.png" != table(tmp_path/"m_scores_A001")[0]["name"]

def test_two_evaluations_keep_both_results(tmp_path, model):
    shutil.copytree(model, tmp_path/"m")
    for name in ("x", "y"):
        status, text = run(evaluate, tmp_path/"m", mvtec(tmp_path/name), "--tiff")
        assert status == 0, text
    assert result(tmp_path/"m_eval_x")["data"] == "x" and result(tmp_path/"m_eval_y")["data"] == "y"
    out = tmp_path/"m_eval_x"   # an earlier run's maps do not stay beside another's
    assert list((out/"anomaly_maps").rglob("*.tiff")) and run(evaluate, tmp_path/"m", tmp_path/"x")[0] == 0
    assert not (out/"anomaly_maps").exists()

def test_other_results_in_a_named_place_are_replaced_with_a_note(tmp_path, model):
    two_lines(tmp_path)
    for _ in range(2): assert "of other images" not in run(score, model, tmp_path/"lineA", "--out", tmp_path/"o")[1]
    status, text = run(score, model, tmp_path/"lineB", "--out", tmp_path/"o")
    assert status == 0 and "of other images, will be replaced" in text and is_whole(tmp_path/"o", "B"), text


# --- one writer at a time ---

def test_threads_that_write_into_one_folder_do_not_mix(tmp_path, model):
    two_lines(tmp_path); m, out, refused = GRAD.load(model, "cpu"), tmp_path/"out", []
    scorings = {name[-1]: score_images(m, read_dataset(tmp_path/name, "score")) for name in ("lineA", "lineB")}
    def write(letter):
        try: scorings[letter].write(out, 3)
        except GradKitError as e: refused.append((letter, str(e)))
    for _ in range(2):
        refused.clear()
        threads = [threading.Thread(target=write, args=(letter,)) for letter in scorings]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len(refused) < 2 and all("another process" in why for _, why in refused)
        last = {"A", "B"} - {letter for letter, _ in refused}
        assert any(is_whole(out, letter) for letter in last), (refused, sorted(p.name for p in out.rglob("*")))

def test_two_processes_into_one_folder(tmp_path, model):
    two_lines(tmp_path); out = tmp_path/"out"
    code = "import sys; from grad_kit.cli import score; sys.exit(score(sys.argv[1:]))"
    both = {line: subprocess.Popen([sys.executable, "-c", code, model, tmp_path/f"line{line}", "--out", out],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for line in "AB"}
    ends = {line: (p.communicate(timeout=300)[0], p.returncode) for line, p in both.items()}
    done = [line for line, (_, status) in ends.items() if status == 0]
    assert done and any(is_whole(out, line) for line in done), ends
    assert all("another process" in text and status == 2 for text, status in ends.values() if status), ends

def test_a_folder_that_another_holds_is_refused_before_the_work(tmp_path, model, monkeypatch):
    two_lines(tmp_path)
    assert run(score, model, tmp_path/"lineA", "--out", tmp_path/"o")[0] == 0
    before = files(tmp_path/"o")
    monkeypatch.setattr(GRAD, "score", lambda *a, **k: pytest.fail("scored"))
    with ThreadPoolExecutor(1) as other:   # of the same process: in one thread the lock can be taken again
        lock = run_lock(tmp_path/"o")
        other.submit(lock.__enter__).result()
        for command in ((score, model, tmp_path/"lineB"), (evaluate, model, mvtec(tmp_path/"e"))):
            status, text = run(*command, "--out", tmp_path/"o")
            assert status == 2 and "another process is working in" in text, text
        other.submit(lock.__exit__, None, None, None).result()
    assert files(tmp_path/"o") == before

def test_results_that_broke_off_do_not_look_whole(tmp_path, model, monkeypatch):
    two_lines(tmp_path); m = GRAD.load(model, "cpu")
    score_images(m, read_dataset(tmp_path/"lineA", "score")).write(tmp_path/"o")
    def stopped(*a, **k): raise KeyboardInterrupt
    monkeypatch.setattr("grad_kit.evaluate.report.write_colour_maps", stopped)
    with pytest.raises(KeyboardInterrupt): score_images(m, read_dataset(tmp_path/"lineB", "score")).write(tmp_path/"o")
    assert not (tmp_path/"o"/"results.json").exists()   # the table is B's, the maps A's
    monkeypatch.undo()
    score_images(m, read_dataset(tmp_path/"lineB", "score")).write(tmp_path/"o")
    assert is_whole(tmp_path/"o", "B")


# --- the place is tried before the work ---

def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path, model):
    runs = tmp_path/"runs"; shutil.copytree(model, runs/"v1")
    os.symlink("v1", runs/"latest"); os.symlink("v2", runs/"new")
    def scores(folder): return json.loads((folder/"manifest.json").read_text())["holdout_scores"]
    old = scores(model)
    for link, target in (("latest", "v1"), ("new", "v2")):
        status, text = run(fit, goods(tmp_path/"others", 20, first=900), "--out", runs/link, *CLOSED)
        assert status == 0 and (runs/link).is_symlink() and os.readlink(runs/link) == target, text
        assert scores(runs/target) != old
    GRAD.load(model, "cpu").save(runs/"latest")
    assert (runs/"latest").is_symlink() and scores(runs/"v1") == old
    assert sorted(p.name for p in runs.iterdir() if p.name[0] != "." and not p.name.endswith(".stages")) == \
        ["latest", "new", "v1", "v2"]
    # a process was killed while the old model had stepped aside
    (runs/".grad_kit_new_abcdefgh"/"old").mkdir(parents=True)
    os.rename(runs/"v1", runs/".grad_kit_new_abcdefgh"/"old"/"v1")
    assert len(GRAD.load(runs/"latest", "cpu").holdout_scores_) and (runs/"v1").is_dir()

def test_links_among_results(tmp_path, model):
    two_lines(tmp_path); (tmp_path/"big"/"maps").mkdir(parents=True); (tmp_path/"o").mkdir()
    os.symlink(tmp_path/"o", tmp_path/"link"); os.symlink(tmp_path/"big"/"maps", tmp_path/"o"/"maps")
    (tmp_path/"o"/".grad_kit_output").write_text("")
    status, text = run(score, model, tmp_path/"lineA", "--out", tmp_path/"link")
    assert status == 0 and is_whole(tmp_path/"o", "A") and (tmp_path/"link").is_symlink(), text
    assert (tmp_path/"o"/"maps").is_symlink() and len(list((tmp_path/"big"/"maps").iterdir())) == 5

def test_an_export_keeps_a_link(tmp_path, model, monkeypatch):
    monkeypatch.setattr("grad_kit.model.export.export_model", lambda model, path, *a, **k: path.write_bytes(b"exported"))
    os.symlink("v1.onnx", tmp_path/"latest.onnx")
    status, text = run(export, model, tmp_path/"latest.onnx")
    assert status == 0 and os.readlink(tmp_path/"latest.onnx") == "v1.onnx", text
    assert (tmp_path/"v1.onnx").read_bytes() == b"exported" and not (tmp_path/"v1.onnx").is_symlink()

def test_a_place_that_cannot_be_replaced_is_refused_before_the_fit(tmp_path, model, monkeypatch):
    shutil.copytree(model, tmp_path/"m"); (tmp_path/"d").mkdir(); before = files(tmp_path/"m")
    parts = goods(tmp_path/"parts", 8)
    monkeypatch.setattr(GRAD, "fit", lambda *a, **k: pytest.fail("fitted"))
    mounts = (tmp_path/"m", tmp_path/"d"/"model")
    monkeypatch.setattr(grad_kit.base.files.os.path, "ismount", lambda p: Path(p) in mounts)
    shutil.copytree(model, tmp_path/"d"/"model"); (tmp_path/"d"/".grad_kit_output").write_text("")
    for command in ((fit, parts, "--out", tmp_path/"m", *CLOSED), (demo, "--out", tmp_path/"d")):
        status, text = run(*command)
        assert status == 2 and "cannot be replaced (" in text, text
        assert text.count("\n") == 1 and "Traceback" not in text, text
    assert files(tmp_path/"m") == before
    assert not [p for p in tmp_path.iterdir() if p.name[0] == "."]

def test_trying_a_place_leaves_nothing(tmp_path):
    (tmp_path/"full").mkdir(); (tmp_path/"full"/"a").write_text("mine"); (tmp_path/"file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for place in ("full", "file", "new", "a/b/c"): try_place(tmp_path/place)
    for place in ("file/below", "file/a/b"):
        with pytest.raises(GradKitError, match="cannot be used|cannot write"): try_place(tmp_path/place)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path/"full"/"a").read_text() == "mine"

MOUNTS = """
import subprocess, sys
from pathlib import Path
from grad_kit import GRAD
from test_promises import CLOSED, goods, run
from grad_kit.cli import demo, fit, score
root = Path(sys.argv[1])
GRAD.fit = GRAD.score = lambda *a, **k: sys.exit("worked before the place was tried")
def mount(*how): subprocess.run(["mount", *map(str, how)], check=True)
for name in ("disk", "ro/m"): (root/name).mkdir(parents=True)
mount("-t", "tmpfs", "none", root/"disk")
mount("--bind", root/"model", root/"ro/m")
mount("-o", "remount,ro,bind", root/"ro/m")
fits = [(fit, root/"parts", "--out", root/name, *CLOSED) for name in ("disk", "ro/m/new")]
for command, *args in (*fits, (score, root/"model", root/"parts", "--out", root/"ro/m/new")):
    status, text = run(command, *args)
    assert status == 2 and text.count(chr(10)) == 1 and "cannot " in text, (args, status, text)
    print(text, end="")
"""

def test_mount_points_and_read_only_folders(tmp_path, model):
    shutil.copytree(model, tmp_path/"model"); goods(tmp_path/"parts", 8)
    before = files(tmp_path)
    done = in_a_namespace(sys.executable, "-c", MOUNTS, tmp_path)
    assert done.returncode == 0 and done.stdout.count("cannot be replaced") == 1, done.stdout + done.stderr
    assert files(tmp_path) == before


# --- a whole series that is unlike the fitted one ---

def jpeg(a, folder, i, quality=85): return put(folder/f"{i}.jpg", a, quality=quality)
def png(a, folder, i): return put(folder/f"{i}.png", np.ascontiguousarray(a.clip(0, 255)).astype(np.uint8))
def soft(a): return np.mean([np.roll(a, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)], 0)
def ground(a):
    out = a.copy(); out[:8], out[-8:], out[:, :8], out[:, -8:] = 40, 40, 40, 40
    return out

@pytest.mark.parametrize("change, said", [
    (lambda a, d, i: png(a * 1.15, d, i), "brighter by 15%"), (lambda a, d, i: png(a * .85, d, i), "darker by 15%"),
    (jpeg, "colour detail"), (lambda a, d, i: png(a[..., ::-1], d, i), "red and blue"),
    (lambda a, d, i: png(a[::-1, ::-1], d, i), "half changed"), (lambda a, d, i: png(soft(a), d, i), "less detail"),
    (lambda a, d, i: png(ground(a), d, i), "darker background")])
def test_a_series_that_differs_as_a_whole_is_told(tmp_path, model, change, said):
    for i in range(8): change(part(3000 + i), tmp_path/"new", i)
    scoring = score_images(GRAD.load(model, "cpu"), read_dataset(tmp_path/"new", "score"))
    assert "all 8 images differ alike" in scoring.text() and said in scoring.note == scoring.results()["note"]
    assert scoring.note.endswith("light, camera, file format or colour order?")

def test_images_of_the_fitted_kind_give_no_note(tmp_path, model):
    m = GRAD.load(model, "cpu")
    def pixels(n, first, bad=False):
        return torch.from_numpy(np.stack([part(first + i, bad) for i in range(n)])).permute(0, 3, 1, 2)
    for n, first, bad in ((3, 5000, False), (8, 5100, False), (40, 5200, False)):
        assert series_note(m, pixels(n, first, bad)) == ""
    assert series_note(m, pixels(2, 0) // 2) == "" != series_note(m, pixels(3, 0) // 2)   # two are no series
    mixed = torch.cat([pixels(5, 5300), pixels(2, 5400) // 2])
    assert series_note(m, mixed) == ""   # some, not most
    assert series_note(m, torch.cat([pixels(2, 0), pixels(5, 0) // 2])).startswith("most of the 7 images differ alike")
    m.statistics_ = {}   # a model of before
    assert series_note(m, pixels(8, 0) // 2) == ""
    evaluation = evaluate_model(GRAD.load(model, "cpu"), read_dataset(mvtec(tmp_path/"e")))
    assert evaluation.note == "" == evaluation.results()["note"] and "differ alike" not in "".join(evaluation.notes())

def test_an_evaluation_under_other_light_says_so(tmp_path, model):
    root = mvtec(tmp_path/"e")
    for f in (root/"test").rglob("*.png"): png(np.asarray(Image.open(f)) * .6, f.parent, f.stem)
    status, text = run(evaluate, model, root, "--out", tmp_path/"o")
    assert status == 0 and "all 8 images differ alike" in text and "darker by" in text, text

def test_random_draws_of_normal_images_give_no_note():
    "The rule's margin: 60 draws of 3 of 40 images with a tenth of spread in brightness, the other 37 fitted"
    rng = np.random.default_rng(0)
    x = np.stack([part(i) * rng.normal(1, .1) for i in range(40)]).clip(0, 255).astype(np.uint8)
    x, notes = torch.from_numpy(x).permute(0, 3, 1, 2), 0
    m = GRAD(CONFIG, device="cpu")
    m.placement_ = Placement(x.shape[-1])
    for _ in range(60):
        order = torch.from_numpy(rng.permutation(40))
        m.statistics_ = image_statistics(x[order[3:]])
        notes += series_note(m, x[order[:3]]) != ""
    assert notes <= 1, notes

def test_statistics_are_kept_in_the_model(model):
    m = GRAD.load(model, "cpu")
    assert set(m.statistics_) == set(image_statistics(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)))
    assert {len(v) for v in m.statistics_.values()} == {m.n_normal_}
    assert all(low <= middle <= high for low, middle, high in statistic_ranges(m.statistics_).values())


# --- broken files ---

def half_files(d, n=12):
    for i in range(n): put(d/f"{i:02d}.jpg", part(2000 + i), quality=90)
    for i in (3, 7): b = (d/f"{i:02d}.jpg").read_bytes(); (d/f"{i:02d}.jpg").write_bytes(b[:len(b) // 2])
    return d

def test_the_others_are_scored_and_the_broken_are_listed(tmp_path, model):
    photos = half_files(tmp_path/"photos")
    status, text = run(score, model, photos, "--out", tmp_path/"o", "--explain")
    assert status == 1 and "Traceback" not in text, text
    rows = {r["name"]: r for r in table(tmp_path/"o")}
    assert len(rows) == 12 and [n for n, r in rows.items() if r["error"]] == ["03.jpg", "07.jpg"]
    for name in ("03.jpg", "07.jpg"):
        assert rows[name]["image_score"] == rows[name]["alarm"] == rows[name]["map"] == ""
        assert name in rows[name]["error"] and f"not scored: '{photos/name}'" in text
    assert result(tmp_path/"o")["n"] == 10 and len(result(tmp_path/"o")["broken"]) == 2
    assert len(list((tmp_path/"o"/"maps").iterdir())) == 10
    whole = {n: r["image_score"] for n, r in rows.items() if not r["error"]}
    for name in ("03.jpg", "07.jpg"): (photos/name).unlink()
    status, text = run(score, model, photos, "--out", tmp_path/"o")
    assert status == 0 and {r["name"]: r["image_score"] for r in table(tmp_path/"o")} == whole
    with pytest.raises(GradKitError, match="03.jpg"): GRAD.load(model).score(half_files(tmp_path/"p"))

def test_where_nothing_can_be_read_nothing_is_written(tmp_path, model):
    photos = half_files(tmp_path/"photos")
    for f in photos.iterdir():
        if f.stem not in ("03", "07"): f.unlink()
    for images, said in ((photos, "no image can be read, first"), (photos/"03.jpg", "03.jpg")):
        status, text = run(score, model, images, "--out", tmp_path/"o")
        assert status == 2 and said in text and not (tmp_path/"o").exists(), text


# --- masks, and scores that are not finite ---

def test_masks_have_the_images_own_size(tmp_path, model):
    new = bads(tmp_path/"new", 3)
    status, text = run(score, model, new, "--out", tmp_path/"o", "--masks")
    assert status == 0 and "threshold for pixels" in text, text
    m = GRAD.load(model, "cpu"); r = m.score(read_dataset(new, "score"))
    for i, row in enumerate(sorted(table(tmp_path/"o"), key=lambda row: row["name"])):
        with Image.open(tmp_path/"o"/"masks"/row["name"]) as im: a = np.asarray(im)
        assert a.shape == (64, 64) and set(np.unique(a)) <= {0, 255}
        assert np.array_equal(a > 0, r.mask[i].numpy()) and 0 < (a > 0).mean() < .3
    assert result(tmp_path/"o")["pixel_threshold"] == pytest.approx(r.pixel_threshold)
    assert run(score, model, new, "--out", tmp_path/"o")[0] == 0 and not (tmp_path/"o"/"masks").exists()

# --- bulk scoring: Ray and pyarrow are an extra, so here what a worker does with a batch ---

def test_a_worker_keeps_what_the_file_was(tmp_path, model, monkeypatch):
    from grad_kit.lab.scale import ScoreWorker, rows_to_keep
    images = [str(f) for f in sorted(goods(tmp_path/"cam", 3).iterdir())]
    (tmp_path/"broken.png").write_bytes(b"no image")
    worker = ScoreWorker(str(model), "cpu", "float32", True)
    def rows(paths):
        found = worker.columns(paths)
        return found, list(zip(found["path"], found["error"], found["stamp"]))
    found, kept = rows([*images, str(tmp_path/"broken.png")])
    assert found["alarm"][3] is found["anomaly_map"][3] is None and np.isnan(found["image_score"][3])
    want = worker.model.score(read_dataset(tmp_path/"cam", "score"))
    assert np.allclose(found["image_score"][:3], want.image_score) and found["alarm"][:3] == want.label.tolist()
    assert rows_to_keep(kept, set(found["path"])) == [True, True, True, False]
    put(images[1], part(900, True))   # the camera's name comes again, with a defect
    assert rows_to_keep(kept, set(found["path"])) == [True, False, True, False]
    again, _ = rows(images[1:2])
    assert again["image_score"][0] > found["image_score"][1] and again["alarm"] == [True]
    score_pixels = worker.model.score_pixels
    def not_finite(*a):
        r = score_pixels(*a); r.image_score[0] = torch.nan
        return r
    monkeypatch.setattr(worker.model, "score_pixels", not_finite)
    found, _ = rows(images)
    assert found["alarm"][0] is None and "is nan" in found["error"][0] and found["error"][1] == ""

def test_a_reused_name_is_scored_again(tmp_path, model):
    pytest.importorskip("ray"); pq = pytest.importorskip("pyarrow.parquet")
    from grad_kit.cli import score_many
    cam = goods(tmp_path/"cam", 3)
    assert run(score_many, model, cam, "--out", tmp_path/"o", "--workers", 1)[0] == 0
    put(cam/"001.png", part(900, True))
    status, text = run(score_many, model, cam, "--out", tmp_path/"o", "--workers", 1)
    assert status == 0 and "1 images scored" in text and "2 had their scores already" in text, text
    rows = pq.read_table(tmp_path/"o").to_pylist()
    assert len(rows) == 3 and [r["alarm"] for r in rows if r["path"].endswith("001.png")] == [True]
    (cam/"002.png").write_bytes(b"no image")
    status, text = run(score_many, model, cam, "--out", tmp_path/"o", "--workers", 1)
    assert status == 1 and "1 have none" in text, text

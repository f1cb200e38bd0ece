"""How folders of images are read: what is normal, what is a mask, which images belong together, which are broken.
One test for each kind of case in public reports; inputs are drawn here."""
import json, shutil, struct

import numpy as np
import pytest
from PIL import Image
from test_promises import CLOSED, bads, bar, counts, goods, masks, mvtec, part, put, run

from grad_kit import GRAD, Config, GradKitError, read_dataset
from grad_kit.cli import fit
from grad_kit.data.dataset import Dataset
from grad_kit.data.guard import find_images
from grad_kit.data.layouts import read_folders
from grad_kit.data.images import image_size, read_image

pytestmark = pytest.mark.filterwarnings("ignore:.*too few.*", "ignore:.*passed over.*")
MASK = bar() * np.uint8(255)

def of(ds, split): return [it.image for it in ds.split(split).items]

def refused(folder, words="--normal"):
    with pytest.raises(GradKitError, match=words) as e: read_dataset(folder)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_splits_of_two_sizes_and_defects_for_training_are_refused():
    from dataclasses import replace
    from grad_kit.data.trays import tray_dataset
    ds = tray_dataset(6, 3, 2, 2, size=64)
    def fit(change):
        items = tuple(change(it) for it in ds.items)
        GRAD(Config.preset("instant", image_size=64), device="cpu").fit(replace(ds, items=items), progress=False)
    with pytest.raises(GradKitError, match="64 x 64 pixels, but .* is 64 x 48"):
        fit(lambda it: replace(it, image=it.image[:48]) if it.split == "validation" else it)
    with pytest.raises(GradKitError, match="labelled as defective and for validation"):
        fit(lambda it: replace(it, split="validation") if it.label else it)


# --- which images are for testing ---

def station(root, parts=12, cameras=5):
    for i in range(parts):
        for c in range(cameras): put(root/"OK"/f"part{i:03d}_cam{c + 1}.png", part(1000 * c + i))
    for i in range(4):
        for c in range(cameras): put(root/"NG"/f"bad{i:03d}_cam{c + 1}.png", part(500 + 10 * i + c, True))
    return root

def test_five_cameras_are_all_fitted_and_tested(tmp_path):
    ds = read_dataset(station(tmp_path/"station"))
    assert counts(ds) == [48, 12, 20]
    def cameras(split): return {it.name[-1] for it in ds.split(split).items if not it.label}
    assert cameras("train") == cameras("test") == set("12345")
    again = read_folders(tmp_path/"station"/"OK", tmp_path/"station"/"NG")   # the same for everyone
    assert {p.name for p in of(again, "train")} == {p.name for p in of(ds, "train")}

def test_masks_beside_are_divided_so_too(tmp_path):
    for i in range(20):
        put(tmp_path/"set"/f"part{i // 5}_cam{i % 5}.png", part(i))
        put(tmp_path/"set"/f"part{i // 5}_cam{i % 5}_mask.png", MASK * (i < 2))
    ds = read_dataset(tmp_path/"set")
    assert counts(ds) == [14, 4, 2] and len({p.stem[-1] for p in of(ds, "test")}) > 2

def test_shots_of_one_part_are_never_divided(tmp_path):
    root = station(tmp_path/"station")
    ds = read_dataset(root, group_by=r"(part|bad)(\d+)")
    assert ds.groups[:2] == ["part/000", "part/000"]   # its groups, joined
    parts = {split: {it.group for it in ds.split(split).items} for split in ("train", "test")}
    assert not parts["train"] & parts["test"] and counts(ds) == [45, 15, 20]
    ds = read_folders(root/"OK", root/"NG", group_by=r"^\w+?\d+")
    assert ds.items[0].group == "part000" and counts(ds) == [45, 15, 20]
    assert read_folders(root/"OK", group_by=r"cam\d").groups[:2] == ["cam1", "cam2"]
    with pytest.raises(GradKitError, match=r"matches nothing in 'OK/part000_cam1.png'"):
        read_dataset(root, group_by=r"bad\d+")
    ds = read_dataset(root, group_by=r"part\d+")   # defective images may be in no group
    assert {it.group for it in ds.items if it.label} == {""} and counts(ds) == [45, 15, 20]
    with pytest.raises(GradKitError, match="must be a valid regular expression"): read_dataset(root, group_by="(")
    status, text = run(fit, root, "--group-by", "x", "--out", tmp_path/"m", *CLOSED)
    assert status == 2 and text.count("\n") == 1 and "group_by is 'x'" in text, text

def test_a_part_with_a_defect_is_for_testing(tmp_path):
    for i in range(40):
        bad = i in (3, 17)
        put(tmp_path/"s"/("NG" if bad else "OK")/f"p{i // 4}_{i % 4}.png", part(i, bad))
    ds = read_dataset(tmp_path/"s", group_by=r"p\d+")
    assert {"p0", "p4"} <= {it.group for it in ds.split("test").items}
    assert not {it.group for it in ds.split("test").items} & {it.group for it in ds.split("train").items}

def test_published_splits_stay_and_note_the_group(tmp_path):
    root = mvtec(tmp_path/"a")
    plain, ds = read_dataset(root), read_dataset(root, group_by=r"\d+")
    assert ds.names == plain.names and ds.items[0].group == "000" and not any(plain.groups)
    assert read_dataset(root, "score", r"\d+").items[0].group == "000"


# --- masks are no images ---

def real_iad(root, ext="jpg", mask="png", a=MASK):
    for i in range(4):
        for c in range(1, 6):
            put(root/"OK"/f"S{i:04d}"/f"audiojack_{i:04d}_OK_C{c}_20231021.{ext}", part(10 * i + c), quality=95)
    for i in range(2):
        for c in range(1, 6):
            name = f"NG/BX/S{i:04d}/audiojack_{i:04d}_NG_BX_C{c}_20231021"
            put(root/f"{name}.{ext}", part(500 + 10 * i + c, c < 4), quality=95)
            if c < 4: put(root/f"{name}.{mask}", a)
    return root

@pytest.mark.parametrize("kw", [{}, dict(ext="JPG", mask="PNG"), dict(mask="tif", a=bar() * np.uint16(65535)),
                                dict(mask="tif", a=bar().astype(np.uint16)), dict(mask="bmp")])
def test_masks_beside_some_of_the_defective_images(tmp_path, kw):
    root = real_iad(tmp_path/"audiojack", **kw)
    ds = read_dataset(root)
    assert counts(ds) == [16, 4, 10] and "(10 anomalous, 6 of 10 with masks)" in repr(ds)
    assert ds.split("test").masked_text() == "6 of 10 with masks"   # for the report
    assert set(ds.split("test").defects) == {"good", "BX"} and ds.split("test").truth()["masks"] is None
    assert len(read_dataset(root, "score")) == 30 and len(read_dataset(root/"NG", "score")) == 10
    named = read_folders(root/"OK", root/"NG")
    assert counts(named) == [16, 4, 10] and "6 of 10 with masks" in repr(named)

def float_tiff(path, a):
    "Three channels of float32, which PIL does not write"
    h, w, _ = a.shape
    data = a.astype("<f4").tobytes()
    tags = [(256, 4, 1, w), (257, 4, 1, h), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 146),
            (277, 3, 1, 3), (278, 4, 1, h), (279, 4, 1, len(data)), (339, 3, 3, 140)]
    out = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags) + b"\0\0\0\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out + struct.pack("<6H", 32, 32, 32, 3, 3, 3) + data)

def test_mvtec_3d(tmp_path):
    root = tmp_path/"bagel"
    for split, kind, n in (("train", "good", 8), ("validation", "good", 3), ("test", "good", 4), ("test", "crack", 4)):
        for i in range(n):
            put(root/split/kind/"rgb"/f"{i:03d}.png", part(10 * n + i, kind == "crack"))
            float_tiff(root/split/kind/"xyz"/f"{i:03d}.tiff", part(i).astype(float))
            if split == "test": put(root/split/kind/"gt"/f"{i:03d}.png", MASK * (kind == "crack"))
    ds = read_dataset(root)
    assert counts(ds) == [8, 4, 4] and len(ds.split("validation")) == 3 and ds.layout == "mvtec_ad"
    assert all(it.image.parent.name == "rgb" for it in ds.items) and "with masks" not in repr(ds)
    assert [m.sum() for m in ds.split("test").masks()] == [0] * 4 + [bar().sum()] * 4
    assert "19 images in xyz" in ds.passed_over
    for folder, n in ((root, 19), (root/"test", 8), (root/"test"/"crack", 4)):
        assert len(read_dataset(folder, "score")) == n
    with pytest.raises(GradKitError, match="test' is one part of the data set"): read_dataset(root/"test", "evaluate")
    assert counts(read_folders(root/"train", root/"test"/"crack")) == [6, 2, 4]

@pytest.mark.parametrize("image, mask", [
    ("scratch/{}.png", "scratch/gt/{}.png"), ("scratch/{}.png", "scratch/masks/{}_mask.png"),
    ("scratch/images/{}.png", "scratch/Masks/{}.PNG"), ("{}.png", "{}_mask.png"),
    ("{}.png", "{}-GT.bmp"), ("a/{}.jpg", "a/{}.png"), ("{}.png", "ground_truth/{}.png")])
def test_masks_within_folders_of_defects(tmp_path, image, mask):
    line, published = tmp_path/"line", tmp_path/"published"
    for root, n in ((line/"NG", 3), (published/"test"/"scratch", 4)):
        for i in range(4):
            put(root/image.format(i), part(200 + i, True))
            if i < n: put(root/mask.format(i), MASK)
    goods(line/"OK", 10); goods(published/"train"/"good", 8); goods(published/"test"/"good", 2, first=90)
    for root, n in ((line, 3), (published, 4)):
        ds = read_dataset(root)
        assert counts(ds) == [8, 2, 4], (root, ds)
        assert sum(len(it.masks) for it in ds.items) == n and ("3 of 4 with masks" in repr(ds)) == (n == 3)
        assert len(read_dataset(root, "score")) == len(ds)
        assert len(find_images(root).masks) == n

def test_masks_of_no_image_are_refused(tmp_path):
    root = goods(tmp_path/"s"/"OK", 10).parent
    bads(root/"NG"); masks(root/"NG"); (root/"NG"/"003.png").unlink()
    with pytest.raises(GradKitError, match="003_mask.png' belongs to no image"): read_dataset(root)
    with pytest.warns(UserWarning, match="labels are not used: .*003_mask.png' belongs to no image"):
        assert not read_dataset(root, "either").split("test").labels.any()
    put(root/"NG"/"003.png", part(1, True)); put(root/"OK"/"004_mask.png", MASK * 0); (root/"OK"/"004.png").unlink()
    with pytest.raises(GradKitError, match="004_mask.png' lies among normal images"): read_dataset(root)


@pytest.mark.parametrize("name", ["fine_scratch", "good_side_dent", "ok_stamp_missing"])
def test_a_defect_whose_name_holds_a_normal_word_is_none(tmp_path, name):
    root = goods(tmp_path/"s"/"OK", 10).parent
    bads(root/"NG"/name)
    ds = read_dataset(root)
    assert counts(ds)[2] == 4 and not any(name in str(it.image) for it in ds.split("train").items)

def test_photographs_named_as_masks_are_not_lost_in_silence(tmp_path):
    root = goods(tmp_path/"s"/"OK", 10).parent
    bads(root/"NG"/"scratch"); bads(root/"NG"/"missing_label")
    refused(root, "missing_label/000.png' is by its name a mask of .* a normal image, but is not black")
    publ = tmp_path/"p"
    goods(publ/"train"/"good", 8); goods(publ/"test"/"good", 2, first=90)
    bads(publ/"test"/"scratch"); bads(publ/"test"/"missing_label")
    assert "4 images in test/missing_label" in read_dataset(publ).passed_over
    assert read_dataset(publ, "score").passed_over.count("4 ") == 1   # not as masks too

def test_each_defective_image_has_a_name_of_its_own(tmp_path):
    for line in ("line0", "line1"): goods(tmp_path/"s"/line/"OK", 6); bads(tmp_path/"s"/line/"NG")
    names = read_dataset(tmp_path/"s").names
    assert len(set(names)) == len(names) and "test/NG/line1/NG/003" in names


# --- the guard ---

LABELS = "id,label\n" + "".join(f"{i:05d},{i % 2}\n" for i in range(8))

def numbered(folder, ext="jpg"):
    for i in range(8): put(folder/f"{i:05d}.{ext}", part(i, i % 2 == 0))
    return folder

@pytest.mark.parametrize("table", ["train_labels.csv", "train/labels.csv", "../labels.csv", "train/a/labels.csv",
                                   "meta.tsv"])
def test_tables_of_ids_without_endings(tmp_path, table):
    root = numbered(tmp_path/"kag"/"train")
    path = (tmp_path/"kag"/table).resolve()
    path.parent.mkdir(exist_ok=True); path.write_text(LABELS.replace(",", "\t" if "tsv" in table else ","))
    assert path.name in refused(root) and refused(root).count("holds labels") == 1
    assert len(read_dataset(root, "score")) == len(read_folders(root)) == 8   # said so, it is done so

@pytest.mark.parametrize("name, text", [
    ("labels.txt", "00003 defect\n00004 ok\n"), ("labels.txt", "train/00003.jpg 1\n"), ("ids.txt", "00003\n"),
    ("l.csv", ",id,label\n0,00003,1\n"), ("l.csv", '"id";"label"\n"00003";"1"\n'),
    ("l.csv", "path,y\nC:\\data\\00003.JPG,1"), ("l.jsonl", '{"id": "00003", "label": 1}\n'),
    ("l.json", '{"00003": "defect"}'), ("L.JSON", '[{"file": "./train/00003.jpg"}]'),
    ("voc.xml", "<annotation><filename>00003.jpg</filename></annotation>"),
    ("cvat.xml", '<image id="3" name="00003.jpg">'),
    ("windows.csv", "id,label\r\n00003,1\r\n"), ("00003_label.txt", "x"), ("00003.jpg.json", "{}"), ("00003.TXT", "")])
def test_whatever_names_an_image(tmp_path, name, text):
    root = numbered(tmp_path/"set"/"photos")
    for folder, encoding in ((root, "utf-8"), (root.parent, "utf-8-sig"), (tmp_path, "utf-16")):
        (folder/name).write_text(text, encoding=encoding)
        assert name in refused(root)
        (folder/name).unlink()
    assert len(read_dataset(root)) == 8

@pytest.mark.parametrize("images, labels", [
    ("images/default", "annotations/instances_default.json"), ("images", "annotations/i.json"),
    ("images/train", "labels/train/00002.txt"), ("JPEGImages", "Annotations/00002.xml"),
    ("images", "_annotations.coco.json")])
def test_annotations_beside_or_above(tmp_path, images, labels):
    root = numbered(tmp_path/"set"/images)
    coco = dict(images=[dict(id=i, file_name=f"{i:05d}.jpg") for i in range(8)], annotations=[dict(id=1, image_id=2)])
    path = tmp_path/"set"/labels
    path.parent.mkdir(parents=True, exist_ok=True); path.write_text(json.dumps(coco))
    assert path.name in refused(root) and path.name in refused(tmp_path/"set")

def test_files_that_name_no_image_are_harmless(tmp_path):
    root = goods(tmp_path/"set"/"photos", 12)
    for folder in (root, root.parent, tmp_path):
        (folder/"README.txt").write_text("Photographs of line 3, shift 2; 12 of them.\n1. put the part in\n2. wait\n")
        (folder/"camera.json").write_text('{"exposure": 3, "gain": "auto"}')
        (folder/"log.csv").write_text("time,temperature\n12:00,21\n12:01,22\n")
        (folder/"settings.xml").write_text("<camera><exposure>3</exposure></camera>")
        (folder/"model.xml").write_text('<dim>000</dim><grad_kit value="grad_kit export"/>')
        (folder/"Thumbs.db").write_bytes(b"junk"); (folder/"scores.csv").write_text("name,score\nother.png,1\n")
    assert len(read_dataset(root)) == 12

def test_a_folder_called_normal_is_what_a_table_above_it_says(tmp_path):
    root = goods(tmp_path/"set"/"good")
    (tmp_path/"set"/"labels.csv").write_text("file,label\n000.png,good\n")
    assert len(read_dataset(root)) == 8
    (root/"labels.csv").write_text("file,label\n000.png,1\n")
    refused(root)

@pytest.mark.parametrize("ok, ng", [
    ("No1_OK", "No1_NG"), ("no.2 ok", "no.2 ng"), ("PartNo3-good", "PartNo3-bad"), ("N1_OK", "N1_NG"), ("ok1", "ng1"),
    ("no_defect", "defect"), ("OK", "N_OK"), ("ok_front", "def_front"), ("良品", "不良品"),
    ("defect_free", "defective"), ("i.O.", "n.i.O.")])
def test_numbers_are_no_negation(tmp_path, ok, ng):
    goods(tmp_path/"line"/ok, 10); bads(tmp_path/"line"/ng)
    ds = read_dataset(tmp_path/"line")
    assert counts(ds) == [8, 2, 4] and {p.parent.name for p in of(ds, "train")} == {ok}
    assert len(read_dataset(tmp_path/"line"/ok)) == 10
    refused(tmp_path/"line"/ng, f"is called '{ng}'")

def test_castings(tmp_path):
    for split, n in (("train", 8), ("test", 3)):
        for i in range(n): put(tmp_path/"cast"/split/"ok_front"/f"cast_ok_0_{i}.jpeg", part(i))
        for i in range(n): put(tmp_path/"cast"/split/"def_front"/f"cast_def_0_{i}.jpeg", part(100 + i, True))
    assert counts(read_dataset(tmp_path/"cast")) == [8, 3, 3]
    refused(tmp_path/"cast"/"train"/"def_front"); refused(tmp_path/"cast"/"test"/"def_front")
    assert len(read_dataset(tmp_path/"cast"/"train"/"ok_front")) == 8

@pytest.mark.parametrize("odd", [
    "crack_01.png", "plate_Scratch.png", "img_003_hole.png", "dents (2).png", "17_def.png", "x_NG1.png", "pos_1.png",
    "test_9.png", "img_003_mask.png", "Kratzer3.png", "不良1.png", "good_3.png"])
def test_one_file_of_another_name_in_a_flat_folder(tmp_path, odd):
    for i in range(8): put(tmp_path/"flat"/f"img_{i:03d}.png", part(i))
    assert len(read_dataset(tmp_path/"flat")) == 8
    put(tmp_path/"flat"/odd, part(9, True))
    assert refused(tmp_path/"flat")

def test_a_word_that_all_files_share_is_the_part(tmp_path):
    for word in ("hole_plate", "label", "test", "ok", "No1_OK"):
        for i in range(4): put(tmp_path/word.lower()[:2]/f"{word}_{i}.png", part(i))
        assert len(read_dataset(tmp_path/word.lower()[:2])) == 4
    for i in range(4): put(tmp_path/"two"/f"{'crack' if i % 2 else 'dent'}_{i}.png", part(i))
    refused(tmp_path/"two", "differ in meaning")

@pytest.mark.parametrize("where", ["NG/monday", "defects/scratch_1/a", "not_ok_2/x", "masks/scratch", "test/photos",
                                   "Tests/1"])
def test_what_the_folders_above_say(tmp_path, where):
    root = goods(tmp_path/"set"/where)
    if where == "defects/scratch_1/a": refused(root, "lies in 'scratch_1'")
    else: refused(root, "lies in|is called")
    assert len(read_folders(root)) == 8

def test_names_above_that_mean_no_harm(tmp_path):
    for where in ("anomaly_detection/photos", "label_printer/photos", "NG_scanner/monday", "test/good",
                  "defect-inspection/x"):
        assert len(read_dataset(goods(tmp_path/where))) == 8


# --- transparent pixels ---

def matte(root, hide):
    y, x = np.mgrid[:96, :96]
    inside = (x - 48)**2 + (y - 48)**2 < 40**2
    for i in range(3):
        behind = np.random.default_rng(i).integers(0, 255, (96, 96, 3)) if hide else np.zeros((96, 96, 3))
        seen = np.where(inside[..., None], part(i, h=96, w=96), behind)
        put(root/f"{i}.png", np.dstack([seen, inside * 255]).astype(np.uint8))
    return root

def test_a_background_under_alpha_is_not_fitted(tmp_path):
    seen = [read_dataset(matte(tmp_path/str(hide), hide)).images(64) for hide in (True, False)]
    assert (seen[0] == seen[1]).all() and (seen[0] > 0).any()

def test_every_kind_of_transparency_is_read_on_black(tmp_path):
    a, clear = part(0), np.zeros((64, 64), bool)
    clear[:20] = True
    for mode in ("RGBA", "LA"):
        im = Image.fromarray(a).convert(mode[:-1])
        im.putalpha(Image.fromarray(~clear * np.uint8(255)))
        im.save(tmp_path/f"{mode}.png")
    key = Image.fromarray(np.where(clear[..., None], 3, a).astype(np.uint8))
    key.save(tmp_path/"key.png", transparency=(3, 3, 3))
    p = Image.fromarray(np.where(clear, 0, 1).astype(np.uint8)); p.putpalette([200, 10, 10, 90, 90, 90] + [0] * 762)
    p.save(tmp_path/"palette.png", transparency=0); p.save(tmp_path/"two.gif", transparency=0)
    for f in sorted(tmp_path.iterdir()):
        b = read_image(f)
        assert not b[clear].any() and b[~clear].min() > 40, f

    assert image_size(tmp_path/"RGBA.png") == (64, 64)


# --- broken files ---

def half(root, n=12, broken=(3, 7)):
    for i in range(n): put(root/f"{i:02d}.jpg", part(2000 + i), quality=90)
    for i in broken: b = (root/f"{i:02d}.jpg").read_bytes(); (root/f"{i:02d}.jpg").write_bytes(b[:len(b) // 2])
    return root

def test_all_broken_files_are_named_at_once(tmp_path):
    root = half(tmp_path/"photos")
    status, text = run(fit, root, "--out", tmp_path/"m", *CLOSED)
    assert status == 2 and "2 of 12 images cannot be read" in text and "03.jpg" in text and "07.jpg" in text, text
    assert "Traceback" not in text and not (tmp_path/"m").exists()
    with pytest.raises(GradKitError, match="10.jpg' cannot be read as an image.*"):
        read_dataset(half(tmp_path/"one", broken=(10,))).images(64)
    with pytest.raises(GradKitError, match="5 of 12.*00.jpg.*01.jpg.*02.jpg.*and 2 more$"):
        read_dataset(half(tmp_path/"many", broken=range(5))).images(64)

def test_the_others_can_be_scored(tmp_path):
    root = half(tmp_path/"photos")
    (root/"08.jpg").write_bytes(b""); put(root/"09.jpg", part(1)[:20])
    ds = read_dataset(root, "score")
    whole, said = ds.without_broken(64)
    assert whole.names == [f"{i:02d}.jpg" for i in (0, 1, 2, 4, 5, 6, 10, 11)] and len(said) == 4
    for name, sentence in zip(("03", "07", "08", "09"), said): assert f"{name}.jpg'" in sentence
    shutil.rmtree(root)   # decoded once
    assert whole.images(64).shape == (8, 3, 64, 64) and whole.without_broken(64) == (whole, [])
    fine = read_dataset(goods(tmp_path/"fine"), "score")
    same, said = fine.without_broken(64)
    assert same is fine and said == [] and len(same.images(64)) == 8
    none, said = read_dataset(half(tmp_path/"none", 3, range(3)), "score").without_broken(64)
    assert len(none) == 0 and len(said) == 3 and none.images(64).shape == (0, 3, 64, 64)

def test_an_empty_dataset_is_read_as_one():
    ds = Dataset("x", "array", ())
    assert ds.images(64).shape == (0, 3, 64, 64) and ds.without_broken(64) == (ds, []) and ds.masks() == []
    assert repr(ds) == "Dataset(x, array: empty)" and ds.groups == [] and ds.image_hashes(64) == []

@pytest.mark.parametrize("name", ["mask_{}.png", "gt-{}.png", "{}_mask.png", "{}.mask.png"])
def test_masks_are_told_by_what_is_before_or_behind_the_name(tmp_path, name):
    tmp_path = tmp_path/"a"
    goods(tmp_path/"OK", 6); bads(tmp_path/"NG")
    for i in range(4): put(tmp_path/"NG"/name.format(f"{i:03d}"), bar() * np.uint8(255))
    ds = read_dataset(tmp_path)
    assert ds.labels.sum() == 4 and sum(len(it.masks) for it in ds.items) == 4, ds

@pytest.mark.parametrize("ok, ng", [("iO", "niO"), ("i.O.", "n.i.O."), ("IO", "NIO"), ("합격", "불합격")])
def test_shop_floor_words(tmp_path, ok, ng):
    tmp_path = tmp_path/"a"
    goods(tmp_path/ok, 6); bads(tmp_path/ng)
    assert read_dataset(tmp_path).labels.sum() == 4

@pytest.mark.parametrize("name", ["{}_mask1.png", "{}_mask_0.png", "Mask{}.png"])
def test_other_names_of_masks_beside_their_images(tmp_path, name):
    root = tmp_path/"a"
    goods(root/"OK", 6); bads(root/"NG")
    for i in range(4): put(root/"NG"/name.format(f"{i:03d}"), bar() * np.uint8(255))
    ds = read_dataset(root)
    assert ds.labels.sum() == 4 and sum(len(it.masks) for it in ds.items) == 4, ds

@pytest.mark.parametrize("file", ["labels.yaml", "labels.xlsx", "Labels", "annotation.npy", "list.csv"])
def test_files_called_labels_or_with_another_ending_for_the_images(tmp_path, file):
    root = goods(tmp_path/"a"/"photos", 6)
    (root/file).write_text("id,kind\n001.jpg,1\n")   # the images are .png
    refused(root)
    shutil.move(root/file, root.parent/file)
    refused(root)

def test_numbered_classes_are_no_normal_images(tmp_path):
    for name in ("class_0", "class_1"): goods(tmp_path/"a"/name, 3)
    refused(tmp_path/"a", "differ in meaning")
    for name in ("day_0", "day_1"): goods(tmp_path/"b"/name, 3)
    assert len(read_dataset(tmp_path/"b")) == 6

def test_kolektor_sdd_2_is_evaluated(tmp_path):
    for split, first in (("train", 0), ("test", 50)):
        for i in range(first, first + 8):
            put(tmp_path/"k"/split/f"{i}.png", part(i, i % 4 == 0))
            put(tmp_path/"k"/split/f"{i}_GT.png", bar() * np.uint8(255 * (i % 4 == 0)))
    ds = read_dataset(tmp_path/"k", "evaluate")
    assert len(ds.split("test")) == 8 and ds.split("test").labels.sum() == 2, ds

def test_one_picture_that_is_normal_and_defective_is_refused(tmp_path):
    tmp_path = tmp_path/"a"
    goods(tmp_path/"OK", 6); bads(tmp_path/"NG")
    shutil.copy(tmp_path/"OK"/"003.png", tmp_path/"NG"/"x.png")
    for read in (lambda: read_dataset(tmp_path), lambda: read_folders(tmp_path/"OK", tmp_path/"NG")):
        with pytest.raises(GradKitError, match="x.png' is a copy of .*003.png', so it counts as normal and as defective"): read()

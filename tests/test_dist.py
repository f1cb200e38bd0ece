"""Written by hand: a wheel is built, and used in an empty folder, with the libraries that are here (seconds).
`make dist` does the same in an empty environment, with all commands (minutes)."""
import os, re, shutil, subprocess, sys, zipfile
from email import message_from_bytes


import pytest

pytest.importorskip("setuptools", "77", reason="builds the wheel")
from test_project import ROOT, name_of, settings

URL = "https://github.com/example/grad_kit"
SCORE = """
import sys
from pathlib import Path

import grad_kit
from grad_kit import GRAD, Config
from grad_kit.data.trays import tray_dataset
assert Path(grad_kit.__file__).is_relative_to(sys.argv[1]), grad_kit.__file__
trays = tray_dataset(24, 0, 2, 1, size=64)
model = GRAD(Config.preset("instant", image_size=64, filters_size=64)).fit(trays, progress=False)
model.save("model")
scores = GRAD.load("model").score(trays.split("test")).image_score
assert len(scores) == len(trays.split("test")) and scores.isfinite().all()
from grad_kit.view.why import write_why
write_why(model, trays.split("test"), Path("why.html"))
"""


def run(*command, **kw):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, **kw)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "A wheel as it is where `git_url` names a host"
    src = tmp_path_factory.mktemp("dist")
    for name in ("setup.py", "pyproject.toml", "settings.ini", "MANIFEST.in", "LICENSE", "README.md"):
        shutil.copy(ROOT/name, src)
    shutil.copytree(ROOT/"grad_kit", src/"grad_kit", ignore=shutil.ignore_patterns("__pycache__"))
    text = re.sub("^git_url *=.*$", f"git_url = {URL}", (src/"settings.ini").read_text(encoding="utf-8"), flags=re.M)
    (src/"settings.ini").write_text(text, encoding="utf-8")
    run("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", src/"dist", src)
    return next((src/"dist").glob("*.whl"))


def test_the_wheel_holds_the_package_and_its_page(wheel):
    ini, inside = settings(), zipfile.ZipFile(wheel)
    modules = {p.relative_to(ROOT).as_posix() for ext in ("py", "js") for p in (ROOT/"grad_kit").rglob(f"*.{ext}")}
    assert {n for n in inside.namelist() if ".dist-info/" not in n} == modules
    meta = message_from_bytes(inside.read(next(n for n in inside.namelist() if n.endswith("/METADATA"))))
    found = [meta[k] for k in ("Name", "Version", "License-Expression")]
    assert found == [ini["lib_name"], ini["version"], "Apache-2.0"]
    needs = {name_of(r) for r in meta.get_all("Requires-Dist") if "extra ==" not in r}
    assert needs == {name_of(r) for r in ini["requirements"].split()}
    assert f"Source, {URL}" in meta.get_all("Project-URL")
    page = meta.get_payload()
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    assert links and all("://" in l for l in links)
    for link in links:   # into the sources: the file exists
        if link.startswith(URL): assert (ROOT/re.sub("^.*/(blob|raw)/main/", "", link).partition("#")[0]).exists(), link
    pytest.importorskip("comrak", reason="in the extra [dist]")
    from readme_renderer import markdown
    shown = markdown.render(page)
    assert shown and all(f'src="{URL}/raw/main/nbs/images/{n}.jpg"' in shown for n in ("why", "demo_maps"))


def test_the_wheel_scores_where_there_is_no_repository(wheel, tmp_path):
    place, empty = tmp_path/"place", tmp_path/"empty"
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", place, wheel)
    empty.mkdir()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(place)}
    run("-c", SCORE, place, cwd=empty, env=env)
    assert (empty/"why.html").exists()

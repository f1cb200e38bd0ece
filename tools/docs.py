"""Build the documentation site from the stored notebooks into _docs/: `make docs`.

No page is executed. But where a page shows the still picture of an explorer, the site shows its frames with a slider
that moves without Python, made here by the cells of nbs/view/1_widgets.ipynb; and tutorial 8 shows a report in place
of the view, which needs a kernel. A link to a page or a heading that does not exist is an error, as is any other
warning.
"""
import base64, html, io, json, os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CONF = """
project, html_title, html_theme = "grad_kit", "grad_kit", "furo"
copyright = "2026 onwards, grad_kit contributors"
extensions, root_doc = ["myst_nb"], "contents"
nb_execution_mode, nb_merge_streams = "off", True
myst_enable_extensions = ["dollarmath"]
html_static_path = ["_static"]
myst_heading_anchors, myst_heading_slug_func = 4, "docs.anchor"
"""
PARTS = {"Start": ["start.ipynb"], "The paper": ["paper/*.ipynb"], "Tutorials": ["tutorials/*.ipynb"],
         "Without training": ["closed_form/*.ipynb"], "The model": ["model/*.ipynb"], "Data": ["data/*.ipynb"],
         "Evaluation": ["evaluate/*.ipynb"], "Interactive views": ["view/*.ipynb"],
         "Ablations, speed, clusters": ["lab/*.ipynb"],
         "Commands and basics": ["cli.ipynb", "inference.ipynb", "base/*.ipynb"],
         "Experiments": ["experiments/*.ipynb"],
         "About the project": ["related.ipynb", "promises.ipynb", "habits.ipynb"]}


def anchor(heading):
    "What a link to a heading ends in, here as in JupyterLab and on GitHub: `## At work` is `page.ipynb#At-work`"
    return heading.strip().replace(" ", "-")


# explorer -> the control that moves, and the pages whose explorers are those of nbs/view/1_widgets.ipynb
MOVES = dict(levels="level", region="level", denoising="t", weights="beta", scores="image")
LARGEST = 3 * 2**19   # bytes of a page with frames, 1.5 MiB
SAME = {"1_widgets": list(MOVES), "3_levels": ["levels", "denoising"], "9_local_contrast": ["region"]}
MOVING = """<div class="moving" data-name="{name}">
<label>{label} <input type="range" min="0" max="{last}" value="{start}" style="width: 20em"></label>
<output>{value}</output>
<p style="min-height: 3em">{said}</p>
<img alt="{name}: the picture at the slider's value" src="{picture}" style="max-width: 100%; background: white">
<script type="application/json">{frames}</script>
<script>{{
  const box = document.currentScript.parentElement;
  const frames = JSON.parse(box.querySelector("script[type='application/json']").textContent);
  box.querySelector("input").addEventListener("input", e => {{
    const [value, said, picture] = frames[e.target.value];
    box.querySelector("output").textContent = value;
    box.querySelector("p").innerHTML = said;
    box.querySelector("img").src = picture;
  }});
}}</script></div>
"""
OTHER = "The same explorer on the model of [Widgets](../view/1_widgets.ipynb), which moves here:\n\n"
STYLE = "width: 100%; height: 60em; border: 0"
REPORT = f'<iframe src="../_static/why.html" title="why: a report on trays" style="{STYLE}"></iframe>'


def frames(explorer, control):
    "[(value, text, WebP bytes)]: the explorer's picture at up to 10 values of one control, the others unchanged"
    before, out = control.value, []
    if hasattr(control, "options"): values = control.options
    else: values = np.arange(control.min, control.max + control.step / 2, control.step).tolist()
    if hasattr(control, "base"): values = [float(control.base**e) for e in values]   # a logarithmic slider
    for i in np.unique(np.linspace(0, len(values) - 1, 10).round().astype(int)):
        control.value = values[i]
        file, image = io.BytesIO(), Image.open(io.BytesIO(explorer.picture.value)).convert("RGB")
        image.thumbnail((560, 560))
        image.save(file, "webp", quality=28)
        out.append((values[i], explorer.text.value, file.getvalue()))
    control.value = before
    return out


def moving(explorer, name, control):
    "HTML of an explorer whose one control moves without a kernel"
    handle = explorer.controls[control]
    def shown(v): return f"{v:.2g}" if isinstance(v, float) else str(v)
    def url(data): return "data:image/webp;base64," + base64.b64encode(data).decode()
    found = [(shown(v), said, url(data)) for v, said, data in frames(explorer, handle)]
    start = next((i for i, f in enumerate(found) if f[0] == shown(handle.value)), 0)
    value, said, picture = found[start]
    return MOVING.format(name=name, label=html.escape(handle.description), last=len(found) - 1, start=start,
                         value=value, said=said, picture=picture, frames=json.dumps(found).replace("<", "\\u003c"))


def moving_pages():
    "{name: HTML} of the explorers that nbs/view/1_widgets.ipynb shows, as its cells make them"
    nb, names = nbformat.read(ROOT/"nbs/view/1_widgets.ipynb", 4), {}
    exec("from grad_kit.view.widgets import *", names)
    for c in nb.cells:
        shows = re.search(f"^({'|'.join(MOVES)}) = ", c.source, re.M)
        if c.cell_type == "code" and shows and not re.match(r"#\| *(export|test)", c.source): exec(c.source, names)
    return {name: moving(names[name], name, control) for name, control in MOVES.items()}


def report_page(folder):
    "A report on a few trays, as `grad_score --explain` writes it"
    from grad_kit import GRAD, Config
    from grad_kit.data.trays import tray_dataset
    from grad_kit.view.why import write_why
    small = dict(image_size=128, filters_size=128, detector_levels=(34, 68), contrastive_levels=((5,), (9,)), blur=8.)
    config = Config.preset("instant", **small)
    trays = tray_dataset(100, 40, 4, 3, size=128)
    return write_why(GRAD(config).fit(trays, progress=False), trays, folder/"why.html", most=16)


def page(path, moves):
    """A notebook as a reader wants it: without cells marked `#| hide` or `#| test_setup`, without nbdev's own lines in
    the others, and with explorers that move"""
    nb, stills = nbformat.read(path, 4), {}
    for i, c in enumerate(nb.cells):
        still = re.search(r"^(\w+)\.still\(\)$", c.source, re.M)
        if not still or still[1] not in MOVES or c.cell_type != "code": continue
        said = "" if still[1] in SAME.get(path.stem, ()) else OTHER
        shown = [] if not said else [c]
        nb.cells[i] = nbformat.v4.new_markdown_cell(said + moves[still[1]], id=c["id"] if not shown else f"{c['id']}m")
        stills[i] = shown
    nb.cells = [x for i, c in enumerate(nb.cells) for x in [*stills.get(i, []), c]]
    if path.stem == "8_why":
        for c in nb.cells:
            if not c.source.endswith("\nview"): continue
            c["outputs"] = [nbformat.v4.new_output("display_data", {"text/html": REPORT})]
    nb.cells = [c for c in nb.cells if not re.match(r"#\| *(hide|test_setup)\b", c.source)]
    for c in nb.cells:
        if c.cell_type == "code": c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
    nb.cells = [c for c in nb.cells if c.source.strip()]
    return nb


def main():
    with tempfile.TemporaryDirectory() as tmp:
        src = Path(tmp)/"src"
        shutil.copytree(ROOT/"nbs", src, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "*.ipynb", "results"))
        moves = moving_pages()
        for nb in (ROOT/"nbs").rglob("*.ipynb"):
            if ".ipynb_checkpoints" in nb.parts: continue
            nbformat.write(page(nb, moves), src/nb.relative_to(ROOT/"nbs"))
        (src/"_static").mkdir()
        report_page(src/"_static")
        tree = ""
        for name, globs in PARTS.items():
            pages = [p.relative_to(src).with_suffix("") for glob in globs for p in sorted(src.glob(glob))]
            tree += f"\n```{{toctree}}\n:caption: {name}\n\n" + "".join(f"{p}\n" for p in pages) + "```\n"
        (src/"contents.md").write_text(f"# Contents\n\n```{{toctree}}\nindex\n```\n{tree}", encoding="utf-8")
        (src/"conf.py").write_text(CONF, encoding="utf-8")
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", Path(tmp)/"trees"]
        paths = [str(ROOT/"tools"), *filter(None, [os.environ.get("PYTHONPATH")])]   # where sphinx finds `anchor`
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        status = subprocess.run([*command, src, Path(tmp)/"site"], env=env).returncode
        if status: return status
        for site_page in (Path(tmp)/"site").rglob("*.html"):
            if site_page.stat().st_size > LARGEST:
                print(f"{site_page.name} has {site_page.stat().st_size} bytes, but {LARGEST} at most are wanted")
                return 1
        shutil.rmtree(ROOT/"_docs", ignore_errors=True)
        shutil.copytree(Path(tmp)/"site", ROOT/"_docs")


if __name__ == "__main__": sys.exit(main())

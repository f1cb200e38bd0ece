"""Build the documentation site from the stored notebooks into _docs/, a folder that GitHub Pages serves: `make docs`.

No page is executed. But where a page shows the still picture of an explorer, the site shows its frames with a slider
that moves without Python, made here by the cells of nbs/view/1_widgets.ipynb and 4_draw.ipynb; and tutorial 8 shows a
report in place of the view, which needs a kernel. The reference of all public names and llms.txt are written from the
exported cells. Links for editing, Colab and Binder are made from `git_url` of settings.ini; while it is empty there are
none. A link to a page, a heading or a file that does not exist is an error, as is any other warning.
"""
import ast, base64, html, io, json, os, re, shutil, subprocess, sys, tempfile
from configparser import ConfigParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
INI = ConfigParser(delimiters=["="])
INI.read(ROOT/"settings.ini", encoding="utf-8")
VERSION, URL, BRANCH = INI["DEFAULT"]["version"], INI["DEFAULT"]["git_url"].rstrip("/"), INI["DEFAULT"]["branch"]
EDIT = dict(source_repository=URL, source_branch=BRANCH, source_directory="nbs") if URL else {}
GITHUB = re.fullmatch("https://github.com/([^/]+)/([^/]+)", URL)
SITE = "https://{}.github.io/{}/".format(*GITHUB.groups()) if GITHUB else ""   # relative where the host is unknown
CONF = f"""
project, html_title, html_theme = "grad_kit", "grad_kit {VERSION}", "furo"
copyright = "2026 onwards, grad_kit contributors"
extensions, root_doc = ["myst_nb", "sphinx.ext.githubpages"], "index"
nb_execution_mode, nb_merge_streams = "off", True
myst_enable_extensions = ["dollarmath"]
html_static_path, html_css_files, pygments_dark_style = ["_static"], ["site.css"], "github-dark"
html_show_sourcelink = html_copy_source = html_use_index = False
html_theme_options = {EDIT}
myst_heading_anchors, myst_heading_slug_func = 4, "docs.anchor"
def written(app, page, template, context, tree):   # which has no source to edit
    if page == "api": context["page_source_suffix"] = ""
def setup(app): app.connect("html-page-context", written)
"""
# a line of code has up to 120 columns: pages are wider than furo's 46 em where the window is
CSS = """
@media (min-width: 67em) {
  .content { width: min(62em, 100vw - 22em) } .sidebar-drawer { width: calc(50% - 34em) }
  article p, article li, article blockquote { max-width: 48em }
}
@media (min-width: 82em) { .content { width: min(62em, 100vw - 37em) } }
@media (max-width: 46em) { h1 { font-size: 2em } h2 { font-size: 1.5em } }
.api { list-style: none; padding-left: 1em } .api li { padding-left: 2em; text-indent: -2em; margin-top: .4em }
.api .of { margin-left: 2em } .api code { white-space: pre-wrap; overflow-wrap: anywhere }
"""
PARTS = {"The paper": ["paper/*.ipynb"], "Tutorials": ["start.ipynb", "tutorials/*.ipynb"],
         "Without training": ["closed_form/*.ipynb"], "The model": ["model/*.ipynb"], "Data": ["data/*.ipynb"],
         "Evaluation": ["evaluate/*.ipynb"], "Interactive views": ["view/*.ipynb"],
         "Ablations, speed, clusters": ["lab/*.ipynb"],
         "Commands and basics": ["api.md", "cli.ipynb", "inference.ipynb", "base/*.ipynb"],
         "Experiments": ["experiments/*.ipynb"],
         "About the project": ["related.ipynb", "promises.ipynb", "habits.ipynb"]}


def anchor(heading):
    "What a link to a heading ends in, here as in JupyterLab and on GitHub: `## At work` is `page.ipynb#At-work`"
    return heading.strip().replace(" ", "-")


# explorer -> the control that moves, and the pages whose explorers are those of nbs/view/
MOVES = dict(levels="level", region="level", denoising="t", weights="beta", scores="image")
LARGEST = 3 * 2**19   # bytes of a page, 1.5 MiB
SAME = {"1_widgets": list(MOVES), "4_draw": ["region"], "3_levels": ["levels", "denoising"],
        "9_local_contrast": ["region"]}
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


def definitions(source):
    "[(name, signature, first line of the docstring)] of what an exported cell defines; of methods `Class.method`"
    def found(n, owner=""):
        if isinstance(n, ast.Assign):
            names = [t.id for target in n.targets for t in ast.walk(target) if isinstance(t, ast.Name)]
            return [(name, name, "") for name in names]
        if not isinstance(n, (ast.FunctionDef, ast.ClassDef)): return []
        is_class, said = isinstance(n, ast.ClassDef), (ast.get_docstring(n) or "").partition("\n")[0]
        patched = any(re.match(r"patch\b", ast.unparse(d)) for d in n.decorator_list)
        if patched: owner = ast.unparse(n.args.args[0].annotation)
        inside = [n] if not is_class else [m for m in n.body if getattr(m, "name", "") == "__init__"]
        fields = [f for f in n.body if isinstance(f, ast.AnnAssign)]
        if inside: takes = re.sub(r"^(self|cls)(: [\w.]+)?(, )?", "", ast.unparse(inside[0].args))
        else: takes = ", ".join(ast.unparse(f.target) + (f"={ast.unparse(f.value)}" if f.value else "") for f in fields)
        name = f"{owner}.{n.name}" if owner else n.name
        return [(name, f"{name}({takes})", said), *(x for m in n.body if is_class for x in found(m, n.name))]
    return [x for n in ast.parse(source).body for x in found(n) if not re.search(r"(^|\.)_", x[0])]


API = "All public names", "By module of grad_kit, with signatures; each name leads to the cell that defines it."


def opening(nb):   # `# Title`, then `> one line`
    return re.match(r"# (.+)\n+(?:> (.+))?", nb.cells[0].source).groups()


def api_page(notebooks):
    "Markdown of the reference, {path: notebook} in the order of the sidebar; a public name without a place is an error"
    from grad_kit._modidx import d
    text, syms = "# {}\n> {}\n".format(*API), d["syms"]
    for path, nb in notebooks.items():
        exported = [c.source for c in nb.cells if re.match(r"#\| *export", c.source)]
        module = re.search(r"^#\| *default_exp +(\S+)", "\n".join(c.source for c in nb.cells), re.M)
        if not exported or not module: continue
        names = {x[0]: x for source in exported for x in definitions(source)}
        file = (ROOT/"grad_kit"/module[1].replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        public = ast.literal_eval(re.search(r"^__all__ = (\[.*?\])", file, re.M | re.S)[1])
        known = [k.removeprefix(f"grad_kit.{module[1]}.") for k in syms.get(f"grad_kit.{module[1]}", ())]
        lost = {*public, *(k for k in known if not re.search(r"(^|\.)_", k))} - names.keys()
        if lost: sys.exit(f"{path} exports {lost}, but the reference found no cell that defines them")
        text += f"\n## {module[1]}\n{opening(nb)[1]}\n\n<ul class=\"api\">\n"
        for name, takes, said in names.values():
            if name.partition(".")[0] not in public: continue
            said = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(said, quote=False))
            place = f"{path.with_suffix('.html')}#def.{name}"
            of = " class=of" if "." in name else ""   # a method
            text += f'<li{of}><a href="{place}"><code>{html.escape(takes)}</code></a> {said}</li>\n'
        text += "</ul>\n"
    return text


def llms(notebooks, parts):
    "llms.txt (llmstxt.org): what each page is about, and where it is"
    title, said = opening(notebooks[Path("index.ipynb")])
    text = f"# {title}\n\n> {said}\n\nVersion {VERSION}. Each page is a notebook; the package is exported from them.\n"
    for part, paths in parts.items():
        text += f"\n## {part}\n\n"
        for path in paths:
            title, said = opening(notebooks[path]) if path in notebooks else API
            text += f"- [{title}]({SITE}{path.with_suffix('.html')}): {said}\n"
    return text


class Links(HTMLParser):
    "The names of the places of a page, and where its links, pictures, frames and scripts lead"
    def __init__(self, text):
        super().__init__()
        self.places, self.to = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.places |= {v for k, v in attrs if k in ("id", "name")}
        self.to |= {v for k, v in attrs if k in ("href", "src") and v and v != "#"}


def check_site(site):
    "Lines that name what is wrong with the pages of a site: links into nothing, and pages that are too large"
    pages = {p: Links(p.read_text(encoding="utf-8")) for p in site.rglob("*.html")}
    largest, inside, wrong = max(pages, key=lambda p: p.stat().st_size), 0, []
    for path, page in pages.items():
        size = path.stat().st_size
        if size > LARGEST: wrong.append(f"{path.name} has {size} bytes, but {LARGEST} at most are wanted")
        for link in sorted(l for l in page.to if not re.match("[a-z]+:|//", l)):
            file, _, place = unquote(link).partition("#")
            inside += 1
            to = (path.parent/file.partition("?")[0]).resolve() if file else path
            if not to.is_file() or place and to in pages and place not in pages[to].places:
                wrong.append(f"{path.relative_to(site)} leads to {link}, which does not exist")
    def mib(*files): return f"{sum(p.stat().st_size for p in files) / 2**20:.2f} MiB"
    print(f"{len(pages)} pages, {mib(*filter(Path.is_file, site.rglob('*')))}, the largest {largest.name} with "
          f"{mib(largest)}; {inside} links inside the site")
    return wrong


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
    "{name: HTML} of the explorers that nbs/view/1_widgets.ipynb and 4_draw.ipynb show, as their cells make them"
    names = {}
    exec("from grad_kit.view.widgets import *; from grad_kit.view.draw import *", names)
    for c in sum((nbformat.read(ROOT/f"nbs/view/{page}.ipynb", 4).cells for page in ("1_widgets", "4_draw")), []):
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


def colab(nb, folder):
    "A notebook that begins by installing the package from the repository, beside which it runs"
    cell = f"!git clone -q --depth 1 --branch {BRANCH} {URL} source && pip install -q ./source\n%cd source/{folder}"
    nb.cells.insert(0, nbformat.v4.new_code_cell(cell, id="install"))
    return nb


def elsewhere(path):
    "A line of links that open a page in Colab and on Binder, None where it has none"
    if not GITHUB or path.parts[0] not in ("start.ipynb", "tutorials"): return None
    name = "/".join(GITHUB.groups())
    return (f"[Open in Colab](https://colab.research.google.com/github/{name}/blob/gh-pages/colab/{path}) or "
            f"[on Binder](https://mybinder.org/v2/gh/{name}/{BRANCH}?urlpath=lab/tree/nbs/{path})")


def page(path, nb, moves):
    """A notebook as a reader wants it: without cells marked `#| hide` or `#| test_setup`, without nbdev's own lines in
    the others, with explorers that move, and a place `def.NAME` before the cell that defines an exported name"""
    stills = {}
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
    if line := elsewhere(path): nb.cells.insert(1, nbformat.v4.new_markdown_cell(line, id="elsewhere"))
    cells = []
    for c in nb.cells:
        if re.match(r"#\| *export\b", c.source) and (names := [name for name, _, _ in definitions(c.source)]):
            places = "".join(f'<div id="def.{name}"></div>' for name in names)
            cells.append(nbformat.v4.new_markdown_cell(places, id=f"{c['id']}d"))
        if c.cell_type == "code": c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
        if c.source.strip(): cells.append(c)
    nb.cells = cells
    return nb


def main():
    nbs = ROOT/"nbs"
    def in_order(p): return [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.as_posix())]   # 2_ before 10_
    def found(glob):
        pages = sorted(nbs.glob(glob), key=in_order)
        return [p.relative_to(nbs) for p in pages if ".ipynb_checkpoints" not in p.parts]
    parts = {part: [p for glob in globs for p in found(glob) or [Path(glob)]] for part, globs in PARTS.items()}
    paths = dict.fromkeys(p for p in [*sum(parts.values(), []), *found("**/*.ipynb")] if p.suffix == ".ipynb")
    def notebooks(): return {p: nbformat.read(nbs/p, 4) for p in paths}
    with tempfile.TemporaryDirectory() as tmp:
        src, site = Path(tmp).resolve()/"src", Path(tmp).resolve()/"site"
        shutil.copytree(nbs, src, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "*.ipynb", "results"))
        (src/"_static").mkdir()
        moves = moving_pages()
        report_page(src/"_static")
        (src/"_static/site.css").write_text(CSS, encoding="utf-8")
        (src/"api.md").write_text(api_page(notebooks()), encoding="utf-8")
        (src/"conf.py").write_text(CONF, encoding="utf-8")
        trees = [f"```{{toctree}}\n:hidden:\n:caption: {part}\n\n" + "".join(f"{p.with_suffix('')}\n" for p in some)
                 for part, some in parts.items()]
        for path, nb in notebooks().items():
            if path.name == "index.ipynb": nb.cells.append(nbformat.v4.new_markdown_cell("```\n".join([*trees, ""])))
            nbformat.write(page(path, nb, moves), src/path)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", Path(tmp)/"trees"]
        places = [str(ROOT/"tools"), *filter(None, [os.environ.get("PYTHONPATH")])]   # where sphinx finds `anchor`
        env = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
        status = subprocess.run([*command, src, site], env=env).returncode
        if status: return status
        (site/"llms.txt").write_text(llms(notebooks(), parts), encoding="utf-8")
        for path, nb in notebooks().items():
            if not elsewhere(path): continue
            (site/"colab"/path.parent).mkdir(parents=True, exist_ok=True)
            nbformat.write(colab(nb, ("nbs"/path).parent), site/"colab"/path)
        if wrong := check_site(site): return "\n".join(wrong)
        shutil.rmtree(ROOT/"_docs", ignore_errors=True)
        shutil.copytree(site, ROOT/"_docs")


if __name__ == "__main__": sys.exit(main())

"""How the project is laid out and how it reads, in numbers.

    python tools/measure_style.py            the figures
    python tools/measure_style.py --list     and where each long line, long cell, large module and complex function is
"""
import ast, json, re, subprocess, sys
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT/"grad_kit"


def cells():
    "(notebook, id, kind, source) of every cell"
    for path in sorted((ROOT/"nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts: continue
        name = path.relative_to(ROOT/"nbs").as_posix()
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            yield name, c["id"], c["cell_type"], "".join(c["source"])


def exported(source): return re.match(r"#\|\s*export\b", source) is not None


def is_private(name): return name.startswith("_") and not name.endswith("__")


def modules():
    "{path from the package's folder: text} of every module and script that a person wrote"
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js")]
    return {f.relative_to(PACKAGE).as_posix(): f.read_text(encoding="utf-8")
            for f in sorted(files) if f.name != "_modidx.py"}


def private_uses(texts):
    "[(module, name)]: private names of other modules that a module imports or reads"
    found = []
    for module, text in texts.items():
        if not module.endswith(".py"): continue
        tree = ast.parse(text)
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        imports = [n for n in imports if n.level or (n.module or "").startswith("grad_kit")]
        found += [(module, a.name) for n in imports for a in n.names if is_private(a.name)]
        names = {a.asname or a.name for n in imports for a in n.names} | {"model"}
        own = {"self", "cls"} | ({"model", "new"} if module == "model/grad.py" else set())   # it holds `GRAD` itself
        for n in ast.walk(tree):
            if not isinstance(n, ast.Attribute) or not is_private(n.attr): continue
            name = n.value.id if isinstance(n.value, ast.Name) else None
            if name in names - own: found.append((module, ast.unparse(n)))
    return found


def functions(texts):
    "[(module, name)] of all functions and methods; those within functions do not count"
    found = []
    for module, text in texts.items():
        if not module.endswith(".py"): continue
        tree = ast.parse(text)
        bodies = [tree.body, *(n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]
        found += [(module, n.name) for body in bodies for n in body if isinstance(n, ast.FunctionDef)]
    return found


def complexities():
    "[(cyclomatic complexity, module, line)] of all functions, as ruff's mccabe counts"
    command = [Path(sys.executable).parent/"ruff", "check", PACKAGE, "--isolated", "--select", "C901",
               "--config", "lint.mccabe.max-complexity=0", "--output-format", "json"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    return [(int(re.search(r"\((\d+) > 0\)", s["message"])[1]), Path(s["filename"]).relative_to(PACKAGE).as_posix(),
             s["location"]["row"]) for s in said]


def import_order():
    "(modules that import each other in a circle, imports up the wings), as the contracts in pyproject.toml have them"
    import grimp
    from importlib.util import find_spec
    if find_spec("tomllib"): import tomllib
    else: import tomli as tomllib   # Python 3.10; import-linter requires it
    contracts = tomllib.loads((ROOT/"pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    graph = grimp.build_graph("grad_kit", cache_dir=None)
    rank = {}
    for c in contracts:
        for i, layer in enumerate(reversed(c.get("layers", ()))):
            for container in c.get("containers", ()): rank[f"{container}.{layer.strip('()')}"] = i
    def ranks(module):
        parts = module.split(".")
        return [rank.get(".".join(parts[:k]), -1) for k in range(2, len(parts) + 1)]
    climbs = [(a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)
              if b != "grad_kit" and ranks(a) < ranks(b)]
    circles = [m for m in graph.modules if m in graph.find_upstream_modules(m)]
    return circles, climbs


def measure():
    "The figures, and where what is too long or too complex is"
    lines, long_lines, lengths, equations, pages = 0, [], {}, 0, {}
    for name, id, kind, source in cells():
        pages[name] = pages.get(name, 0) + 1
        equations += len(re.findall(r"\$\$.+?\$\$", source, re.S)) if kind == "markdown" else 0
        if kind != "code": continue
        lines += len(source.splitlines())
        long_lines += [(name, id, len(x), exported(source)) for x in source.splitlines() if len(x) > 120]
        if exported(source): lengths[name, id] = len(source.strip().splitlines()) - 1
    texts = modules()
    counts = {m: len(t.splitlines()) for m, t in texts.items()}
    wings = {}
    for m, n in counts.items(): wings[m.split("/")[0]] = wings.get(m.split("/")[0], 0) + n
    all_functions, complexity, (circles, climbs) = functions(texts), complexities(), import_order()
    figures = dict(
        lines=lines, long=len(long_lines), long_exported=sum(e for *_, e in long_lines), cells=len(lengths),
        median_cell=median(lengths.values()), longest_cell=max(lengths.values()),
        cells_over_40=sum(n > 40 for n in lengths.values()), equations=equations,
        private=len(private_uses(texts)), modules=len(counts), package_lines=sum(counts.values()), wings=wings,
        over_450=sum(n > 450 for n in counts.values()), paper_share=wings["paper"] / sum(counts.values()),
        paper_cells=sum(n for name, n in pages.items() if name.startswith("paper/")),
        private_share=mean(is_private(name) for _, name in all_functions), functions=len(all_functions),
        complex=sum(c > 10 for c, *_ in complexity), mean_complexity=mean(c for c, *_ in complexity),
        circles=len(circles), climbs=len(climbs))
    details = [*(f"{name} {id}: a line of {n} characters" for name, id, n, _ in long_lines),
               *(f"{name} {id}: a cell of {n} lines" for (name, id), n in lengths.items() if n > 40),
               *(f"{m}: {n} lines" for m, n in counts.items() if n > 450),
               *(f"{m}:{row}: complexity {c}" for c, m, row in sorted(complexity, reverse=True) if c > 10),
               *(f"{m}: private {name}" for m, name in private_uses(texts)),
               *(f"{m}: in a circle of imports" for m in circles), *(f"{a} imports {b}" for a, b in climbs)]
    return figures, details


def main():
    f, details = measure()
    wings = ", ".join(f"{w.removesuffix('.py').removeprefix('__')} {n}" for w, n in f["wings"].items() if n > 20)
    print(f"{f['modules']} modules, {f['package_lines']} lines ({wings}); {f['over_450']} modules over 450 lines\n"
          f"paper: {f['paper_share']:.1%} of all lines, {f['paper_cells']} cells\n"
          f"{f['circles']} circles of imports, {f['climbs']} imports up the order\n"
          f"{f['functions']} functions, {f['private_share']:.0%} private; complexity {f['mean_complexity']:.2f} on "
          f"average, over 10 in {f['complex']}; {f['private']} uses of another module's private names\n"
          f"{f['cells']} exported cells: median {f['median_cell']:g} lines, longest {f['longest_cell']}, "
          f"{f['cells_over_40']} over 40; {f['equations']} display equations\n"
          f"{f['lines']} lines of code in the notebooks, {f['long']} longer than 120 characters, "
          f"{f['long_exported']} of them exported")
    if "--list" in sys.argv[1:]: print("\n".join(details))


if __name__ == "__main__": main()

"""How the notebooks read, in numbers: long lines, long cells, equations, private names of other rooms.

    python tools/measure_style.py            the figures
    python tools/measure_style.py --list     and where each long line and long cell stands
"""
import ast, json, re, sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]


def cells():
    "(notebook, id, kind, source) of every cell"
    for path in sorted((ROOT/"nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts: continue
        name = path.relative_to(ROOT/"nbs").as_posix()
        for c in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            yield name, c["id"], c["cell_type"], "".join(c["source"])


def exported(source): return re.match(r"#\|\s*export\b", source) is not None


def private_uses():
    "[(file, name)]: private names of other rooms that a module of the package uses"
    found = []
    for path in sorted((ROOT/"grad_kit").glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        imports = [n for n in imports if n.level or (n.module or "").startswith("grad_kit")]
        rooms = {a.asname or a.name for n in imports for a in n.names}
        found += [(path.name, a.name) for n in imports for a in n.names if is_private(a.name)]
        own = {"self", "cls"} | ({"model", "new"} if path.stem == "grad" else set())   # that room holds `GRAD` itself
        for n in ast.walk(tree):
            if not isinstance(n, ast.Attribute) or not is_private(n.attr): continue
            name = n.value.id if isinstance(n.value, ast.Name) else None
            if name is not None and (name in own or name not in rooms | {"model", "new"}): continue
            if ast.unparse(n).startswith("torch."): continue
            found.append((path.name, ast.unparse(n)))
    return found


def is_private(name): return name.startswith("_") and not name.endswith("__")


def measure():
    "The figures, and where what is too long stands"
    lines, long_lines, lengths, equations = 0, [], {}, 0
    for name, id, kind, source in cells():
        equations += len(re.findall(r"\$\$.+?\$\$", source, re.S)) if kind == "markdown" else 0
        if kind != "code": continue
        for line in source.splitlines():
            lines += 1
            if len(line) > 120: long_lines.append((name, id, len(line), exported(source)))
        if exported(source): lengths[name, id] = len(source.strip().splitlines()) - 1
    long_cells = {k: n for k, n in lengths.items() if n > 40}
    figures = dict(lines=lines, long=len(long_lines), long_share=len(long_lines) / lines,
                   longer_than_160=sum(n > 160 for _, _, n, _ in long_lines) / lines,
                   long_exported=sum(e for *_, e in long_lines), cells=len(lengths),
                   median_cell=median(lengths.values()), longest_cell=max(lengths.values()),
                   cells_over_40=len(long_cells),
                   equations=equations, private=len(private_uses()))
    return figures, long_lines, long_cells


if __name__ == "__main__":
    figures, long_lines, long_cells = measure()
    print(f"{figures['lines']} lines of code in the notebooks, {figures['long']} longer than 120 characters "
          f"({figures['long_share']:.1%}; {figures['longer_than_160']:.1%} longer than 160), "
          f"{figures['long_exported']} of them exported")
    print(f"{figures['cells']} exported cells: median {figures['median_cell']:g} lines, "
          f"longest {figures['longest_cell']}, {figures['cells_over_40']} over 40")
    print(f"{figures['equations']} display equations; {figures['private']} uses of another room's private names")
    if "--list" in sys.argv[1:]:
        for name, id, n, e in long_lines: print(f"{name} {id}: {n} characters{', exported' if e else ''}")
        for (name, id), n in sorted(long_cells.items(), key=lambda x: -x[1]): print(f"{name} {id}: {n} lines")
        for file, name in private_uses(): print(f"{file}: {name}")

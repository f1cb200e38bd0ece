"""Bring modules, tests and notebooks in step, and fail if they were not.

Exports the modules, the tests and the README from the notebooks, cleans the notebooks, and compares the files with
what was there before. It asks nothing of git: uncommitted work passes as long as what is exported is what the
notebooks say.
"""
import hashlib, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def digests():
    "{path: hash} of all that the commands may write"
    files = [f for f in [ROOT/"README.md"] if f.exists()]
    files += [f for d in ("grad_kit", "tests", "nbs") for ext in ("*.py", "*.ipynb") for f in (ROOT/d).rglob(ext)]
    return {f.relative_to(ROOT).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
            for f in files if ".ipynb_checkpoints" not in f.parts}


def main():
    bin, before = Path(sys.executable).parent, digests()
    for command in ([bin/"nbdev_export"], [sys.executable, ROOT/"tools/nb_tests.py"],
                    [sys.executable, ROOT/"tools/readme.py"], [bin/"nbdev_clean"]):
        if done := subprocess.run(command, cwd=ROOT).returncode: return done
    after = digests()
    if not (changed := sorted(f for f in before | after if before.get(f) != after.get(f))): return
    def state(f): return "was missing" if f not in before else "was left over" if f not in after else "was out of step"
    return ("Notebooks and exported files did not agree. They do now; look at these files, then run it again:\n"
            + "\n".join(f"  {f} {state(f)}" for f in changed))


if __name__ == "__main__": sys.exit(main())

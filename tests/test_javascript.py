"""The JavaScript of the package, which is written by hand: no syntax errors, nothing unused, a linter where it is there.

Written by hand, as test_browser.py.
"""
import re, shutil, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT/"grad_kit/view/static/why.js"
OXLINT = shutil.which("oxlint", path=str(Path(sys.executable).parent)) or shutil.which("oxlint")
NODE = shutil.which("node")


def test_the_module_is_installed_with_the_package():
    from grad_kit.view.why import SCRIPT as found
    assert Path(found).samefile(SCRIPT)
    assert "recursive-include grad_kit/view/static *.js" in (ROOT/"MANIFEST.in").read_text()


def test_every_function_is_used_and_no_line_is_long():
    text = SCRIPT.read_text(encoding="utf-8")
    code = re.sub(r"^\s*//.*$", "", text, flags=re.M)
    names = re.findall(r"^\s*(?:async )?(?:function|const) (\w+)", code, re.M)
    assert len(names) > 20 and [n for n in names if len(re.findall(rf"\b{n}\b", code)) < 2] == []
    assert [line for line in text.splitlines() if len(line) > 120] == []


@pytest.mark.skipif(not NODE, reason="node is not installed")
def test_node_finds_no_syntax_error():
    found = subprocess.run([NODE, "--check", "--input-type=module"], input=SCRIPT.read_bytes(), capture_output=True)
    assert found.returncode == 0, found.stderr.decode()


@pytest.mark.skipif(not OXLINT, reason="oxlint is not installed: pip install oxlint")
def test_the_linter_finds_nothing():
    command = [OXLINT, "--deny-warnings", "-D", "correctness", "-D", "suspicious", SCRIPT]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout

"""Puts the commands that settings.ini lists as `dev_scripts` beside this Python: what nbdev names with hyphens, with
underscores. `make env` runs it, so that an installed grad_kit brings no command of nbdev's.

nbdev_test starts as many processes as there are cores, and PyTorch as many threads in each, which then wait for each
other: on two cores all notebooks took 89 s with one thread a process, and were not done after 600 s with two. So
these commands set OMP_NUM_THREADS=1 unless you set it"""
import sys
from configparser import ConfigParser
from pathlib import Path

from pip._vendor.distlib.scripts import ScriptMaker

ini = ConfigParser(delimiters=["="])
ini.read(Path(__file__).resolve().parents[1]/"settings.ini", encoding="utf-8")
maker = ScriptMaker(None, str(Path(sys.executable).parent))
maker.script_template = 'import os\nos.environ.setdefault("OMP_NUM_THREADS", "1")\n' + maker.script_template
maker.variants, maker.clobber, maker.executable = {""}, True, sys.executable
maker.make_multiple([script.replace("=", " = ") for script in ini["DEFAULT"]["dev_scripts"].split()])

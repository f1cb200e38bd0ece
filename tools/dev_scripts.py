"""Puts the commands that settings.ini lists as `dev_scripts` beside this Python: what nbdev names with hyphens, with
underscores. `make env` runs it, so that an installed grad_kit brings no command of nbdev's"""
import sys
from configparser import ConfigParser
from pathlib import Path

from pip._vendor.distlib.scripts import ScriptMaker

ini = ConfigParser(delimiters=["="])
ini.read(Path(__file__).resolve().parents[1]/"settings.ini", encoding="utf-8")
maker = ScriptMaker(None, str(Path(sys.executable).parent))
maker.variants, maker.clobber, maker.executable = {""}, True, sys.executable
maker.make_multiple([script.replace("=", " = ") for script in ini["DEFAULT"]["dev_scripts"].split()])

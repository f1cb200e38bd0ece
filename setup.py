"Hands the package metadata in settings.ini to setuptools; there is nothing to edit here"
from configparser import ConfigParser
from pathlib import Path

import setuptools

here = Path(__file__).resolve().parent
ini = ConfigParser(delimiters=["="])
ini.read(here/"settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
readme = here/"README.md"

setuptools.setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"],
    keywords=cfg["keywords"].split(),
    license={"apache2": "Apache-2.0"}[cfg["license"]],
    classifiers=["Programming Language :: Python :: 3", f"Intended Audience :: {cfg['audience']}"],
    packages=setuptools.find_packages(include=[cfg["lib_path"], cfg["lib_path"] + ".*"]),
    include_package_data=True,
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={k.removesuffix("_requirements"): cfg[k].split() for k in cfg if k.endswith("_requirements")},
    entry_points={"console_scripts": cfg["console_scripts"].split(),
                  "nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
    zip_safe=False,
)

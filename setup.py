"Hands the package metadata in settings.ini to setuptools; there is nothing to edit here"
import re
from configparser import ConfigParser
from pathlib import Path

import setuptools

here = Path(__file__).resolve().parent
ini = ConfigParser(delimiters=["="])
ini.read(here/"settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]
readme = here/"README.md"
url = cfg["git_url"].rstrip("/")
extras = {k.removesuffix("_requirements"): cfg[k].split() for k in cfg if k.endswith("_requirements")}
extras["all"] = sorted({r for name in ("lab", "export", "scale", "heic") for r in extras[name]})


def page(text):
    "README for a package page: its pictures and links lead to `git_url`; without one, no pictures, and links are text"
    def linked(m):
        picture, said, target = m.groups()
        if "://" in target: return m[0]
        if not url: return said
        return f"{picture}[{said}]({url}/{'raw' if picture else 'blob'}/{cfg['branch']}/{target})"
    if not url: text = re.sub(r"## See it.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)   # pictures
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", linked, text)


setuptools.setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=page(readme.read_text(encoding="utf-8")) if readme.exists() else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"],
    keywords=cfg["keywords"].split(),
    license_expression={"apache2": "Apache-2.0"}[cfg["license"]],
    classifiers=["Development Status :: 3 - Alpha", f"Intended Audience :: {cfg['audience']}",
                 *(f"Programming Language :: Python :: {v}" for v in ("3", "3.10", "3.11", "3.12", "3.13")),
                 "Topic :: Scientific/Engineering :: Image Recognition", "Framework :: Jupyter"],
    project_urls={"Source": url, "Changes": f"{url}/blob/{cfg['branch']}/CHANGELOG.md"} if url else {},
    packages=setuptools.find_packages(include=[cfg["lib_path"], cfg["lib_path"] + ".*"]),
    include_package_data=True,
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split(),
                  "nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
    zip_safe=False,
)

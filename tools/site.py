"""Lays out what the site is made of: `python tools/site.py` fills build/site-source, `mkdocs build` makes pages of it.

README, guides and notebooks keep their places, so that the links between them hold. Links to other files of the
repository are shown as text: the site has pages alone. `nav` follows the order of the rooms."""

import json
import os.path
import re
import shutil
from pathlib import Path

import yaml

from rts_nb.core.page_parts import formula_svg

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build" / "site-source"
GUIDES = {
    "Editing on a VM": "docs/vm.md",
    "Troubleshooting": "docs/troubleshooting.md",
    "Glossary": "docs/glossary.md",
    "On a GPU, as measured": "docs/gpu.md",
    "On public images, as measured": "docs/public.md",
    "Maps of thousands of scenes, as measured": "docs/scale.md",
    "Tables of a million tiles, as measured": "docs/scale_tables.md",
    "Beside plain ways and other libraries, as measured": "docs/benchmarks.md",
    "Kills and other faults, as measured": "docs/faults.md",
    "The container, as measured": "docs/container.md",
    "The newcomer's path, as typed": "docs/newcomer.md",
    "Contributing": "CONTRIBUTING.md",
    "Changes": "CHANGELOG.md",
}
FOLDERS = [  # in the order in which data flows
    *"core tiles scores networks settings predict runs training".split(),
    *"calibration mapping reviewing suspects experiments".split(),
]
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$", re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    "All files that become pages, relative to the root."
    notebooks = [path.relative_to(ROOT) for path in sorted((ROOT / "nbs").rglob("*.ipynb"))]
    notebooks = [path for path in notebooks if path.name != "index.ipynb" and ".ipynb_checkpoints" not in path.parts]
    return [Path("README.md"), *map(Path, GUIDES.values()), *notebooks]


def page_links(text: str, page: Path, known: set[Path]) -> str:
    "Markdown whose links lead to pages of the site; other files of the repository are named, not linked."

    def replaced(match: re.Match) -> str:
        words, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        file = target.split("#")[0]
        place = Path(os.path.normpath(page.parent / file))
        if place in known or place.suffix in (".png", ".jpg"):
            return match[0]
        return words if words.startswith("`") or " " in words else f"`{words}`"

    return LINK.sub(replaced, text)


def draw_formulas(text: str) -> str:
    "Markdown with its formulas as pictures: nothing is loaded from a network to set them."

    def drawn(match: re.Match) -> str:
        return str(formula_svg(match["block"] or match["inline"], bool(match["block"])))

    parts = re.split(r"(`[^`]*`)", text)  # every other part is code, where $ names a variable
    return "".join(part if k % 2 else FORMULA.sub(drawn, part) for k, part in enumerate(parts))


def copy_notebook(page: Path, known: set[Path]) -> str:
    "Copies a notebook whose prose links to pages alone; its title."
    notebook = json.loads((ROOT / page).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = page_links("".join(cell["source"]), page, known)
            cell["source"] = draw_formulas(text).splitlines(keepends=True)
    target = SOURCE / page
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(notebook), encoding="utf-8")
    return "".join(notebook["cells"][0]["source"]).splitlines()[0].lstrip("# ")


def navigation(titles: dict[Path, str]) -> list[dict]:
    "The menu: README, reports, guides, and the rooms by folder; SystemExit where it would leave a folder out."
    left_out = {path.parts[1] for path in titles if path.parts[0] == "nbs" and len(path.parts) == 3} - set(FOLDERS)
    if left_out:
        raise SystemExit(f"tools/site.py: FOLDERS lacks {', '.join(sorted(left_out))}; put it where its data are made")
    reports = [path for path in titles if path.parent == Path("nbs")]
    rooms = {name: [path for path in titles if path.parent == Path("nbs", name)] for name in FOLDERS}
    return [
        {"rts_nb": "index.md"},
        {"Reports": [{titles[path]: str(path)} for path in reports]},
        {"Guides": [{name: path} for name, path in GUIDES.items()]},
        {"Rooms": [{name: [{titles[path]: str(path)} for path in found]} for name, found in rooms.items()]},
    ]


def main() -> None:
    known = set(pages())
    shutil.rmtree(SOURCE, ignore_errors=True)
    for pictures in ("nbs/images", "docs/newcomer"):
        shutil.copytree(ROOT / pictures, SOURCE / pictures)
    titles = {}
    for page in pages():
        if page.suffix == ".ipynb":
            titles[page] = copy_notebook(page, known)
            continue
        target = SOURCE / ("index.md" if page.name == "README.md" else page)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = page_links((ROOT / page).read_text(encoding="utf-8"), page, known)
        target.write_text(text.replace("](README.md", "](index.md"), encoding="utf-8")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    config |= dict(nav=navigation(titles), docs_dir=str(SOURCE), site_dir=str(ROOT / "build" / "site"))
    (ROOT / "build" / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What MkDocs needs beyond the pages, which stay as GitHub shows them (mkdocs.yml names this file).

* Sections, order, titles and descriptions of pages are those of docs/README.md.
* Pages outside docs/ that a page links (model cards, CONTRIBUTING.md) become pages of the site. Links to other files of
  the repository lead to its host if REPOSITORY_URL names one; without it, only their text stays.
* The notebook becomes a page, with its stored outputs.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from posixpath import relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
ELSEWHERE = "repository"  # folder of the site for pages from outside docs/
# Code in fences and spans, which is left alone, or a link or picture.
_LINK = re.compile(r"^```.*?^```|`[^`\n]*`|(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)", re.MULTILINE | re.DOTALL)
# Blocks of code, or code within text.
_CODE = re.compile(r"<pre.*?</pre>|(<code>)([^<]*)(</code>)", re.DOTALL)
LONGEST_WHOLE, LONGEST_NAME = 32, 20  # characters that fit on a phone, and into a column of three
_ENTRY = re.compile(r"^\* \[([^\]]+)\]\(([^)#\s]+)\)(?:: (.+))?$", re.MULTILINE)


def sections() -> Iterator[tuple[str, list[tuple[str, Path, str]]]]:
    """Headings of docs/README.md that list pages, with title, file and description of each page."""
    for part in INDEX.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        entries = [(name, (DOCS / target).resolve(), about or name) for name, target, about in _ENTRY.findall(text)]
        if entries:
            yield title, entries


def links(text: str) -> list[str]:
    """The relative targets that Markdown links outside code, without anchors."""
    targets = [match[3] for match in _LINK.finditer(text) if match[3]]
    return [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]


@cache
def pages_elsewhere() -> set[Path]:
    """Markdown files outside docs/ that pages in docs/ link; found once for each build, since it reads all of them."""
    found = {(DOCS / target).resolve() for page in DOCS.glob("*.md") for target in links(page.read_text("utf-8"))}
    return {file for file in found if file.suffix == ".md" and DOCS not in file.parents}


def place(file: Path) -> str | None:
    """The name of a file of the repository among the site's sources; None if the site does not hold it."""
    if file == DOCS / "notebook.ipynb":
        return "notebook.md"
    if DOCS in file.parents:
        return file.relative_to(DOCS).as_posix()
    return f"{ELSEWHERE}/{file.relative_to(ROOT).as_posix()}" if file in pages_elsewhere() else None


def relinked(text: str, source: Path, repository: str | None) -> str:
    """Markdown of ``source`` with links as the site needs them. ``repository``: address of the hosted repository."""
    here = Path(place(source) or "").parent.as_posix()

    def replace(match: re.Match[str]) -> str:
        mark, label, target = match[1], match[2], match[3]
        if target is None or "://" in target or target.startswith("#"):
            return match[0]
        path, hash_, anchor = target.partition("#")
        file = (source.parent / path).resolve()
        if not file.exists():
            return match[0]  # MkDocs reports it
        label = _LINK.sub(replace, label)  # a picture as a link
        found = place(file)
        if found is not None:
            return f"{mark}[{label}]({relpath(found, here)}{hash_}{anchor})"
        if repository:
            return f"[{label}]({repository.rstrip('/')}/blob/main/{file.relative_to(ROOT).as_posix()}{hash_}{anchor})"
        return label

    return _LINK.sub(replace, text)


def notebook_page(file: Path) -> tuple[str, dict[str, bytes]]:
    """Cells and stored outputs of a notebook as Markdown, and its pictures by their place among the sources."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        printed = ""
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/jpeg" in data:
                place = f"images/{file.stem}_{len(pictures) + 1}.jpg"
                pictures[place] = base64.b64decode("".join(data["image/jpeg"]))
                parts.append(f"![What the code above shows]({place})")
            else:
                printed += "".join(data["text/plain"]).rstrip() + "\n"
        if printed:
            parts.append(f"```text\n{printed}```")
    parts.append(f'<a href="{file.name}" download>The notebook as a file</a>')
    return "\n\n".join(parts) + "\n", pictures


def github_slug(title: str, separator: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", separator)


def well_broken(html: str) -> str:
    """HTML whose code breaks between words, not at the hyphens of --max-upload-mb; long words at dots and the like."""

    def mark(match: re.Match[str]) -> str:
        word = match[0]
        if "-" in word and len(word) <= LONGEST_WHOLE:
            return f'<span class="whole">{word}</span>'
        return word if len(word) <= LONGEST_NAME else re.sub(r"(?<=[\w}][._/,:])(?=[\w$])", "<wbr>", word)

    def replace(match: re.Match[str]) -> str:
        return match[0] if match[1] is None else match[1] + re.sub(r"\S+", mark, match[2]) + match[3]

    return _CODE.sub(replace, html)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    pages_elsewhere.cache_clear()
    config.nav = [
        {"Home": INDEX.name},
        *({title: [{name: place(file)} for name, file, _ in entries]} for title, entries in sections()),
    ]
    config.mdx_configs["toc"] = {**config.mdx_configs.get("toc", {}), "slugify": github_slug}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    add = partial(File.generated, config)
    text, pictures = notebook_page(DOCS / "notebook.ipynb")
    files.append(add("notebook.md", content=text))
    for name, content in pictures.items():
        files.append(add(name, content=content))
    listed = {file for _, entries in sections() for _, file, _ in entries}
    for file in pages_elsewhere():
        inclusion = InclusionLevel.INCLUDED if file in listed else InclusionLevel.NOT_IN_NAV
        files.append(add(place(file) or "", content=file.read_text(encoding="utf-8"), inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    uri = page.file.src_uri
    source = DOCS / uri.replace("notebook.md", "notebook.ipynb")
    if uri.startswith(f"{ELSEWHERE}/"):
        source = ROOT / uri.removeprefix(f"{ELSEWHERE}/")
    described = {place(file): about for _, entries in sections() for _, file, about in entries}
    if uri in described:
        page.meta["description"] = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", described[uri]).replace("`", "")
    if uri == INDEX.name:
        page.meta["hide"] = ["navigation"]
    return relinked(markdown, source, config.repo_url)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return well_broken(html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')  # which Material does not name

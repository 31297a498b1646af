"""The documentation: its site builds without a warning and loads nothing from elsewhere; its commands exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import storerec
from storerec.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_it_has_every_exported_name(site):
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    names = set(re.findall(r'id="storerec\.[\w.]*?(\w+)"', text))
    assert not set(storerec.__all__) - {"__version__"} - names


def test_it_loads_nothing_from_another_host(site):
    """Links to other hosts are a reader's choice; scripts, styles, fonts and pictures are not."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        tags = re.findall(r"<(?:script|img|iframe|source|video|audio|object|embed|link)\b[^>]*>", text)
        for tag in tags:
            if tag.startswith("<link") and not re.search(r"stylesheet|preload|preconnect|icon|manifest|prefetch", tag):
                continue  # a canonical address and the next page are not loaded
            assert not re.search(r"(?:src|href|srcset|data)\s*=\s*[\"']?\s*(?:https?:)?//", tag), f"{page.name}: {tag}"
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", text), page.name
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(?:@import\s*|url\()\s*[\"']?(?:https?:)?//", text), sheet.name


def test_every_picture_of_the_pages_is_there(site):
    for page in site.rglob("*.html"):
        for source in re.findall(r'<img\b[^>]*?\bsrc="([^"]+)"', page.read_text(encoding="utf-8")):
            assert source.startswith("data:") or (page.parent / source).is_file(), f"{page.name}: {source}"


def blocks(page, *languages):
    """Contents of a page's fenced blocks in these languages ("" for none)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    return [text for language, text in found if language in languages]


def commands():
    """(page, words) of each ``storerec`` command in the fenced blocks of the pages."""
    for page in PAGES:
        for block in blocks(page, "", "sh", "bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"\s*(?:\$ )?(?:\w+=\S+ )*(storerec .*)", line)
                if found:
                    yield page, shlex.split(found.group(1), comments=True)


def verbs():
    """The program's verbs, each with the names of its options."""
    group = typer.main.get_command(app)
    return {
        name: {flag for option in verb.params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}
        for name, verb in group.commands.items()
    }


def test_commands_in_the_pages_have_verbs_and_options_that_exist():
    known, seen = verbs(), set()
    for page, words in commands():
        name = words[1]
        if name.startswith("-"):
            assert name in ("--help", "--version"), f"{page.name}: {words}"
            continue
        assert name in known, f"{page.name}: no verb '{name}'"
        options = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert not options - known[name], f"{page.name}: {shlex.join(words)}"
        seen.add(name)
    # the check itself: most verbs are in the pages, the tutorial's among them
    assert {"fit", "evaluate", "recommend", "inspect", "add-items", "remove-items", "serve", "export"} <= seen


def test_commands_of_the_pages_are_taken_by_the_parser():
    """Their arguments are complete, as the program reads them, without running anything."""
    group = typer.main.get_command(app)
    for page, words in commands():
        if words[1].startswith("-") or "--help" in words:
            continue
        verb = group.commands[words[1]]
        try:
            verb.make_context(words[1], words[2:])
        except Exception as error:
            raise AssertionError(f"{page.name}: {shlex.join(words)}: {error}") from error


def test_python_of_the_pages_is_python():
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, str(page), "exec")

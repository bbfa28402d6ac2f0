"""README and its further pages: their Python is run; commands are ones, settings and links exist."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import ncl_jax
from ncl_jax import command_line
from ncl_jax.study import plan

ROOT = Path(__file__).parents[1]
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *ROOT.glob("[a-z]*/*/README.md"))}
README = PAGES[ROOT / "README.md"]


def _commands():
    """The words of every `ncl-jax COMMAND ...` in the pages; `...` stands for what a reader fills in."""
    text = "\n".join(PAGES.values())
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.S)).replace("\\\n", " ").splitlines()
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    for line in [*blocks, *(" ".join(span.split()) for span in spans)]:
        found = re.search(r'(?<!")ncl-jax ([a-z]+ .*)', line)
        if found:
            command = re.split("[&;]", found[1].replace("[", "").replace("]", ""))[0]
            yield re.sub(r"\$\w+", "0", command.replace("…", "..."))


@pytest.mark.parametrize("command", sorted(set(_commands())))
def test_a_command(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    ncl_jax.register()
    arguments, rest = command_line.parser().parse_known_args(shlex.split(command, comments=True))
    overrides = command_line.overrides([flag for flag in rest if flag != "..."])
    config = getattr(arguments, "config", None)
    if config is not None and config.startswith("configs/") and "NAME" not in config:
        load = plan.load if arguments.command == "study" else ncl_jax.load_config
        load(config, overrides)


def test_it_has_commands():
    assert len(set(_commands())) > 30


def _anchors(page: Path) -> set[str]:
    """What GitHub lets one link to: the headings in small letters, without punctuation, joined by hyphens."""
    headings = re.findall(r"^#+ (.*)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]) if "://" not in link]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_in_your_own_code(smoke_data, tmp_path, monkeypatch):
    section = README.split("## In your own code\n")[1].split("\n## ")[0]
    parts, whole = re.findall(r"```python\n(.*?)```", section, re.S)
    names: dict = {}
    exec(parts, names)
    shapes = {name: names[name].shape for name in ("patches", "quilts", "textures", "negatives", "loss")}
    assert shapes == {
        "patches": (8, 1, 224, 224, 3),
        "quilts": (8, 1, 224, 224, 3),
        "textures": (8, 224, 224, 3),
        "negatives": (8, 3, 224, 224, 3),
        "loss": (8,),
    }
    assert np.isfinite(names["loss"]).all()

    monkeypatch.chdir(ROOT)
    whole = whole.replace('{"epochs": 3}', f'{{"epochs": 1, "data.data_dir": "{smoke_data}"}}')
    exec(whole.replace("runs/smoke", str(tmp_path / "run")), names)
    assert names["features"].shape[0] == 1
    assert names["results"]["knn_top1"] > 0.1
    assert names["network"].epoch == 1

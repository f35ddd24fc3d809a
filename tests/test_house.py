"""The order of the house: short modules, plain names, and nothing that executes what it reads."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("saerec_ray", "server")
LONGEST = 450
VAGUE = {"utils", "util", "helpers", "helper", "misc", "common", "shared", "stuff", "tools"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "torch.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "faiss.read_index",
    "eval",
    "exec",
    "os.system",
    "os.popen",
}
FORBIDDEN_WHEN_TRUE = {"shell", "allow_pickle", "trust_remote_code"}


def sources() -> list[Path]:
    """Every module written by hand."""
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in found if "v1" not in path.relative_to(ROOT).parts]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a call's function; empty when it is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def full_names(tree: ast.Module) -> dict[str, str]:
    """What the imported names of a module stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                names[each.asname or each.name.partition(".")[0]] = (
                    each.name if each.asname else each.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                names[each.asname or each.name] = f"{node.module}.{each.name}"
    return names


def breaches(tree: ast.Module) -> Iterator[str]:
    """Calls that could execute what they read, and imports made for that."""
    names = full_names(tree)
    for used in names.values():
        if used.partition(".")[0] in FORBIDDEN_MODULES:
            yield f"imports {used}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = dotted(node.func).partition(".")
        called = names.get(first, first) + dot + rest
        if called in FORBIDDEN_CALLS:
            yield f"line {node.lineno}: calls {called}"
        for keyword in node.keywords:
            given = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if given is True and keyword.arg in FORBIDDEN_WHEN_TRUE:
                yield f"line {node.lineno}: passes {keyword.arg}=True"


def test_there_are_modules_to_look_at() -> None:
    assert {"saerec_ray/client.py", "server/serve.py"} <= {name(path) for path in sources()}


@pytest.mark.parametrize("path", sources(), ids=name)
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", sources(), ids=name)
def test_a_module_is_named_after_what_it_does(path: Path) -> None:
    assert not {part.removesuffix(".py").strip("_") for part in path.relative_to(ROOT).parts} & VAGUE


@pytest.mark.parametrize("path", sources(), ids=name)
def test_nothing_that_was_read_is_executed(path: Path) -> None:
    assert list(breaches(ast.parse(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import torch; torch.load(path)",
        "from torch import load as read; read(path)",
        "import yaml as y; y.load(text)",
        "import faiss; faiss.read_index(path)",
        "eval(text)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import subprocess; subprocess.run(text, shell=True)",
    ],
)
def test_the_search_for_such_calls_finds_them(code: str) -> None:
    assert list(breaches(ast.parse(code))) != []


def test_the_package_list_names_every_folder_with_modules() -> None:
    """A folder missing from pyproject.toml would work in a checkout and be absent from the wheel."""
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    )
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert {folder.replace("server", "saerec_server", 1) if folder.startswith("server") else folder
            for folder in folders} == listed  # fmt: skip

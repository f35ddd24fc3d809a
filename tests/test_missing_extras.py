"""A command whose packages are not installed: one sentence that names the extra."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


def run_without(packages: list[str], *arguments: str) -> str:
    """What `saerec` complains of, in one line, when it ends with 2 because the packages are not there."""
    script = (
        f"import sys; sys.modules |= dict.fromkeys({packages}); sys.argv = ['saerec', *{list(arguments)}];"
        "from saerec_ray.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    return done.stderr.strip()


def test_a_state_is_backed_up_without_what_only_servers_need() -> None:
    complaint = run_without(
        ["numpy", "torch", "yaml", "sqlalchemy"], *["state", "backup", "--state", "a", "--to", "b"]
    )
    assert complaint == "Error: There is no state database a."


def test_a_missing_extra_is_one_sentence_that_names_it() -> None:
    assert "pip install 'saerec-ray[cli]'" in run_without(["typer"], "--help")


@pytest.mark.parametrize(
    ("arguments", "command", "extra"),
    [
        (["run", "--config", "demo"], "run", "train"),
        (["intents", "--config", "demo"], "intents", "train"),
        (["cross-domain", "--from", "a", "--name", "b", "--output", "c"], "cross-domain", "train"),
        (["presets", "demo"], "presets", "serve"),
        (["serve", "--bundle", "a"], "serve", "serve"),
        (["state", "import", "--workdir", "a"], "state import", "serve"),
        (["intents", "diff", "a", "b"], "intents diff", "serve"),
        (["intents", "group", "--text", "soap"], "intents group", "serve"),
        (["intents", "edit", "int-00000001"], "intents edit", "serve"),
        (["intents", "outcome", "--outcome", "a.csv", "--name", "quality"], "intents outcome", "serve"),
        (["intents", "cards"], "intents cards", "serve"),
        (["demo"], "demo", "demo"),
    ],
)
def test_a_command_without_its_extra_names_the_package_and_the_extra_it_needs(
    arguments: list[str], command: str, extra: str
) -> None:
    complaint = run_without(["numpy", "torch", "yaml"], *arguments)
    needed = rf"saerec {command} needs the package (numpy|torch|yaml): pip install 'saerec-ray\[{extra}\]'\."
    assert re.fullmatch(needed, complaint), complaint

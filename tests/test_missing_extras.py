"""A command whose packages are not installed: one sentence that names the extra."""

from __future__ import annotations

import subprocess
import sys


def test_a_missing_extra_is_one_sentence_that_names_it() -> None:
    script = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['saerec', '--help'];"
        "from saerec_ray.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'saerec-ray[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stage_without_its_extra_names_the_package_and_the_extra() -> None:
    script = (
        "import sys; sys.modules['polars'] = None; sys.modules['pydantic'] = None;"
        "sys.argv = ['saerec', 'run', '--config', 'demo'];"
        "from saerec_ray.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == ("saerec run needs the package pydantic: pip install 'saerec-ray[train]'.")

"""`python -m saerec_ray` and the `saerec` command."""

from __future__ import annotations

import sys

_NEEDED = {
    "cli": [
        *("recommend", "explain", "steer", "version", "state backup"),
        *(f"intents {call}" for call in ("list", "show", "search")),
    ],
    "serve": [
        "serve",
        "presets",
        "state import",
        *(f"intents {call}" for call in ("diff", "group", "edit", "outcome", "cards")),
    ],
    "demo": ["demo"],
}
_EXTRAS = {command: extra for extra, commands in _NEEDED.items() for command in commands}
_TRAINING = "train"  # every other command is a stage or reads what only training reads


def main() -> None:
    """Runs the command; a missing extra is one sentence and exit code 2."""
    try:
        from saerec_ray.cli import main as run

        run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "saerec_ray", "saerec_server"}:
            raise  # ours: no extra would bring it
        sys.stderr.write(f"{_advice(missing)}\n")
        sys.exit(2)


def _advice(missing: str) -> str:
    if missing in {"typer", "rich"}:
        return (
            "The saerec command needs an extra: pip install 'saerec-ray[cli]' to call a server, "
            "'saerec-ray[serve]' to run one, 'saerec-ray[train]' to train."
        )
    words = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    command = next(
        (each for each in (" ".join(words[:2]), *words[:1]) if each in _EXTRAS), " ".join(words[:1])
    )
    extra = _EXTRAS.get(command, _TRAINING)
    return f"saerec {command} needs the package {missing}: pip install 'saerec-ray[{extra}]'."


if __name__ == "__main__":
    main()

"""`python -m saerec_ray` and the `saerec` command."""

from __future__ import annotations

import sys

_CLIENT_COMMANDS = {"recommend", "explain", "steer", "intents", "version"}
_EXTRAS = {"serve": "serve", "demo": "demo"} | dict.fromkeys(_CLIENT_COMMANDS, "cli")
_TRAINING = "train"  # every other command is a stage


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
    command = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    extra = _EXTRAS.get(command, _TRAINING)
    return f"saerec {command} needs the package {missing}: pip install 'saerec-ray[{extra}]'."


if __name__ == "__main__":
    main()

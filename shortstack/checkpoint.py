"""Model directories as the command line sees them: where the bundled one is, what one must hold.

Reads no weights; what is inside is the workers' to judge.
"""

from pathlib import Path

from shortstack.errors import UsageError

BUNDLED = Path(__file__).resolve().parent.parent / "models" / "shortstack-10m"


def require_model_dir(path: Path | None) -> Path:
    """Return a directory that looks like a checkpoint; None means the bundled one.

    Raises:
        UsageError: it is missing, or has no config.json or no safetensors.
    """
    directory = BUNDLED if path is None else path
    if not directory.is_dir():
        hint = "" if path else "; name one with --model"
        raise UsageError(f"model directory {directory} does not exist{hint}")
    if not (directory / "config.json").is_file():
        raise UsageError(f"{directory} is no model directory: it has no config.json")
    if not any(directory.glob("*.safetensors")):
        raise UsageError(f"{directory} is no model directory: it has no *.safetensors")
    return directory

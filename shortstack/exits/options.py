"""What a look at the exits is asked for, checked before anything takes long. Loads no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from shared.speculation.draft_vocab import AUTO
from shortstack.bench.sweep import Grid
from shortstack.errors import UsageError


@dataclass(frozen=True, slots=True)
class ExitsPlan:
    """What to measure. num_threads 0: as workers have it; hand_over_ms is per round."""

    model_dir: Path
    max_new_tokens: int
    max_draft_len: int
    stop_thresholds: tuple[float, ...]
    hand_over_ms: float
    cost_runs: int
    dtype: str
    device: str
    draft_vocab: str
    num_threads: int
    exit_adapters: str = AUTO

    def grid(self, num_layers: int) -> Grid:
        """Return every exit, every draft length and the thresholds."""
        return Grid(
            tuple(range(1, num_layers)),
            tuple(range(1, self.max_draft_len + 1)),
            self.stop_thresholds,
        )


def check_thresholds(option: str, thresholds: Sequence[float]) -> tuple[float, ...]:
    """Return thresholds in order, each once.

    Raises:
        UsageError: there is none, or one lies outside [0, 1].
    """
    if not thresholds:
        raise UsageError(f"{option}: name at least one threshold, such as 0")
    for threshold in thresholds:
        if not 0 <= threshold <= 1:
            raise UsageError(f"{option}: {threshold:g} is no confidence: it must lie in [0, 1]")
    return tuple(sorted(set(thresholds)))


def require_package(name: str, extra: str, purpose: str) -> None:
    """Make sure that an optional package is installed.

    Raises:
        UsageError: it is not; names the extra that brings it.
    """
    if find_spec(name) is None:
        raise UsageError(
            f"{purpose} needs {name}, which is not installed:"
            f" pip install 'shortstack-serve[{extra}]'"
        )


def require_picture(option: str, file: Path) -> None:
    """Make sure that a picture can be drawn into a file of this name.

    Raises:
        UsageError: it is no PNG, or matplotlib is missing.
    """
    if file.suffix.lower() != ".png":
        raise UsageError(f"{option}: {file} must end in .png")
    require_package("matplotlib", "plot", option)


def require_writable(option: str, file: Path) -> None:
    """Make sure that a file can be written, making its folder; what it holds is left alone.

    Raises:
        UsageError: it cannot; says why.
    """
    is_new = not file.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            pass
        if is_new:
            file.unlink()
    except OSError as error:
        raise UsageError(f"{option}: cannot write {file}: {error.strerror}") from None

"""How long a run has trained, interruptions left out.

Knows nothing of what is trained. The seconds so far lie beside each checkpoint, and a run that goes
on from one counts on from there.
"""

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE_NAME = "clock.json"


class Clock(TrainerCallback):
    """Counts the seconds of training, those before the checkpoint of `resumed_from` included."""

    def __init__(self, resumed_from: str | None) -> None:
        self.before_s = seconds_of(Path(resumed_from)) if resumed_from else 0.0
        self.started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds so far."""
        return self.before_s + time.monotonic() - self.started_s

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start; what was read and encoded before does not count."""
        self.started_s = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep the seconds beside the checkpoint."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            text = json.dumps({"elapsed_s": round(self.elapsed_s, 1)})
            (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def seconds_of(checkpoint: Path) -> float:
    """Seconds that a checkpoint had taken; 0 where it does not say."""
    path = checkpoint / FILE_NAME
    if not path.is_file():
        return 0.0
    return float(json.loads(path.read_text(encoding="utf-8"))["elapsed_s"])

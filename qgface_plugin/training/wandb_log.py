"""Weights & Biases: a run of the built-in loop, and what both trainers do about the key.

The package reads WANDB_MODE, WANDB_DIR and the rest of its environment itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from ..config.run import Run
from ..utils.errors import ConfigError, Stopped

KEY = "WANDB_API_KEY"
_PLACEHOLDER = re.compile(r"X*")  # what arcface_torch's base.py has in a key's place


class WandbLog:
    """A run at Weights & Biases, or in `wandb/` of the output folder when WANDB_MODE is "offline".

    Args:
        run: the resolved recipe; its settings become those of the W&B run.
        continued: id of the W&B run to go on in; None for a new one. WANDB_RUN_ID goes before both.

    Attributes:
        id: of the W&B run.

    Raises:
        ConfigError: W&B refuses: no key, a wrong one, or no connection.
    """

    def __init__(self, run: Run, continued: str | None = None) -> None:
        import wandb

        hand_over_key(run.wandb_key)
        Path(run.output).mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(
                entity=None if run.wandb_entity == Run.wandb_entity else run.wandb_entity,
                project=run.wandb_project,
                name="_".join(filter(None, (run.name, run.suffix_run_name))),
                notes=run.notes,
                id=os.environ.get("WANDB_RUN_ID") or continued,
                resume="allow" if continued else None,
                dir=os.environ.get("WANDB_DIR") or run.output,
                config={key: value for key, value in run.as_dict().items() if key != "wandb_key"},
                settings=wandb.Settings(disable_code=bool(run.wandb_key)),  # the recipe, with the key in it, is code
            )
        except (wandb.Error, ValueError) as error:
            raise ConfigError(
                f"config.using_wandb is True, but W&B says: {without_key(str(error)).rstrip('. ')}. Set {KEY}, or set "
                "WANDB_MODE=offline to keep the run in a folder that `wandb sync` sends later"
            ) from None
        self.id = str(self._run.id)
        self._artifacts, self._wandb = run.save_artifacts, wandb

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers of a global step. W&B keeps what it has: steps that a resumed run repeats are passed over."""
        self._run.log(dict(values), step=step)

    def save(self, path: Path) -> None:
        """A version of the artifact `model-<id>`, if the recipe asks for artifacts."""
        if self._artifacts:
            artifact = self._wandb.Artifact(f"model-{self.id}", type="model")
            artifact.add_file(str(path))
            self._run.log_artifact(artifact)

    def close(self, error: BaseException | None) -> None:
        """Finish the run there; one that was asked to leave is marked as preempted, not as failed."""
        if isinstance(error, Stopped):
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if error is None else 1)


def hand_over_key(*keys: str | None, environ: MutableMapping[str, str] = os.environ) -> None:
    """Put the first key that is one into WANDB_API_KEY: the package would write one that it is given into ~/.netrc.

    Args:
        keys: the recipe's, a checkout's; None, "" and rows of X are none.
        environ: the environment to change.
    """
    for key in keys:
        if isinstance(key, str) and not _PLACEHOLDER.fullmatch(key):
            environ[KEY] = key
            return


def without_key(text: str) -> str:
    """What W&B says, without the key."""
    key = os.environ.get(KEY)
    return text.replace(key, "(key)") if key else text

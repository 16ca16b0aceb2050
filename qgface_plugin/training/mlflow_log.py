"""MLflow: a run of an experiment, at the place that MLFLOW_TRACKING_URI names, else where MLflow keeps its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from ..config.run import Run, flat
from ..utils.errors import ConfigError, Stopped

LONGEST = 500  # characters of a parameter that every version of MLflow takes


class MLflowLog:
    """A run of `config.mlflow_experiment`, which is made where there is none.

    Args:
        run: the resolved recipe; its settings become parameters.
        continued: id of the run to go on in; None for a new one.

    Attributes:
        id: of the run.

    Raises:
        ConfigError: MLflow refuses, or there is no such run any more.
    """

    def __init__(self, run: Run, continued: str | None = None) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        self._artifacts, self._metric, self._sent = run.save_artifacts, Metric, None
        try:
            self._client = client = MlflowClient()
            if continued:
                self.id = continued
                client.update_run(continued, status="RUNNING")
                return
            found = client.get_experiment_by_name(run.mlflow_experiment)
            experiment = client.create_experiment(run.mlflow_experiment) if found is None else found.experiment_id
            self.id = client.create_run(experiment, run_name=run.name).info.run_id
            params = {key: value for key, value in flat(run.as_dict()).items() if key != "wandb_key"}
            client.log_batch(self.id, params=[Param(key, str(value)[:LONGEST]) for key, value in params.items()])
        except (MlflowException, OSError) as error:
            raise ConfigError(
                f"config.mlflow_experiment is {run.mlflow_experiment!r}, but MLflow says: {error}"
            ) from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers of a global step; a thread of MLflow's sends them, so that no step waits for a server."""
        now = int(time.time() * 1000)
        metrics = [self._metric(name, float(value), now, step) for name, value in values.items()]
        self._sent = self._client.log_batch(self.id, metrics=metrics, synchronous=False)

    def save(self, path: Path) -> None:
        """An artifact of the run, if the recipe asks for artifacts."""
        if self._artifacts:
            self._client.log_artifact(self.id, str(path))

    def close(self, error: BaseException | None) -> None:
        """End the run: finished, failed, or killed where it was asked to leave."""
        if self._sent is not None:
            self._sent.wait()
        status = "FINISHED" if error is None else "KILLED" if isinstance(error, Stopped) else "FAILED"
        self._client.set_terminated(self.id, status)

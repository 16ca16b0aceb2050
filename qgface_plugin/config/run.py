"""Settings of a run, resolved: arcface_torch's keys with their names and defaults, and QGFace's groups beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..utils.errors import ConfigError
from .degradation import OURS, DegradationPolicy
from .method import QGFaceConfig
from .options import DataOptions, FinetuneOptions, TrainOptions, VerifyOptions
from .schema import check_fields, setting

TRACKING = (
    "using_wandb", "wandb_key", "suffix_run_name", "wandb_entity", "wandb_project", "wandb_log_all", "save_artifacts",
    "wandb_resume", "mlflow_experiment",
)  # fmt: skip
"""Settings of services that a run's numbers also go to; they change nothing that is trained."""


@dataclass(frozen=True)
class Run:
    """What a recipe says, after defaults and checks; `load_recipe` makes one.

    Raises:
        ConfigError: Values cannot be used, or not together.

    Example:
        >>> run = Run(network="r34", batch_size=256)
        >>> run.lr, run.qgface.margin, run.as_dict()["train"]["milestones"]
        (0.1, 'adaface', [])
    """

    # model
    network: str = setting("r50", "backbone: r18, r34, r50, r100, r200, mbf, ...; graph: that of an ONNX file")
    embedding_size: int = setting(512, "d, entries of an embedding", low=1)
    init_from: str | None = setting(
        None, "encoder to start from: weights, an ONNX file, their folder, or a model of insightface; not `resume`"
    )
    init_color: str = setting("rgb", "channels that the ONNX file of init_from takes", choices=("rgb", "bgr"))
    init_mean: float | tuple[float, ...] | None = setting(
        None, "what is subtracted from pixels of 0 to 255 for that file; None: what its graph or its pack says"
    )
    init_std: float | tuple[float, ...] | None = setting(None, "what they are then divided by; set with init_mean")
    # class centres
    margin_list: tuple[float, float, float] = setting((1.0, 0.5, 0.0), "arcface_torch's margins (its own head only)")
    sample_rate: float = setting(1.0, "share of the class centres that compete; 0: the batch's only", low=0.0, high=1.0)
    interclass_filtering_threshold: float = setting(0.0, "cosine above which a negative is dropped; 0: none", low=0.0)
    # data
    rec: str | tuple[str, ...] | None = setting(None, "folder with train.rec, or several; DATA_ROOT overrides it")
    num_classes: int | None = setting(None, "n; None: what the data says", low=2)
    num_image: int | None = setting(None, "images per epoch; None: what the data says", low=1)
    val_targets: tuple[str, ...] = setting((), "pair sets to verify on: lfw for lfw.bin beside the data, ...")
    num_workers: int = setting(2, "processes per rank that decode and degrade", low=0)
    dali: bool = setting(False, "read with NVIDIA DALI")
    dali_aug: bool = setting(False, "augment with NVIDIA DALI")
    # optimisation
    optimizer: str = setting("sgd", "stochastic gradient descent with momentum, or AdamW", choices=("sgd", "adamw"))
    lr: float = setting(0.1, "learning rate", above=0.0)
    momentum: float = setting(0.9, "of SGD", low=0.0, high=1.0)
    weight_decay: float = setting(5e-4, "of all weights, also of the class centres", low=0.0)
    batch_size: int = setting(128, "images per rank and step; each is seen twice", low=2)
    gradient_acc: int = setting(1, "steps whose gradients are summed before an update", low=1)
    num_epoch: int = setting(20, "passes over the data", low=1)
    warmup_epoch: float = setting(0, "epochs, also parts of one, over which the rate rises; 0 or -1: none", low=-1)
    fp16: bool = setting(False, "float16 arithmetic on a GPU")
    seed: int = setting(2048, "of everything random", low=0)
    # what is written, and when
    output: str = setting("work_dirs/run", "folder of the run; None in a recipe: work_dirs/<its name>")
    resume: bool = setting(False, "go on from the newest checkpoint in `output`")
    save_all_states: bool = setting(False, "save what a resume needs")
    verbose: int = setting(2000, "steps between verifications", low=1)
    frequent: int = setting(10, "steps between log lines", low=1)
    notes: str | None = setting(None, "free text, kept in recipe.json")
    imports: tuple[str, ...] = setting(
        (),
        "files that define parts of your own, which are run first; those that the recipe uses are added",
    )
    # Weights & Biases, MLflow
    using_wandb: bool = setting(False, "log to Weights & Biases, from rank 0")
    wandb_key: str | None = setting(None, "a secret, never written to a file; better WANDB_API_KEY", secret=True)
    suffix_run_name: str | None = setting(None, "behind the name of the W&B run")
    wandb_entity: str = setting("entity", "W&B's user or team; 'entity': the key's own")
    wandb_project: str = setting("project", "W&B's project")
    wandb_log_all: bool = setting(True, "arcface_torch: every rank opens a W&B run")
    save_artifacts: bool = setting(False, "model.pt goes to W&B and MLflow too")
    wandb_resume: bool = setting(False, "a resumed run goes on in the same W&B run")
    mlflow_experiment: str | None = setting(
        None, "log to this MLflow experiment, from rank 0; MLFLOW_TRACKING_URI says where"
    )
    # QGFace's own
    host: str | None = setting(None, "an arcface_torch checkout to train with; None: the built-in loop")
    qgface: QGFaceConfig = setting(factory=QGFaceConfig, help="the method")
    degradation: DegradationPolicy | None = setting(OURS, "the degraded view; None: single views")
    data: DataOptions = setting(factory=DataOptions, help="how faces are read")
    train: TrainOptions = setting(factory=TrainOptions, help="the built-in loop")
    finetune: FinetuneOptions = setting(factory=FinetuneOptions, help="starting from an encoder that is there")
    verify: VerifyOptions = setting(factory=VerifyOptions, help="verification during training")
    name: str = setting("run", "the recipe's file name without .py")
    set_keys: frozenset[str] = setting(frozenset(), "the keys of `config` that the recipe set itself")

    def __post_init__(self) -> None:
        check_fields(self, "config")
        for key in ("margin_list", "val_targets", "rec", "imports"):
            value = getattr(self, key)
            object.__setattr__(self, key, tuple(value) if isinstance(value, list) else value)
        if (self.init_mean is None) != (self.init_std is None):
            raise ConfigError("config.init_mean and config.init_std go together: set both, or neither")
        if self.rec is not None and not (self.rec and all(self.rec)):
            raise ConfigError(f"config.rec is {self.rec!r}: name at least one folder, and no empty name")
        if -1 < self.warmup_epoch < 0:
            raise ConfigError(f"config.warmup_epoch is {self.warmup_epoch}: it must be at least 0, or -1 for none")
        if self.warmup_epoch > self.num_epoch:
            raise ConfigError(
                f"config.warmup_epoch is {self.warmup_epoch}: more than config.num_epoch = {self.num_epoch}"
            )
        milestones = self.train.milestones
        if milestones and milestones[-1] >= self.num_epoch:
            raise ConfigError(
                f"config.qgface.train.milestones is {milestones}: the last one must be before the end of training, "
                f"config.num_epoch = {self.num_epoch}"
            )
        if self.degradation is None and self.qgface.queue != "none":
            raise ConfigError(
                f"config.qgface.degradation is None (single views), but config.qgface.queue is {self.qgface.queue!r}: "
                "contrast needs pairs. Set queue = 'none', or a degradation"
            )
        if self.degradation is None and self.qgface.quality == "degradation":
            raise ConfigError(
                "config.qgface.quality is 'degradation', but config.qgface.degradation is None (single views): no view "
                "is degraded. Set another quality, or a degradation"
            )
        self._check_finetuning()
        if self.fp16 and self.train.precision == "bfloat16":
            raise ConfigError("config.fp16 is True, but config.qgface.train.precision is 'bfloat16': set fp16 = False")

    def _check_finetuning(self) -> None:
        """What fine-tuning needs of other groups."""
        method, finetune, here = self.qgface, self.finetune, "config.qgface.finetune"
        if method.needs_teacher and self.init_from is None and finetune.teacher is None:
            asks = next(
                f"config.qgface.{key} is {getattr(method, key)!r}"
                for key in ("teacher_weight", "queue", "quality")
                if getattr(method, key) == "teacher" or (key == "teacher_weight" and method.teacher_weight)
            )
            raise ConfigError(
                f"{asks}, but there is no teacher: set config.init_from to the encoder that the run starts from, or "
                f"{here}.teacher to another one"
            )
        if finetune.init_centres == "means" and self.init_from is None:
            raise ConfigError(
                f"{here}.init_centres is 'means', but config.init_from names no encoder whose embeddings could be "
                "averaged: name one, or set init_centres = 'random'"
            )
        if not method.classification_weight:
            off = "config.qgface.classification_weight is 0 (no class centres), but"
            if finetune.init_centres == "means":
                raise ConfigError(f"{off} {here}.init_centres is 'means': set init_centres = 'random'")
            if finetune.frozen_epochs:
                raise ConfigError(
                    f"{off} {here}.frozen_epochs is {finetune.frozen_epochs}: with the backbone frozen there is "
                    "nothing to train. Set frozen_epochs = 0"
                )
        elif self.data.source == "unlabelled":
            raise ConfigError(
                "config.qgface.data.source is 'unlabelled', but classification needs labels: set "
                "config.qgface.classification_weight = 0 (and a queue other than 'proxy'), or another source"
            )
        if self.verify.degraded and self.degradation is None:
            raise ConfigError(
                "config.qgface.verify.degraded is True, but config.qgface.degradation is None: there is nothing to "
                "degrade the sets by"
            )

    def as_dict(self) -> dict[str, Any]:
        """Every setting as JSON has it (tuples are lists), for recipe.json and for comparing runs; no secret."""
        values = {key: value for key, value in asdict(self).items() if key != "set_keys"}
        values["wandb_key"] = self.wandb_key and "(set)"
        return json.loads(json.dumps(values))


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each key that differs, groups with dots: 'lr: 0.1 in the checkpoint, 0.2 in the recipe'.

    1 and 1.0 are the same, as arcface_torch's configs write `sample_rate` both ways.

    Args:
        before: the settings in the checkpoint, as `Run.as_dict` gives them.
        now: the recipe's.
    """
    then, new = flat(before), flat(now)
    return [
        f"{key}: {_shown(then, key)} in the checkpoint, {_shown(new, key)} in the recipe"
        for key in sorted(then.keys() | new.keys())
        if (key in then) != (key in new) or repr(_plain(then[key])) != repr(_plain(new[key]))
    ]


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "absent"


def _plain(value: Any) -> Any:
    """A value whose whole numbers, also those in a list, are floats where these hold them."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings without groups, as `Run.as_dict` has them; a group's name and a dot stand before its keys.

    Example:
        >>> flat({"lr": 0.1, "qgface": {"b": 0.2}})
        {'lr': 0.1, 'qgface.b': 0.2}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = list(value) if isinstance(value, tuple) else value
    return found

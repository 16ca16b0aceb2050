"""Settings of the data, of the built-in loop, of fine-tuning and of verification: groups of `config.qgface`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..utils.errors import ConfigError
from .schema import check_fields, setting


@dataclass(frozen=True)
class DataOptions:
    """How the training faces are read: `config.qgface.data`.

    Raises:
        ConfigError: A value is outside its range.

    Example:
        >>> DataOptions(source="folder").on_corrupt
        'error'
    """

    source: str = setting(
        "recordio",
        "what config.rec names: RecordIO files, a folder of one folder per identity, a folder of images without "
        "labels, or a folder to draw procedural faces into",
        choices=("recordio", "folder", "unlabelled", "procedural"),
    )
    label_spaces: str = setting(
        "shared",
        "several folders in config.rec: a label is one person in all of them, or each has persons of its own, whose "
        "labels follow those of the folder before",
        choices=("shared", "separate"),
    )
    on_corrupt: str = setting("error", "an unreadable image: stop, or skip and count it", choices=("error", "skip"))
    degrade_on: str = setting(
        "cpu", "who makes the degraded views: the data workers, or the training device", choices=("cpu", "device")
    )
    identities: int = setting(200, "source = procedural: persons to draw", low=2)
    images_per_identity: int = setting(20, "source = procedural: pictures of each", low=1)
    pairs: int = setting(400, "source = procedural: verification pairs of unseen persons", low=2)

    def __post_init__(self) -> None:
        check_fields(self, "config.qgface.data")


@dataclass(frozen=True)
class TrainOptions:
    """What the built-in loop has beyond arcface_torch's, and some of what both have: `config.qgface.train`.

    Raises:
        ConfigError: A value cannot be used, or does not go with another one.

    Example:
        >>> TrainOptions(schedule="step", milestones=(6, 9)).gamma
        0.1
    """

    # learning rate
    schedule: str = setting(
        "polynomial", "decay: to 0 at the end, or by gamma at milestones", choices=("polynomial", "step")
    )
    milestones: tuple[int, ...] = setting((), "epochs after which the rate is multiplied by gamma (schedule = step)")
    gamma: float = setting(0.1, "factor of the rate at a milestone", above=0.0, high=1.0)

    # arithmetic
    precision: str = setting(
        "float32",
        "type of the backbone's arithmetic; config.fp16 = True also selects float16",
        choices=("float32", "bfloat16", "float16"),
    )
    device: str = setting("auto", "auto (a GPU if there is one), cpu, cuda, cuda:0, ...")
    channels_last: bool = setting(False, "memory layout of images and convolutions")
    compile: bool = setting(False, "the backbone goes through torch.compile")
    kept_gib: float = setting(
        4.0, "GiB of the classification's logits that are kept for the backward pass; more are computed again", low=0.0
    )
    checkpoint_activations: bool = setting(
        False, "activations are computed again in the backward pass: less memory, a third more time"
    )
    threads: int | None = setting(None, "CPU threads of torch; None: torch's default", low=1)

    # model and step
    features_bias: bool = setting(True, "bias of the last BatchNorm: arcface_torch has one, AdaFace has none")
    clip_grad: float = setting(5.0, "largest norm of the backbone's gradient; 0: not clipped", low=0.0)
    max_bad_steps: int = setting(10, "steps in a row without a finite loss and gradient before the run stops", low=1)
    max_steps: int | None = setting(None, "stop after this many steps; None: after config.num_epoch", low=1)

    # what is written
    checkpoint_every: int = setting(0, "steps between checkpoints; 0: at the end of an epoch only", low=0)
    keep_checkpoints: int = setting(2, "checkpoints that are kept: the newest and the ones before it", low=1)
    pair_grid_every: int = setting(1000, "steps between TensorBoard grids of training pairs; 0: none", low=0)

    def __post_init__(self) -> None:
        where = "config.qgface.train"
        check_fields(self, where)
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"{where}.device is {self.device!r}: it must be 'auto', 'cpu', 'cuda' or 'cuda:N'")
        steps = list(self.milestones)
        if steps != sorted(set(steps)) or any(epoch < 1 for epoch in steps):
            raise ConfigError(f"{where}.milestones is {self.milestones}: ascending epochs from 1 on")
        if self.compile and self.checkpoint_activations:
            raise ConfigError(
                f"{where}.compile and {where}.checkpoint_activations are both True: a compiled network decides itself "
                "what it keeps. Set one of them to False"
            )
        if (self.schedule == "step") != bool(steps):
            advice = "name the epochs" if not steps else "set schedule = 'step', or milestones = ()"
            raise ConfigError(f"{where}.schedule is {self.schedule!r} with milestones {self.milestones}: {advice}")


@dataclass(frozen=True)
class FinetuneOptions:
    """How a run starts from an encoder that is there: `config.qgface.finetune`. The encoder is `config.init_from`.

    A layer is named as in the encoder's state dict. A pattern means the layer and all below it; `*` and `?` stand for
    any text; ":layer2" means all layers from the first one to layer2, in the network's order.

    Raises:
        ConfigError: a value is outside its range.

    Example:
        >>> FinetuneOptions(freeze=("conv1", "layer1.*"), batchnorm="frozen").frozen_epochs
        0.0
    """

    init_centres: str = setting(
        "random",
        "class centres at the start: drawn, or the mean unit embedding of each identity's originals",
        choices=("random", "means"),
    )
    backbone_lr: float | None = setting(
        None, "learning rate of the backbone; None: config.lr, which the class centres keep", above=0.0
    )
    frozen_epochs: float = setting(
        0.0, "epochs, also parts of one, at the start in which the whole backbone is frozen", low=0.0
    )
    freeze: tuple[str, ...] = setting((), "layers that never move, by name or pattern")
    batchnorm: str = setting(
        "train",
        "running statistics of BatchNorm: follow the batches, or stay (and normalise) as they were at the start",
        choices=("train", "frozen"),
    )
    teacher: str | None = setting(None, "weights of the frozen teacher, as init_from has them; None: init_from")

    def __post_init__(self) -> None:
        where = "config.qgface.finetune"
        check_fields(self, where)
        object.__setattr__(self, "freeze", tuple(self.freeze))
        if any(not name.strip(":") for name in self.freeze):
            raise ConfigError(f"{where}.freeze is {self.freeze}: an empty name stands for no layer")


@dataclass(frozen=True)
class VerifyOptions:
    """What is verified besides `config.val_targets` after each epoch, and which weights are kept:
    `config.qgface.verify`.

    Raises:
        ConfigError: a value is outside its range, or asks for what another one leaves out.

    Example:
        >>> VerifyOptions(before=True, degraded=True, keep_best="degraded").max_regression
        0.005
    """

    before: bool = setting(False, "verify before the first step, too")
    degraded: bool = setting(
        False, "verify on copies of each set degraded by config.qgface.degradation, and on original against degraded"
    )
    degraded_seed: int = setting(0, "of the degraded copies, which are the same in every verification", low=0)
    pairs: int | None = setting(
        None, "pairs of each set that are verified during training, evenly spaced; None: all", low=20
    )
    keep_best: str = setting(
        "none",
        "model_best.pt: the weights with the best mean accuracy on the sets, on their degraded copies, or of originals "
        "against degraded copies",
        choices=("none", "sharp", "degraded", "mixed"),
    )
    max_regression: float = setting(
        0.005,
        "mean accuracy on the sets as they are that may be lost since before the first step, a fraction; what "
        "loses more is warned of, and not kept as best",
        low=0.0,
        high=1.0,
    )

    def __post_init__(self) -> None:
        where = "config.qgface.verify"
        check_fields(self, where)
        if self.keep_best in ("degraded", "mixed") and not (self.degraded and self.before):
            raise ConfigError(
                f"{where}.keep_best is {self.keep_best!r}, which compares degraded copies with the start: set "
                f"{where}.degraded = True and {where}.before = True"
            )

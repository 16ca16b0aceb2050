"""Replacements: the parts that stand, for a recipe, in the place of an arcface_torch checkout's own."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from ..config import unsupported
from ..config.run import Run
from ..data.loader import TensorLoader
from ..data.sampler import EpochSampler
from ..data.sources.source import open_source
from ..loss.margin import QGFaceMargin
from ..loss.quality import of_images
from ..models.backbones.common import freeze_bias
from ..models.weights import load_backbone
from ..training import build
from ..training.agreement import check_data, check_recipes
from ..training.checkpoints.contents import check_module, check_share
from ..training.checkpoints.finite import first_not_finite
from ..training.checkpoints.parameters import names_of, restore
from ..training.checkpoints.store import as_checkpoint
from ..training.header import header
from ..training.lr_schedule import build_schedule
from ..training.step_log import StepLog
from ..utils import distributed
from ..utils.device import keep_freed_pages, pick_precision
from ..utils.errors import CheckpointError, ConfigError
from ..utils.logs import EarlyLog
from ..utils.registry import QUEUE_KINDS
from ..utils.torch_files import load
from .criterion import CheckoutPartialFC, KeySource, MomentumPartialFC
from .log import checkout_log
from .wandb_run import wandb_settings

LOGGER = logging.getLogger(__name__)
ADDED = "qgface_checkout"  # key of what is added to a checkpoint; `qgface` is that of the built-in loop
OURS = (  # no keys of a checkout
    "init_from", "host", "qgface", "degradation", "data", "train", "finetune", "verify", "name", "set_keys",
    "mlflow_experiment", "imports", "init_color", "init_mean", "init_std",
)  # fmt: skip
EMPTY: Mapping[str, Any] = MappingProxyType({})


class Replacements:
    """QGFace's parts in a checkout's loop, and the state that they share; made before the loop starts, one per process.

    Args:
        run: the recipe.
        log: its lines from before the checkout has set up logging.

    Example:
        >>> Replacements(Run()).make_margin().config.m
        0.4
    """

    def __init__(self, run: Run, log: EarlyLog | None = None) -> None:
        self.run, self._early = run, log
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        self.loader: TensorLoader | None = None
        self.criterion: CheckoutPartialFC | None = None
        self._source: Any = None
        self._keys: KeySource | None = None
        self.backbone: nn.Module | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self._fp16, self._resumes = False, False
        self._log: StepLog | None = None
        self._steps_per_epoch, self._verifies_every = 0, run.verbose

    def settings(self, base: Mapping[str, Any] = EMPTY) -> dict[str, Any]:
        """The checkout's keys with the recipe's values, with the counts that the data says.

        Args:
            base: the checkout's own defaults, for keys that the recipe does not have.

        Raises:
            ConfigError: The data does not fit the recipe. So do DataError and CheckpointError for what they name.
        """
        if self.run.train.threads:
            torch.set_num_threads(self.run.train.threads)
        if self.device.type == "cpu":
            keep_freed_pages()
        else:
            torch.cuda.set_device(self.device)  # as the loop does a little later; what the ranks say travels there
        check_recipes(self.run)
        self._source, self.run = open_source(self.run)
        check_data(self._source)
        run = self.run
        unsupported.refuse_in_a_checkout(run)
        for line in unsupported.by_a_checkout(run):
            LOGGER.info(line)
        self._fp16 = pick_precision(run.train.precision, run.fp16, self.device) == torch.float16
        assert run.rec is not None  # open_source has found data there
        self._resumes = run.resume and self._has_checkpoint()
        first = Path(run.rec if isinstance(run.rec, str) else run.rec[0])
        steps = run.num_image // (run.batch_size * distributed.world_size()) if run.num_image else 0
        self._verifies_every = min(run.verbose, steps) or run.verbose  # an epoch does not end unverified
        settings = dict(base) | {f.name: getattr(run, f.name) for f in fields(Run) if f.name not in OURS}
        settings.update(
            rec=str(first if first.is_dir() else first.parent),  # where the checkout looks for val_targets
            val_targets=[name.removesuffix(".bin") for name in run.val_targets],  # the checkout appends it
            dali=False,
            dali_aug=False,
            fp16=self._fp16,
            resume=self._resumes,
            verbose=self._verifies_every,
            save_all_states=run.save_all_states or "save_all_states" not in run.set_keys,
        )
        return settings | wandb_settings(run, base, self._resumes)

    def _has_checkpoint(self) -> bool:
        path = self.checkpoint()
        everywhere = distributed.everywhere(path.exists(), self.device)
        if path.exists() and not everywhere:
            raise CheckpointError(
                f"{path} is there, but other ranks have no checkpoint: resume with as many ranks, or go on from "
                f"config.init_from = {str(Path(self.run.output, 'model.pt'))!r} in a new config.output"
            )
        if not everywhere:
            LOGGER.info("config.resume is set, but %s holds no checkpoint: this run starts anew", self.run.output)
        return everywhere

    def _check_checkpoint(self, backbone: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a checkpoint that the loop is about to resume from and that is not of these parts.

        The optimiser takes over what fits only, in the memory layout of its parameters.

        Raises:
            CheckpointError: on all ranks; it names the file and the first thing that differs.
        """
        own, path = names_of(backbone, criterion, optimizer)["optimizer"], self.checkpoint()
        names: list[str] | None = None
        problem, step, epoch = None, None, 0

        def fitting(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
            return {**saved, "state": restore(optimizer, saved, own, names)}

        optimizer.register_load_state_dict_pre_hook(fitting)
        if self._resumes:
            try:
                saved = as_checkpoint(path, load(path))
                names, step = self._check_whose(saved), saved["global_step"]
                epoch = saved["epoch"]
                check_module(saved["state_dict_backbone"], backbone, "state_dict_backbone")
                check_module(saved["state_dict_softmax_fc"], criterion, "state_dict_softmax_fc")
                restore(optimizer, saved["state_optimizer"], own, names)
                if unfit := first_not_finite(saved):
                    raise CheckpointError(f"{unfit} is not finite")
            except CheckpointError as error:
                problem = str(error) if str(path) in str(error) else f"{path}: {error}"
        everyone = distributed.gather_objects((problem, step))
        problem = next(filter(None, (found for found, _ in everyone)), None)
        steps = [saved_at for _, saved_at in everyone]
        if not problem and len(set(steps)) > 1:
            problem = f"the checkpoints of the ranks are of different steps: {', '.join(map(str, steps))}"
        if problem:
            raise CheckpointError(
                f"{problem}. Set config.resume = False to start anew, with config.init_from = "
                f"{str(Path(self.run.output, 'model.pt'))!r} from the weights of its backbone, or config.output to a "
                "new folder"
            )
        if self._resumes:
            LOGGER.info("config.resume is set: resumed after step %d, in epoch %d", steps[0], epoch)

    def _check_whose(self, saved: dict[str, Any]) -> list[str] | None:
        """The names of the optimiser's parameters in a checkpoint that is this rank's; None where it does not say.

        Raises:
            CheckpointError: it is of another rank, of other classes or of another number of ranks.
        """
        said, criterion = saved.get(ADDED), self.criterion
        if said is None or criterion is None:
            return None
        if not isinstance(said, dict) or type(said.get("rank")) is not int or type(said.get("ranks")) is not int:
            raise CheckpointError(f"{ADDED} is not what was saved")
        ranks = distributed.world_size()
        if said["ranks"] != ranks:
            raise CheckpointError(f"it is of a run on {said['ranks']} rank(s), and this one has {ranks}")
        check_share(said, distributed.rank(), (criterion.class_start, criterion.num_local))
        names = said.get("names")
        if names is not None and not (isinstance(names, list) and all(type(name) is str for name in names)):
            raise CheckpointError(f"{ADDED}.names are not the names of parameters")
        return names

    def checkpoint(self) -> Path:
        """The file that the loop saves this rank's checkpoints in, and resumes from."""
        return Path(self.run.output) / f"checkpoint_gpu_{distributed.rank()}.pt"

    def in_the_last_epoch(self) -> bool:
        """Whether the loop is in its last epoch, or past it."""
        sampler = None if self.loader is None else self.loader.sampler
        return isinstance(sampler, EpochSampler) and sampler.epoch + 1 >= self.run.num_epoch

    def make_loader(self, batch_size: int, workers: int) -> TensorLoader:
        """The pairs of this rank; the checkout has set up its log by now."""
        if self._early is not None:
            self._early.hand_over()
        run, rank, ranks = self.run, distributed.rank(), distributed.world_size()
        dataset = build.make_dataset(run, self._source)
        sampler = EpochSampler(len(dataset), batch_size, rank, ranks, run.seed)
        self.loader = TensorLoader(dataset, sampler, workers, self.device)
        return self.loader

    def make_backbone(self, original: Callable[..., nn.Module], name: str, **options: Any) -> nn.Module:
        """The checkout's backbone, started from the recipe's seed as the built-in loop does, with the recipe's options.

        Args:
            original: the checkout's function.
            name: of the backbone.
            options: what the checkout's loop passes beside it.

        Raises:
            ConfigError: The checkout does not know the name, or a package that the backbone needs does not import.
        """
        run = self.run
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(run.seed)  # a GPU's generators stay as they are
            try:
                backbone = original(name, **options)
            except ValueError as error:
                why = str(error) or "the checkout has no such backbone"  # which it says by an empty error
                raise ConfigError(f"config.network is {name!r}: {why}") from error
            except ImportError as error:
                raise ConfigError(
                    f"config.network is {name!r}, for which the checkout needs a package that does not import: "
                    f"{_blamed(error)}. Install what is missing (vit_* need timm, and a torchvision that fits torch), "
                    "or choose another network"
                ) from error
        if run.init_from:
            load_backbone(run.init_from, backbone)
            LOGGER.info("config.init_from: the backbone starts from %s", run.init_from)
        norm = _last_norm(backbone, run.embedding_size)
        if not run.train.features_bias and norm is not None:
            freeze_bias(norm)
        elif not run.train.features_bias:
            LOGGER.warning(
                "config.qgface.train.features_bias = False does nothing: %s does not end in a BatchNorm1d", name
            )
        if run.train.channels_last:
            backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch forgets it
        self.backbone = backbone
        if QUEUE_KINDS[run.qgface.queue].keyed:
            self._keys = KeySource(backbone, run.qgface.key_momentum, run.gradient_acc)
        return backbone

    def make_margin(self) -> QGFaceMargin:
        """The recipe's margin head."""
        return QGFaceMargin.from_config(self.run.qgface)

    def make_criterion(
        self, margin: QGFaceMargin, embedding_size: int, num_classes: int, sample_rate: float, fp16: bool
    ) -> CheckoutPartialFC:
        """The criterion over this rank's share of the classes; its centres are those that the built-in loop draws."""
        run = self.run
        torch.manual_seed(run.seed + distributed.rank())  # not the same numbers on every rank, as the checkout has it
        kind = CheckoutPartialFC if self._keys is None else MomentumPartialFC
        paired = run.degradation is not None
        criterion = kind(margin, embedding_size, num_classes, sample_rate, fp16, paired=paired, sample_seed=run.seed)
        criterion.kept = round(run.train.kept_gib * 2**28)  # float32
        criterion.key_source = self._keys
        criterion.quality_source = self._quality
        criterion.max_bad_steps = run.train.max_bad_steps
        criterion.checkpoint = self.checkpoint()
        self.criterion = criterion
        return criterion

    def _quality(self) -> Tensor | None:
        """Quality scores (2B,) of the images that the loop has now; None where the criterion measures them itself."""
        if self.loader is None or self.loader.latest is None or self.loader.images is None:
            return None
        return of_images(self.run.qgface.quality, self.loader.images, self.loader.latest.strengths())

    def make_schedule(self, optimizer: torch.optim.Optimizer, warmup: int, total: int) -> Any:
        """The recipe's learning rate. From here on the optimiser is watched.

        Args:
            optimizer: of backbone and class centres.
            warmup: steps; none for a negative number, as arcface_torch's `warmup_epoch = -1` gives it.
            total: steps of the whole run; milestones, in epochs, become steps.
        """
        self.optimizer = optimizer
        for line in unsupported.by_an_optimizer(self.run, optimizer.param_groups):
            LOGGER.warning(line)
        if self.criterion is not None and self.backbone is not None:
            self.criterion.watch(self.backbone, optimizer, scaled=self._fp16)
            self._check_checkpoint(self.backbone, self.criterion, optimizer)
        train, steps = self.run.train, total // self.run.num_epoch
        self._steps_per_epoch = steps
        for line in header(
            self.run,
            ranks=distributed.world_size(),
            precision="float16" if self._fp16 else "float32",
            steps_per_epoch=steps,
            saves="after each epoch",
            verifies=f"every {self._verifies_every} steps"
            + " (the end of each epoch)" * (self._verifies_every == steps),
        ):
            LOGGER.info(line)
        milestones = [epoch * steps for epoch in train.milestones]
        return build_schedule(optimizer, train.schedule, max(0, round(warmup)), total, milestones, train.gamma)

    def start_log(self, writer: SummaryWriter | None, frequent: int, start_step: int) -> None:
        """Record beside the checkout; rank 0 only."""
        if distributed.rank() == 0:
            self._log = checkout_log(self.run, writer, frequent, start_step, self._steps_per_epoch)

    def record(self, global_step: int, epoch: int, lr: float) -> None:
        """Record a step that is done, with the epoch that it belongs to and its learning rate."""
        if self._log is None or self.criterion is None or self.loader is None or self.loader.latest is None:
            return
        waited = self.loader.prefetcher.take_waited()
        self._log.step(global_step, epoch, lr, self.criterion, self.loader.latest, waited)


def _last_norm(backbone: nn.Module, width: int) -> nn.BatchNorm1d | None:
    """The BatchNorm1d that an embedding leaves through, by position and width: its name differs between backbones."""
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm1d)]
    return norms[-1] if norms and norms[-1].num_features == width and norms[-1].affine else None


def _blamed(error: ImportError) -> str:
    """The failed import and the package, in the innermost frame, that asked for it."""
    frames = traceback.extract_tb(error.__traceback__)
    asked = next((frame.filename for frame in reversed(frames) if not frame.filename.startswith("<")), "")
    return f"{error} ({asked})" if asked else str(error)

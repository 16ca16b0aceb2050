"""Start of a run: the encoder that `config.init_from` names, and what the recipe has to follow it in."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config.run import Run
from ..data.pair_batch import normalise
from ..data.pair_dataset import Originals, PairDataset
from ..models.batchnorm import unfold_batchnorm
from ..models.face_model import Scale
from ..models.onnx_import.network import GRAPH
from ..models.trainable import Trainable, is_pytorch, load_trainable, network_in
from ..utils import distributed
from ..utils.errors import ConfigError
from ..utils.sampling import evenly_spaced

LOGGER = logging.getLogger(__name__)
SAMPLE = 512  # images for the statistics of BatchNorms


def starting_encoder(run: Run) -> tuple[Run, Trainable | None]:
    """The encoder that a run starts from, where the recipe does not say all of it, and the run with its numbers.

    An ONNX file brings its own network, and PyTorch weights do where the recipe names none; `config.network` and
    `config.embedding_size` follow, with a line in the log.

    Args:
        run: the resolved recipe.

    Returns:
        The run, and the encoder; None where there is none, or where the network of the recipe takes its weights.

    Raises:
        ConfigError: settings that do not fit the file.
        CheckpointError: the file cannot be used.
    """
    if run.init_from is None:
        _check_named(run)
        return run, None
    named, source = "network" in run.set_keys, _source(run)
    if is_pytorch(source):
        if run.init_color != "rgb" or run.init_mean is not None:
            raise ConfigError(
                f"config.init_color, init_mean and init_std are for ONNX files, and config.init_from = "
                f"{run.init_from!r} is PyTorch weights, which take RGB in [-1, 1]"
            )
        network = network_in(source)
        if network is None or (named and GRAPH not in (network, run.network)):
            _check_named(run)
            return run, None  # the recipe's network takes the weights, or says why not
        found = load_trainable(source, network=network, features_bias=run.train.features_bias)
    else:
        found = load_trainable(
            source,
            features_bias=run.train.features_bias,
            color=run.init_color,
            scale=_scale(run),
            keep_graph=named and run.network == GRAPH,
        )
    for note in found.notes:
        LOGGER.info("config.init_from = %s: %s", run.init_from, note)
    _say(run, found, named)
    return replace(run, network=found.network, embedding_size=found.size), found


def folded_away(run: Run) -> bool:
    """Whether BatchNorms may be folded away that are to be trained."""
    return run.init_from is not None and run.finetune.batchnorm == "train"


def with_batchnorm(backbone: nn.Module, run: Run, dataset: PairDataset, device: torch.device) -> nn.Module:
    """The backbone with the BatchNorms that an export has folded away, with statistics of a sample of the originals.

    A run that resumes comes here too, and then takes the statistics of its checkpoint.

    Args:
        backbone: on `device`.
        run: the resolved recipe.
        dataset: the training pairs.
        device: that it trains on.
    """
    bar = "BatchNorm" if distributed.rank() == 0 else None
    return unfold_batchnorm(backbone, _sample(run, dataset, device), bar)


def _sample(run: Run, dataset: PairDataset, device: torch.device) -> Iterator[Tensor]:
    """This rank's share of SAMPLE originals, in batches: the sample is the same on any number of ranks."""
    chosen = evenly_spaced(len(dataset), SAMPLE)
    own = chosen[distributed.rank() :: distributed.world_size()]
    originals = Originals(dataset.source, dataset.on_corrupt)
    for start in range(0, len(own), run.batch_size):
        batch = originals.__getitems__([(0, int(index)) for index in own[start : start + run.batch_size]])
        images = normalise(batch.high.to(device))
        yield images.contiguous(memory_format=torch.channels_last) if run.train.channels_last else images


def _source(run: Run) -> str:
    """The file that says what the network is: of a run that resumes, its checkpoint does where `init_from` is gone."""
    assert run.init_from is not None
    checkpoint = Path(run.output) / "checkpoint_gpu_0.pt"
    gone = run.resume and not Path(run.init_from).exists() and not run.qgface.needs_teacher
    return str(checkpoint) if gone and checkpoint.is_file() else run.init_from


def _check_named(run: Run) -> None:
    if run.network == GRAPH:
        raise ConfigError(
            "config.network is 'graph', which is that of an ONNX file: name the file, or a model.pt of such a network, "
            "by config.init_from"
        )


def _say(run: Run, found: Trainable, named: bool) -> None:
    """What follows the file; a warning where the recipe has said something else."""
    for key, value in (("network", found.network), ("embedding_size", found.size)):
        said = getattr(run, key)
        if said != value:
            level = logging.WARNING if key in run.set_keys else logging.INFO
            LOGGER.log(level, "config.%s is %r, as %s has it, and not %r", key, value, found.source, said)


def _scale(run: Run) -> Scale | None:
    if run.init_mean is None or run.init_std is None:
        return None
    return Scale.of(_numbers(run.init_mean), _numbers(run.init_std))


def _numbers(value: float | Sequence[float]) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, (int, float)) else tuple(map(float, value))

"""Backbone weights in and out: every wrapper, every misfit named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qgface_plugin.models.weights import export_backbone, load_backbone
from qgface_plugin.utils.errors import CheckpointError


def backbone(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


class Wrapped(nn.Module):
    """Prefixes as DistributedDataParallel and torch.compile give them."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.add_module(name, inner)


def filled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for i, value in enumerate(module.state_dict().values()):
            value.fill_(i + 1)
    return module


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "wrappers", [(), ("module",), ("_orig_mod",), ("_orig_mod", "module"), ("module", "_orig_mod")]
)
@pytest.mark.parametrize("side", ["file", "backbone", "export"])
def test_wrappers_on_either_side(tmp_path, wrappers, side):
    source, target = filled(backbone()), backbone()
    outer = {"file": source, "export": source, "backbone": target}[side]
    for name in wrappers:
        outer = Wrapped(outer, name)
    if side == "export":
        export_backbone(tmp_path / "model.pt", outer.state_dict())
        assert list(torch.load(tmp_path / "model.pt", weights_only=True)) == list(source.state_dict())
    else:
        torch.save((outer if side == "file" else source).state_dict(), tmp_path / "model.pt")
    load_backbone(tmp_path / "model.pt", outer if side == "backbone" else target)
    assert equal(source, target)


def test_arcface_torchs_checkpoint(tmp_path):
    source, target = filled(backbone()), backbone()
    state = {"epoch": 3, "global_step": 7, "state_dict_backbone": source.state_dict(), "state_optimizer": {}}
    torch.save(state, tmp_path / "checkpoint_gpu_0.pt")
    load_backbone(tmp_path / "checkpoint_gpu_0.pt", target)
    assert equal(source, target)


def test_a_misfit_is_named_and_nothing_is_filled(tmp_path):
    state = {**backbone(5).state_dict(), "2.weight": torch.ones(1), "2.bias": torch.ones(1)}
    del state["1.bias"]
    torch.save(state, tmp_path / "model.pt")
    target = filled(backbone())
    with pytest.raises(CheckpointError) as error:
        load_backbone(tmp_path / "model.pt", target)
    message = str(error.value)
    assert "1 missing (1.bias); 2 unexpected (2.weight, 2.bias)" in message
    assert (
        "5 of another shape (0.weight (5, 3) for (4, 3), 0.bias (5,) for (4,), 1.weight (5,) for (4,), ...)" in message
    )
    assert equal(target, filled(backbone()))


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict_backbone": {"a": 1}}])
def test_a_file_without_a_backbone(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="other.pt"):
        load_backbone(tmp_path / "other.pt", backbone())


# ---
# Weights as other trainers save them.


def put(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


STATE = filled(backbone()).state_dict()
HEAD = torch.full((5, 4), 9.0)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": STATE},
        {"epoch": 3, "model": STATE, "optimizer": {"state": {0: {"exp_avg": HEAD}}, "param_groups": [{"lr": 0.1}]}},
        {"net": STATE, "acc": 0.99},
        {"backbone": STATE, "head": {"weight": HEAD}},
        {"model_state_dict": put("module.", STATE)},
        {"state_dict": {**put("model.", STATE), "head.kernel": HEAD}},
        {"state_dict": {**put("model._orig_mod.", STATE), "model.head.kernel": HEAD}},
        {"state_dict": {"backbone": put("module.", STATE), "classifier": {"weight": HEAD, "bias": HEAD[0]}}},
        {**put("module.backbone.", STATE), "module.head.weight": HEAD},
        {**put("model.module.net.", STATE), "model.module.loss.weight": HEAD},
        {**put("feature_extractor.", STATE), "logits.weight": HEAD},
        {**put("backbone.", STATE), **put("teacher.", STATE)},
        {**STATE, "head.kernel": HEAD},
        {**STATE, "epoch": 3, "note": "x"},
        {"generator_of_features": STATE, "optim": {"momentum": HEAD, "x": HEAD, **put("y", STATE)}},
        {"model": STATE, "model_ema": put("module.", STATE)},
        {name: value.half() if value.is_floating_point() else value for name, value in STATE.items()},
        {name: value for name, value in STATE.items() if not name.endswith("num_batches_tracked")},
        {name: nn.Parameter(value) if value.is_floating_point() else value for name, value in STATE.items()},
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_weights_as_others_save_them(tmp_path, content, new):
    torch.save(content, tmp_path / "other.pth", _use_new_zipfile_serialization=new)
    target = backbone()
    load_backbone(tmp_path / "other.pth", target)
    expected = dict(STATE)
    if "1.num_batches_tracked" not in content and "1.weight" in content:
        expected["1.num_batches_tracked"] = torch.tensor(0)  # as it was
    assert all(torch.equal(value, expected[name]) for name, value in target.state_dict().items())


def test_what_is_left_out_is_said_once(tmp_path, caplog):
    torch.save({**put("model.", STATE), "head.kernel": HEAD}, tmp_path / "other.pth")
    with caplog.at_level("INFO", logger="qgface_plugin"):
        load_backbone(tmp_path / "other.pth", backbone())
    (line,) = [record.getMessage() for record in caplog.records]
    assert "other.pth" in line and "7 parameters under 'model.'" in line and "1 beside them (head.kernel)" in line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**put("student.", STATE), **put("teacher.", STATE)}, "holds 2 backbones, under 'student.', 'teacher.'"),
        ({"student": STATE, "teacher": STATE}, "holds 2 state dicts, 'student', 'teacher'"),
        ({"state_dict": {**put("model.", STATE), "model.extra.weight": HEAD}}, r"1 unexpected \(extra.weight\)"),
        ({"optimizer": {"state": {0: {"exp_avg": HEAD}}}}, "holds no backbone"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path, content, said):
    torch.save(content, tmp_path / "other.pth")
    target = filled(backbone())
    with pytest.raises(CheckpointError, match=f"other.pth .*{said}"):
        load_backbone(tmp_path / "other.pth", target)
    assert equal(target, filled(backbone()))


def test_a_dict_within_itself_is_no_backbone(tmp_path):
    content = {"epoch": 1}
    content["state_dict"] = content
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no backbone"):
        load_backbone(tmp_path / "other.pth", backbone())


def test_tensors_that_share_memory_do_not_expand(tmp_path):
    torch.save({f"{i}.weight": value for i, value in enumerate([torch.ones(5000)] * 100)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="its tensors claim 2000000 bytes"):
        load_backbone(tmp_path / "other.pth", backbone())


def test_names_of_ones_own_network_are_kept(tmp_path):
    """A network whose layers are called `model.` and `head.` is not taken apart."""
    source, target = (nn.ModuleDict({"model": backbone(), "head": nn.Linear(4, 2)}) for _ in range(2))
    filled(source)
    torch.save({"state_dict": put("net.", source.state_dict())}, tmp_path / "other.pth")
    load_backbone(tmp_path / "other.pth", target)
    assert equal(source, target)


def test_a_folder_stands_for_its_model(tmp_path):
    target = backbone()
    with pytest.raises(CheckpointError, match="is a folder without model.pt, and without any other"):
        load_backbone(tmp_path, target)
    torch.save(STATE, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="is a folder without model.pt: name one of its files, last.ckpt"):
        load_backbone(tmp_path, target)
    torch.save(STATE, tmp_path / "model.pt")
    load_backbone(tmp_path, target)
    assert equal(target, filled(backbone()))
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="x.onnx is an ONNX file"):
        load_backbone(tmp_path / "x.onnx", target)
    with pytest.raises(CheckpointError, match="nowhere.pt does not exist"):
        load_backbone(tmp_path / "nowhere.pt", target)

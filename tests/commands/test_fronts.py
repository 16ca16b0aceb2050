"""Scripts of the checkout: each calls the function of its command, under its own name."""

from __future__ import annotations

import runpy
from functools import partial

import pytest
from paths import ROOT, TOOLS

from qgface_plugin.__main__ import MODULES

SCRIPTS = {
    "train_v2.py": "train", "tools/ablation.py": "ablation", "tools/align.py": "align",
    "tools/benchmark.py": "benchmark", "tools/eval_ijb.py": "eval_ijb", "tools/eval_pairs.py": "eval_pairs",
    "tools/eval_scface.py": "eval_scface", "tools/eval_tinyface.py": "eval_tinyface", "tools/export_onnx.py": "export",
    "tools/figures.py": "figures", "tools/inspect_rec.py": "inspect", "tools/make_bin.py": "make_bin",
    "tools/merge_checkpoint.py": "merge_checkpoint", "tools/pack_rec.py": "pack",
    "tools/plan_memory.py": "plan_memory", "tools/report.py": "report",
}  # fmt: skip


def test_every_script_is_here():
    assert {f"tools/{path.name}" for path in TOOLS.glob("*.py")} | {"train_v2.py"} == set(SCRIPTS)
    assert set(SCRIPTS.values()) <= set(MODULES.values())


@pytest.mark.parametrize(("script", "module"), SCRIPTS.items(), ids=SCRIPTS)
def test_a_script_is_a_front_of_its_command(script, module, capsys):
    main = runpy.run_path(str(ROOT / script))["main"]
    assert isinstance(main, partial) and main.func.__module__ == f"qgface_plugin.commands.{module}"
    assert main.func.__name__ == "main" and main.keywords == {"front": script}
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    shown, name = capsys.readouterr().out, script.rpartition("/")[2]
    assert stopped.value.code == 0 and shown.startswith(f"usage: {name} ")
    assert f"qgface {module.replace('_', '-')} " not in shown and f" {script} " in shown
    with pytest.raises(SystemExit) as stopped:
        main(["--no-such-option"])
    assert stopped.value.code == 2 and f"\n{name}: error: " in capsys.readouterr().err

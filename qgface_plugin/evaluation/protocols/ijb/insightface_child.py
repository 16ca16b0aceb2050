"""InsightFace's own `ijb_evals.py`, run as it is in a process of its own; `insightface_tool.py` starts it.

    python insightface_child.py TOOLS_DIR DATA_DIR SUBSET EMBEDDINGS RESULT [--one-to-n] [--all-modes]

EMBEDDINGS is an .npz with `embs` and `embs_f`, or a model file from which the tool makes its own. Its tables go to
stdout, its numbers to RESULT (JSON). Stands alone: of the package only this file is there. The tool imports pandas and
tabulate for reading columns and printing a table; where they are not installed a stand-in does just that.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import sys
import time
import types
from typing import Any

import numpy as np


class Table:
    """What the tool uses of a pandas DataFrame: columns by name, and the rows' names."""

    def __init__(self, columns: dict, index: list | None = None) -> None:
        self.data = {name: list(values) for name, values in columns.items()}
        self.index = list(index) if index is not None else list(range(len(next(iter(self.data.values()), []))))
        self.columns = types.SimpleNamespace(name="")

    @property
    def T(self) -> Table:
        names = list(self.data)
        turned = {row: [self.data[name][at] for name in names] for at, row in enumerate(self.index)}
        return Table(turned, names)

    def __setitem__(self, name: object, values: dict) -> None:
        self.data[name] = [values[row] for row in self.index]

    def __getitem__(self, name: object) -> list:
        return self.data[name]

    def set_index(self, name: object) -> Table:
        turned = Table({key: values for key, values in self.data.items() if key != name}, self.data[name])
        turned.columns.name = name
        return turned

    def to_markdown(self) -> str:
        rows = [[str(self.columns.name), *map(str, self.data)]]
        rows += [[str(row), *(f"{self.data[name][at]:g}" for name in self.data)] for at, row in enumerate(self.index)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
        ]
        return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def read_csv(path: str, sep: str = ",", skiprows: int = 0, header: None = None) -> types.SimpleNamespace:
    """Columns of a text file; integers where all of it is integers."""
    try:
        values = np.loadtxt(path, dtype=np.int64, delimiter=sep, skiprows=skiprows, ndmin=2)
    except ValueError:
        values = np.loadtxt(path, dtype=str, delimiter=sep, skiprows=skiprows, ndmin=2)
    return types.SimpleNamespace(values=values)


def with_pandas() -> None:
    """pandas as it is installed, or the stand-in."""
    if importlib.util.find_spec("pandas") and importlib.util.find_spec("tabulate"):
        return
    pandas = types.ModuleType("pandas")
    vars(pandas).update(DataFrame=Table, Series=dict, read_csv=read_csv)
    sys.modules["pandas"] = pandas


def load(folder: str) -> types.ModuleType:
    """The tool's module, as it stands in `folder`."""
    spec = importlib.util.spec_from_file_location("ijb_evals", f"{folder}/ijb_evals.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("tools", "data", "subset", "embeddings", "result"):
        parser.add_argument(name)
    parser.add_argument("--one-to-n", action="store_true")
    parser.add_argument("--all-modes", action="store_true")
    given = parser.parse_args()
    with_pandas()
    tool = load(given.tools)
    own = not given.embeddings.endswith(".npz")
    model, restored = (given.embeddings, None) if own else (None, given.embeddings)
    test = tool.IJB_test(model, given.data, given.subset, force_reload=True, restore_embs=restored)
    started, processor = time.perf_counter(), time.process_time()
    if given.all_modes:
        scores, names = test.run_model_test_bunch()
    else:
        scores, names = [test.run_model_test_single()], ["N0D1F1"]
    table, _ = tool.plot_roc_and_calculate_tpr(scores, names=names, label=test.label)
    fars = [10.0**-power for power in range(6, 0, -1)]
    modes = {}
    for at, name in enumerate(names):
        values = [float(table[column][at]) for column in table.data] if isinstance(table, Table) else None
        values = values or [float(value) for value in table.loc[name].tolist()]
        modes[name] = {"fars": fars, "tar": values[:-1], "auc": values[-1]}
    result = {"one_to_one": modes, "seconds": time.perf_counter() - started}  # from features to tables, 1:1
    result["processor_seconds"] = time.process_time() - processor
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if given.one_to_n:
        result["one_to_n"] = identification(tool, test)
    with open(given.result, "w") as file:
        json.dump(result, file)


def identification(tool: Any, test: Any) -> dict:
    """The tool's 1:N test, with the counts that it prints and forgets, one entry per gallery."""
    counted = []
    original = tool.evaluation_1N

    def evaluation(query_feats, gallery_feats, query_ids, reg_ids, fars):
        result = original(query_feats, gallery_feats, query_ids, reg_ids, fars)
        mated = int(np.isin(query_ids, reg_ids).sum())
        top = {str(k): int(count) / mated for k, count in zip((1, 5, 10), result[:3], strict=True)}
        tpir = {str(fpir): float(result[4][int(np.argmin(np.abs(np.array(fars) - fpir)))]) for fpir in (0.01, 0.1)}
        counted.append({"top": top, "tpir": tpir, "mated": mated})
        return result

    tool.evaluation_1N = evaluation
    test.run_model_test_1N()
    return {"galleries": counted}


if __name__ == "__main__":
    del sys.path[0]  # this folder: its images.py or tables.py must not be found in the place of what the tool imports
    main()

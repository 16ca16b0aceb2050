"""qgface settings as a user types it."""

from __future__ import annotations

import json
import re

from qgface_plugin.commands.settings import main
from qgface_plugin.config.reference import every_key


def test_one_key(capsys):
    assert main(["b"]) == 0
    assert capsys.readouterr().out == (
        "config.qgface:\n  b = 0.2    [float, 0 to 1]\n"
        "      threshold on u = (zhat + 1) / 2; 0 leaves every view in the classification\n"
    )


def test_all_of_them(capsys):
    assert main([]) == 0
    shown = re.findall(r"^  (\w+) = ", capsys.readouterr().out, re.MULTILINE)
    assert shown == [key.name for key in every_key()]


def test_as_json(tmp_path, capsys):
    path = tmp_path / "settings.json"
    assert main(["sigma_rule", "--json", str(path)]) == 0
    assert json.loads(path.read_text())["settings"] == [
        {
            "key": "config.qgface.sigma_rule", "default": '"floor"', "choices": ['"floor"', '"add"'], "allowed": "",
            "meaning": "division by sigma: max(sigma, 1e-3) or sigma + 1e-3",
        }
    ]  # fmt: skip
    assert '"floor"    ["floor", "add"]' in capsys.readouterr().out


def test_a_word_that_nothing_has(tmp_path, capsys):
    assert main(["nuum_epoch"]) == 2
    assert "no setting is called 'nuum_epoch'" in (said := capsys.readouterr().err) and "did you mean num_epoch" in said
    mine = tmp_path / "mine.json"
    mine.write_text('{"of": "mine"}')
    assert main(["lr", "--json", str(mine)]) == 2 and mine.read_text() == '{"of": "mine"}'

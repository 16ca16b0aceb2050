"""qgface recipe as a user types it."""

from __future__ import annotations

import pytest

from qgface_plugin.commands.recipe import main
from qgface_plugin.config.packaged import packaged_names, packaged_recipe, working_copy


def test_the_list(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(packaged_names())
    assert all(line.endswith(about) for line, about in zip(lines, packaged_names().values(), strict=True))


@pytest.mark.parametrize("name", ["paper/table1_a", "paper/table1_a.py", "recipes/paper/table1_a.py"])
def test_a_copy_on_standard_output(name, capsys):
    assert main([name]) == 0
    assert capsys.readouterr().out == working_copy(packaged_recipe("paper/table1_a"))


def test_a_copy_in_a_new_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart", "-o", "mine/first.py"]) == 0
    text = (tmp_path / "mine" / "first.py").read_text()
    assert "qgface train mine/first.py" in text and capsys.readouterr().out == "saved: mine/first.py\n"
    assert main(["qgface_r34", "-o", "mine/first.py"]) == 2
    assert "mine/first.py is there already" in capsys.readouterr().err
    assert (tmp_path / "mine" / "first.py").read_text() == text


def test_names_that_are_none(capsys):
    assert main(["qgface_r33"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "no recipe qgface_r33 in the package: did you mean qgface_r34 or" in said.err
    assert main(["zzz"]) == 2 and "`qgface recipe` lists them" in capsys.readouterr().err

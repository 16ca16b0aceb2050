"""Recipes that come with the package: by name, from anywhere, installed or in a checkout of the project."""

from __future__ import annotations

import ast
import os
from pathlib import Path, PurePath

PACKAGE = Path(__file__).resolve().parents[1]


def recipe_folder() -> Path:
    """The folder of the recipes: in the package where it is installed, else the one of the checkout."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parent / "recipes"


def checkout() -> Path | None:
    """The checkout of the project that this package is in; None where it is installed without one."""
    return None if (PACKAGE / "recipes").is_dir() else PACKAGE.parent


def packaged_recipe(name: str | os.PathLike[str]) -> Path | None:
    """The file of a recipe of the package, or None where there is none of that name.

    Args:
        name: such as "qgface_r34" or "paper/table1_a", with or without .py; `../` in front of it is passed over.

    Example:
        >>> packaged_recipe("paper/table1_a").name, packaged_recipe("../qgface_r34.py").name, packaged_recipe("none")
        ('table1_a.py', 'qgface_r34.py', None)
    """
    parts = PurePath(name).parts
    while parts and parts[0] == "..":
        parts = parts[1:]
    if not parts or PurePath(name).is_absolute() or ".." in parts:
        return None
    path = recipe_folder().joinpath(*parts)
    path = path if path.suffix == ".py" else path.with_name(f"{path.name}.py")
    return path if path.is_file() else None


def packaged_names() -> dict[str, str]:
    """All recipes of the package: name, and the first line of what the file says about itself."""
    folder = recipe_folder()
    files = sorted(folder.rglob("*.py"), key=lambda path: (path.parent != folder, path))
    return {path.relative_to(folder).with_suffix("").as_posix(): _first_line(path) for path in files}


def working_copy(path: Path, file: str = "my_recipe.py") -> str:
    """The text of a recipe of the package as a file of the user's own, which loads wherever it is kept.

    Args:
        path: the recipe, as `packaged_recipe` finds it.
        file: what the copy is called, for the commands in it.
    """
    text = path.read_text(encoding="utf-8")
    folder = recipe_folder()
    lines = text.splitlines(keepends=True)
    for call in ast.walk(ast.parse(text)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "load_config":
            base = call.args[1]
            assert isinstance(base, ast.Constant) and base.lineno == base.end_lineno  # as all recipes have it
            name = (path.parent / str(base.value)).resolve().relative_to(folder.resolve()).as_posix()
            line = lines[base.lineno - 1].encode()
            lines[base.lineno - 1] = (
                line[: base.col_offset] + f'"{name}"'.encode() + line[base.end_col_offset :]
            ).decode()
    called = path.relative_to(folder).as_posix()
    return (
        "".join(lines)
        .replace(f"python train_v2.py recipes/{called}", f"qgface train {file}")
        .replace(f"train_v2.py recipes/{called}", f"-m qgface_plugin train {file}")
    )


def _first_line(path: Path) -> str:
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return about.partition("\n")[0]

"""Build of the wheel: setup.cfg says what is in it, and recipes/ goes beside the modules, as qgface_plugin/recipes."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class BuildWithRecipes(build_py):
    """Modules, and the recipes as files beside them. An editable installation finds those of the checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._recipes():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What `run` writes."""
        outputs: list[str] = super().get_outputs(include_bytecode)
        return outputs + ([] if self.editable_mode else [str(target) for _, target in self._recipes()])

    def _recipes(self) -> list[tuple[Path, Path]]:
        folder, place = HERE / "recipes", Path(self.build_lib) / "qgface_plugin" / "recipes"
        return [(path, place / path.relative_to(folder)) for path in sorted(folder.rglob("*.py"))]


setup(cmdclass={"build_py": BuildWithRecipes})

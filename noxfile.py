"""The tests on other stacks: an environment of its own for each, below .nox.

`nox -l` lists them, `nox -s "tests(lowest)"` runs one, `nox -s tests` all of them, and `-- tests/utils -x` goes to
pytest. An interpreter that is missing is fetched by uv where it may. UV_TORCH_BACKEND=cpu takes PyTorch without CUDA.
docs/install.md has what they gave.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests"]

# Name: Python, PyTorch; an empty one is left to what else is asked for. The workflow of the same names repeats them.
STACKS = {
    "lowest": ("3.10", "2.4.0"),
    "torch-2.6": ("3.11", "2.6.0"),
    "torch-2.9": ("3.12", "2.9.1"),
    "pinned": ("3.13", ""),
    "newest": ("3.14", ""),
}
INSIGHTFACE = "insightface==2.1"  # without what it asks for: a second OpenCV


@nox.session
@nox.parametrize("python, stack", [nox.param(python, name, id=name) for name, (python, _) in STACKS.items()])
def tests(session: nox.Session, stack: str) -> None:
    """All tests but the long ones."""
    torch = STACKS[stack][1]
    wanted = [f"torch=={torch}"] if torch else []
    if stack == "lowest":  # the lower end of every range that the package has; pytest and its like are today's
        session.install("--resolution=lowest-direct", "-e", ".[eval,logging,foreign]", *wanted)
    elif stack == "pinned":
        wanted = ["-c", "constraints.txt"]
    session.install("-e", ".[test,eval]", *wanted)
    session.install("--no-deps", INSIGHTFACE)
    session.run("python", "-m", "pytest", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """What `make lint` looks at."""
    session.install("-e", ".[test,eval,docs]", "-c", "constraints.txt")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-logo")

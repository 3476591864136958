"""What gets built: the wheel holds recipes and assets, and finds them from an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import tabom_cli

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.relative_to(ROOT / "recipes") for path in (ROOT / "recipes").rglob("*.yaml"))

LIST = """
import tabom_cli
from tabom_cli.assets import tiny_path
from tabom_cli.core.recipe import list_recipes, load_recipe
print(tabom_cli.__file__)
for recipe in list_recipes():
    assert load_recipe(recipe.name).recipe.name == recipe.name
    print(recipe.name)
assert (tiny_path() / "tokenizer.json").is_file()
"""


def run(command: list[str], cwd: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(what: list[str], folder: Path) -> None:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    options = ["--no-isolation", *what, "--outdir", str(folder), str(ROOT)]
    run([sys.executable, "-m", "build", *options], folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly built wheel."""
    folder = tmp_path_factory.mktemp("dist")
    build(["--wheel"], folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed into a folder of its own; other packages come from this environment."""
    target = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index"]
    run([*pip, "--no-deps", "--target", str(target), str(wheel)], target)
    return target


def test_the_wheel_holds_code_recipes_and_assets_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for recipe in RECIPES:
            source = (ROOT / "recipes" / recipe).read_bytes()
            assert archive.read(f"tabom_cli/recipes/{recipe}") == source
    version = tabom_cli.__version__
    assert {name.split("/")[0] for name in names} == {"tabom_cli", f"tabom-{version}.dist-info"}
    tracked = run(["git", "-C", str(ROOT), "ls-files", "tabom_cli"], ROOT).split()
    assert set(tracked) <= names
    assert "tabom_cli/assets/tiny/tokenizer.json" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert wheel.stat().st_size < 20 * 2**20


def test_the_wheel_describes_itself(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"tabom-{tabom_cli.__version__}.dist-info"
        text = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert "tabom = tabom_cli.main:run" in scripts
    for line in (
        "Name: tabom",
        f"Version: {tabom_cli.__version__}",
        "Author: tabom contributors",
        "License-Expression: Apache-2.0",
        "Requires-Python: >=3.11",
    ):
        assert line in text.splitlines()
    needed = [line for line in text.splitlines() if line.startswith("Requires-Dist: bubblewrap")]
    assert len(needed) == 1
    assert "sys_platform == 'linux'" in needed[0].replace('"', "'")


def test_an_installed_wheel_lists_its_recipes_from_an_empty_folder(
    installed: Path, tmp_path: Path
) -> None:
    script = installed / "bin" / "tabom"
    shown = run([str(script), "recipes", "list"], tmp_path, PYTHONPATH=str(installed))
    names = [line.split("│")[0].strip() for line in shown.splitlines()[2:]]
    assert names == [path.stem for path in RECIPES]
    lines = run([sys.executable, "-c", LIST], tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert Path(lines[0]) == installed / "tabom_cli" / "__init__.py"
    assert lines[1:] == names
    assert list(tmp_path.iterdir()) == []


def test_an_installed_wheel_plans_a_run_and_copies_a_recipe(
    installed: Path, tmp_path: Path
) -> None:
    script = str(installed / "bin" / "tabom")
    plan = run(
        [script, "train", "--recipe", "tiny", "--dry-run"], tmp_path, PYTHONPATH=str(installed)
    )
    assert "trained" in plan
    assert "launch" in plan
    run([script, "recipes", "copy", "tiny", "mine.yaml"], tmp_path, PYTHONPATH=str(installed))
    assert (tmp_path / "mine.yaml").read_bytes() == (ROOT / "recipes" / "tiny.yaml").read_bytes()


def test_a_checkout_finds_its_recipes_without_an_install(tmp_path: Path) -> None:
    lines = run([sys.executable, "-c", LIST], tmp_path, PYTHONPATH=str(ROOT)).splitlines()
    assert Path(lines[0]) == ROOT / "tabom_cli" / "__init__.py"
    assert lines[1:] == [path.stem for path in RECIPES]


def test_an_editable_install_finds_its_recipes(tmp_path: Path) -> None:
    direct = metadata.distribution("tabom").read_text("direct_url.json")
    if not direct or not json.loads(direct).get("dir_info", {}).get("editable"):
        pytest.skip("tabom is not installed editable here")
    script = Path(sys.executable).parent / "tabom"
    shown = run([str(script), "recipes", "list"], tmp_path)
    assert [line.split("│")[0].strip() for line in shown.splitlines()[2:]] == [
        path.stem for path in RECIPES
    ]


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    build(["--sdist"], tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for name in ("LICENSE", "README.md", "Makefile", "recipes/tiny.yaml", "tests/conftest.py"):
        assert (folder / name).is_file(), name
    again = tmp_path / "again"
    options = ["--no-isolation", "--wheel", "--outdir", str(again), str(folder)]
    run([sys.executable, "-m", "build", *options], tmp_path)
    (rebuilt,) = again.glob("*.whl")
    with zipfile.ZipFile(rebuilt) as one, zipfile.ZipFile(wheel) as other:
        assert set(one.namelist()) == set(other.namelist())


def test_the_version_in_the_package_is_the_only_one() -> None:
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert tabom_cli.__version__.count(".") == 2

"""The shell scripts, with a fake Python that records its calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))

# Answers the checks of environment.sh like the given version, creates virtual environments by copying itself, and
# records every other call in calls.txt.
FAKE_PYTHON = """#!/bin/bash
here=$(cd "$(dirname "$0")" && pwd)
case "$*" in
*version_info*) {suitable} ;;
*ensurepip*) {ensurepip} ;;
*"import pip"*) exit 0 ;;
--version) echo Python {version} ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*)
    echo "$*" >>"{calls}"
    case "$*" in
    *"pip install"*) echo "PYTHONPATH=${{PYTHONPATH:-}}" >>"{calls}.path"; {pip} ;;
    *train.py*) {train}; mkdir -p "{output}/run/ckpt_0" "{output}/run/summary"
        touch -d "1 minute ago" "{output}/run/ckpt_0/yolov3-1_25.ckpt"
        touch "{output}/run/ckpt_0/yolov3-2_50.ckpt" "{output}/run/ckpt_0/yolov3-2_50.state.ckpt" ;;
    *eval.py*) echo "Average Precision"; mkdir -p "{output}/run/eval_1/pictures" ;;
    *"ruff check"*) {ruff} ;;
    esac ;;
esac
"""

TOOLS = ("bash", "sh", "dirname", "basename", "sed", "cmp", "cp", "mkdir", "rm", "touch", "tail", "tr", "cut")


class Clone:
    """A copy of the scripts in a folder with a space in its name, and the fake Python on PATH."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"
        self.calls = folder / "calls.txt"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        shutil.copytree(ROOT / ".ci", self.root / ".ci")
        for name in ("requirements.txt", "requirements-test.txt", "requirements-ascend.txt"):
            shutil.copy(ROOT / name, self.root)
        (self.root / "configs").mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        (self.bin / "sleep").write_text(f"#!/bin/bash\nexec {shutil.which('sleep')} 0.02\n", encoding="utf-8")
        (self.bin / "sleep").chmod(0o755)
        self.install()

    def install(self, name="python3", version="3.11.7", **behaviour) -> Path:
        minor = int(version.split(".")[1])
        answers = {
            "version": version,
            "suitable": f"exit {int(not 10 <= minor <= 12)}",
            "calls": self.calls,
            "output": self.root / "outputs" / "quickstart",
            **{part: "true" for part in ("pip", "train", "ruff")},
            "ensurepip": "exit 0",
            **behaviour,
        }
        path = self.bin / name
        path.write_text(FAKE_PYTHON.format(**answers), encoding="utf-8")
        path.chmod(0o755)
        return path

    def run(self, script: str, *arguments: str, shell: str = "bash", cwd: Path | None = None, **environment: str):
        return subprocess.run(
            [shell, str(self.root / script), *arguments],
            cwd=cwd or self.root,
            env={"PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def called(self) -> list[str]:
        return self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path)


def test_shellcheck():
    shellcheck = Path(sys.executable).parent / "shellcheck"
    found = str(shellcheck) if shellcheck.exists() else shutil.which("shellcheck")
    if not found:
        pytest.skip("shellcheck is absent: pip install -r requirements-test.txt")
    files = [*map(str, SCRIPTS), ".ci/run"]
    done = subprocess.run([found, "-x", *files], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_ci_only_calls_the_test_script():
    lines = [line for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert len(lines) == 1 and "scripts/test.sh" in lines[0]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_quickstart_runs_all_steps_and_prints_the_output_paths(clone, tmp_path, shell):
    done = clone.run("scripts/quickstart.sh", "--max_epoch", "2", shell=shell, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    install, doctor, shapes, train, evaluation = clone.called()
    assert install.startswith("-m pip install ") and install.endswith(f"-r {clone.root}/requirements.txt")
    assert doctor == "-m msdet doctor --quiet"
    assert shapes == f"-m msdet shapes --output {clone.root}/outputs/shapes --size 192"
    output = clone.root / "outputs" / "quickstart"
    assert train == (
        f"{clone.root}/train.py --config {clone.root}/configs/yolov3_shapes.yaml "
        f"--data_dir {clone.root}/outputs/shapes --ckpt_path {output} --device_target CPU --max_epoch 2"
    )
    run = output / "run"
    newest = run / "ckpt_0" / "yolov3-2_50.ckpt"
    assert evaluation.startswith(f"{clone.root}/eval.py --config {run}/config.yaml --pretrained {newest} ")
    for place in (newest, run / "summary" / "curves.png", run / "eval_1" / "pictures"):
        assert str(place) in done.stdout
    assert "Average Precision" in done.stdout and "minutes" in done.stdout


@pytest.mark.parametrize("flag_format", ["--data_dir {}", "--data_dir={}"])
def test_quickstart_with_a_dataset_of_the_user(clone, tmp_path, flag_format):
    (tmp_path / "my coco").mkdir()
    arguments = ["--data_dir", "my coco"] if " " in flag_format else ["--data_dir=my coco"]
    assert clone.run("scripts/quickstart.sh", *arguments, cwd=tmp_path).returncode == 0
    assert not [call for call in clone.called() if "msdet.data.synthetic.shapes" in call]
    assert " --data_dir my coco " in clone.called()[2]
    missing = clone.run("scripts/quickstart.sh", "--data_dir", "nowhere")
    assert missing.returncode == 1 and "--data_dir nowhere is not a folder" in missing.stderr
    assert "needs a value" in clone.run("scripts/quickstart.sh", "--data_dir").stderr


def test_quickstart_stops_if_training_fails(clone):
    clone.install(train="exit 3")
    done = clone.run("scripts/quickstart.sh")
    assert done.returncode == 3 and "--resume auto" in done.stderr
    assert "eval.py" not in "".join(clone.called())


def test_help_installs_nothing(clone):
    for script in ("scripts/quickstart.sh", "scripts/test.sh"):
        done = clone.run(script, "--help")
        assert done.returncode == 0 and f"bash {script}" in done.stdout
    assert not (clone.root / ".venv").exists()


def test_second_run_installs_nothing(clone):
    assert clone.run("scripts/quickstart.sh").returncode == 0
    assert clone.run("scripts/quickstart.sh").returncode == 0
    assert sum("pip install" in call for call in clone.called()) == 1
    (clone.root / "requirements.txt").write_text("other\n", encoding="utf-8")
    assert clone.run("scripts/quickstart.sh").returncode == 0
    assert sum("pip install" in call for call in clone.called()) == 2


def test_failed_installation_is_reported_and_repeated(clone):
    clone.install(pip="echo no matching distribution; exit 1")
    done = clone.run("scripts/quickstart.sh")
    assert done.returncode == 1
    assert "no matching distribution" in done.stderr and "install.log" in done.stderr
    clone.install()
    done = clone.run("scripts/quickstart.sh")
    assert done.returncode == 0 and "recreating it" in done.stdout


def test_broken_venv_is_recreated_unless_it_is_the_users(clone):
    assert clone.run("scripts/quickstart.sh").returncode == 0
    (clone.root / ".venv" / "bin" / "python").unlink()
    done = clone.run("scripts/quickstart.sh")
    assert done.returncode == 0 and "recreating it" in done.stdout
    shutil.rmtree(clone.root / ".venv")
    (clone.root / ".venv" / "precious").mkdir(parents=True)
    done = clone.run("scripts/quickstart.sh")
    assert done.returncode == 1 and "was not created by this script" in done.stderr
    assert (clone.root / ".venv" / "precious").exists()


def test_suitable_python_is_found_after_an_unsuitable_one(clone):
    clone.install(version="3.13.1")
    done = clone.run("scripts/quickstart.sh")
    assert done.returncode == 1 and "no Python 3.11 or 3.12 on PATH (python3 is Python 3.13.1)" in done.stderr
    assert not (clone.root / ".venv").exists()
    clone.install("python3.12", version="3.12.1")
    done = clone.run("scripts/quickstart.sh")
    assert done.returncode == 0 and "Python 3.12.1" in done.stdout


def test_cann_packages_stay_on_the_path(clone, tmp_path):
    cann = tmp_path / "cann 8.5"
    kept = f"{cann}/python/site-packages:{cann}/opp/built-in/op_impl/ai_core/tbe"
    done = clone.run(
        "scripts/quickstart.sh", PYTHONPATH=f"/else/packages:{kept}:{cann}.old/python", ASCEND_HOME_PATH=f"{cann}/"
    )
    assert done.returncode == 0, done.stderr
    assert "requirements-ascend.txt" in clone.called()[0]
    assert clone.calls.with_suffix(".txt.path").read_text() == f"PYTHONPATH={kept}\n"


def test_packages_of_other_installations_are_removed_from_the_path(clone):
    assert clone.run("scripts/quickstart.sh", PYTHONPATH="/else/packages").returncode == 0
    assert "requirements-ascend.txt" not in clone.called()[0]
    assert clone.calls.with_suffix(".txt.path").read_text() == "PYTHONPATH=\n"


def test_no_python_at_all(clone):
    (clone.bin / "python3").unlink()
    done = clone.run("scripts/test.sh")
    assert done.returncode == 1 and "apt-get install python3.11" in done.stderr


def test_python_variable(clone, tmp_path):
    mine = clone.install("mine", version="3.11.2")
    done = clone.run("scripts/quickstart.sh", PYTHON=str(mine))
    assert done.returncode == 0 and "Python 3.11.2" in done.stdout
    shutil.rmtree(clone.root / ".venv")
    done = clone.run("scripts/quickstart.sh", PYTHON=str(tmp_path / "none"))
    assert done.returncode == 1 and "none is not a working Python" in done.stderr


def test_python_without_venv_is_reported(clone):
    clone.install(ensurepip="exit 1")
    done = clone.run("scripts/test.sh")
    assert done.returncode == 1 and "apt-get install python3-venv" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_test_script_runs_linters_and_tests(clone, tmp_path, shell):
    done = clone.run("scripts/test.sh", "--slow", "-k", "two words", shell=shell, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    install, *rest = clone.called()
    assert "requirements-test.txt" in install
    linters = ["-m ruff check .", "-m ruff format --check .", "-m mypy"]
    assert rest == [*linters, "-m pytest -n 2 --dist loadfile --slow -k two words"]


def test_test_script_installs_a_compiler_or_reports_it(clone):
    done = clone.run("scripts/test.sh")
    assert done.returncode == 0 and "there is no g++: tests/ascend is skipped" in done.stdout
    apt = clone.bin / "apt-get"
    apt.write_text(f'#!/bin/bash\ncase $1 in install) printf "#!/bin/bash\\n" >"{clone.bin}/g++" ;; esac\n')
    apt.chmod(0o755)
    (clone.bin / "chmod").symlink_to(shutil.which("chmod"))
    apt.write_text(apt.read_text() + f'[ "$1" != install ] || chmod 755 "{clone.bin}/g++"\n')
    done = clone.run("scripts/test.sh")
    is_root = os.geteuid() == 0
    assert done.returncode == 0 and (clone.bin / "g++").exists() == is_root
    assert ("there is no g++" in done.stdout) != is_root


def test_test_script_reports_all_failures_at_the_end(clone):
    clone.install(ruff="exit 1")
    done = clone.run("scripts/test.sh")
    assert done.returncode == 1 and "failed: ruff check\n" in done.stderr
    assert clone.called()[-1].startswith("-m pytest")


def test_ci(clone, tmp_path):
    assert clone.run(".ci/run", shell="sh", cwd=tmp_path).returncode == 0
    assert clone.called()[-1] == "-m pytest -n 2 --dist loadfile"


@pytest.mark.parametrize("name", ["environment.sh", "launch.sh"])
def test_cdpath_has_no_effect(tmp_path, name):
    """With CDPATH set, `cd` prints the folder and may find one of the same name elsewhere."""
    (tmp_path / "scripts").mkdir()
    command = f'. scripts/{name} >/dev/null 2>&1; printf "%s" "$root"'
    found = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env={**os.environ, "CDPATH": f"{tmp_path}:."}, capture_output=True, text=True
    )
    assert found.stdout == str(ROOT)

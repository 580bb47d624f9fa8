"""Loading a configuration file: as it is, once, with what lies beside it; and what is said of one that can not be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtree.compat.truss_train import ConfigError, TrainingProject, load_config
from runtree.errors import Invalid

DOCUMENT = Path(__file__).parent / "samples" / "loading.md"
CONFIG = """\
from truss_train import Image, Runtime, TrainingJob, TrainingProject

job = TrainingJob(image=Image(base_image="i"), runtime=Runtime(start_commands=["python train.py"]))
project = TrainingProject(name="p", job=job)
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration, and what lies beside it, into a folder that is not the working directory."""

    def write(source: str, **beside: str) -> Path:
        folder = tmp_path / "training"
        folder.mkdir(exist_ok=True)
        for name, text in {"config": source, **beside}.items():
            (folder / f"{name}.py").write_text(text)
        return folder / "config.py"

    return write


def test_the_documents_complete_configuration_is_loaded_as_it_stands(write: Write) -> None:
    (complete,) = re.findall(r"```python\n(from truss_train.*?)```", DOCUMENT.read_text(), re.DOTALL)
    loaded = set(sys.modules)
    project = load_config(write(complete))
    assert project.name == "my-training-project"
    loading = project.job.runtime.load_checkpoint_config
    assert loading is not None
    assert loading.model_dump() == {
        "enabled": True,
        "checkpoints": [{"typ": "baseten_latest_checkpoint", "job_id": "previous_job_id", "project_name": None}],
        "download_folder": "/tmp/loaded_checkpoints",
    }
    assert project.job.runtime.checkpointing_config.checkpoint_path == "/tmp/training_checkpoints"
    assert set(sys.modules) == loaded


def test_the_configuration_that_truss_makes_is_loaded_as_it_stands(write: Write, real_truss: Path) -> None:
    project = load_config(write((real_truss / "truss" / "templates" / "train" / "config.py").read_text()))
    assert project.job.compute.model_dump()["accelerator"] == {"accelerator": "H100", "count": 1}


def test_a_project_under_two_names_is_one(write: Write) -> None:
    # The real loader says: Multiple `<class …>`s were found.
    assert load_config(write(CONFIG + "training_project = project\n")).name == "p"


def test_what_lies_beside_the_file_can_be_imported_and_is_forgotten(write: Write, tmp_path: Path) -> None:
    source = CONFIG + "from shared_names import NAME\nproject.name = NAME\n"
    assert load_config(write(source, shared_names="NAME = 'one'\n")).name == "one"
    assert load_config(write(source, shared_names="NAME = 'two'\n")).name == "two"
    assert "shared_names" not in sys.modules
    assert "config" not in sys.modules
    assert str(tmp_path / "training") not in sys.path
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == ["config.py", "shared_names.py"]


def test_what_is_for_a_script_is_not_run(write: Write) -> None:
    assert load_config(write(CONFIG + "if __name__ == '__main__':\n    raise SystemExit(3)\n")).name == "p"


def test_dataclasses_of_the_file_find_their_module(write: Write) -> None:
    source = "from __future__ import annotations\nimport dataclasses\n" + CONFIG
    source += "@dataclasses.dataclass\nclass Size:\n    layers: dataclasses.InitVar[int] = 2\n"
    assert load_config(write(source)).name == "p"


@pytest.mark.parametrize(
    ("source", "said", "hint"),
    [
        ("import os\n", "config.py: no TrainingProject at the top level of the file", 'project = TrainingProject(name="…", job=…)'),
        (CONFIG.replace("\nproject", "\nif False: project"), "config.py: no TrainingProject", "job=job)"),
        (CONFIG + "other = TrainingProject(name='q', job=job)\n", "config.py: 2 TrainingProjects, project, other", "has one"),
        ("x = 1\nx.y\n", "config.py:2: AttributeError: 'int' object has no attribute 'y'", ""),
        ("x = (\n", "config.py:1: SyntaxError: '(' was never closed", ""),
        ("raise SystemExit('no GPU')\n", "config.py:1: SystemExit: no GPU", ""),
        (
            "from truss_train import Runtime\n\nRuntime(\n    start_command=[],\n)\n",
            "config.py:3: Runtime: start_command: Extra inputs are not permitted",
            "did you mean start_commands?",
        ),
        (
            "from truss_train import BasetenCheckpoint\nBasetenCheckpoint.from_latest_checkpoint()\n",
            "config.py:2: from_latest_checkpoint() needs the job or the project whose latest checkpoint is meant",
            'from_latest_checkpoint(job_id="…")',
        ),
        ("from truss_train import Trainer\n", "config.py:1: ImportError: cannot import name 'Trainer' from", "classes="),
        ("import truss.remote\n", "config.py:1: ModuleNotFoundError: No module named 'truss.remote'", 'classes="truss_train"'),
        (CONFIG + "import truss_train\ntruss_train.push()\n", "config.py:6: push() sends a job", "runtree train config.py"),
        ("open('data.txt')\n", "config.py:1: FileNotFoundError", ""),
        ("open('config.py')\n", "config.py:1: FileNotFoundError", "relative to the working directory: cd "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_and_line(write: Write, source: str, said: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(source))
    assert said in error.value.message
    assert error.value.message.startswith(os.sep)
    assert hint in (error.value.hint or "")
    assert isinstance(error.value, Invalid)


def test_an_error_beside_the_file_is_said_where_it_is(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"training/shared_names.py:2: ZeroDivisionError: division by zero"):
        load_config(write("import shared_names\n", shared_names="\n1 / 0\n"))
    with pytest.raises(ConfigError, match=r"training/shared_names.py:1: SyntaxError: invalid syntax"):
        load_config(write("import shared_names\n", shared_names="a b\n"))


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.py: No such file or directory"):
        load_config(tmp_path / "nothing.py")
    with pytest.raises(ConfigError, match=r"Is a directory"):
        load_config(tmp_path)


#: Where the real package is installed: which classes a file gets, and what install does.
BESIDE_THE_REAL = """
import os, sys
from runtree.compat import truss_train as ours

path = sys.argv[1]
project = ours.load_config(path)
assert type(project) is ours.TrainingProject and "truss_train" not in sys.modules and "pydantic" not in sys.modules
assert ours.install() is False and "truss_train" not in sys.modules

converted = ours.load_config(path, classes="truss_train")
import truss_train as real
assert real.__file__.startswith(os.environ["REAL"])
assert type(converted) is ours.TrainingProject and converted == project and converted.job == project.job

assert ours.load_config(path) == project
assert sys.modules["truss_train"] is real and ours.install() is False
print(converted.job.model_dump())
"""


def test_beside_the_real_package_a_file_gets_the_classes_that_are_asked_for(write: Write, real_truss: Path) -> None:
    source = CONFIG + (
        "from truss_train import BasetenCheckpoint, LoadCheckpointConfig, SecretReference, WeightsSource\n"
        "from truss_train.definitions import AvailabilityModel, Compute\n"
        "job.compute = Compute(accelerator='H100:8', availability_model=AvailabilityModel.SPOT)\n"
        "named = BasetenCheckpoint.from_named_checkpoint('c', 'j')\n"
        "job.runtime = Runtime(enable_cache=True, environment_variables={'A': 'b', 'S': SecretReference(name='s')},\n"
        "    load_checkpoint_config=LoadCheckpointConfig(enabled=True, checkpoints=[named]))\n"
        "job.weights = [WeightsSource(source='hf://a', mount_location='/m')]\n"
    )
    done = _python(
        BESIDE_THE_REAL, write(source), PYTHONPATH=os.pathsep.join([*sys.path, str(real_truss)]), REAL=str(real_truss)
    )
    assert done.returncode == 0, done.stderr
    assert "'accelerator': 'H100', 'count': 8" in done.stdout


WITHOUT_IT = """
import sys
from runtree.compat import truss_train as ours

assert ours.install() is True and ours.install() is True
import truss_train
from truss_train import *
from truss_train import definitions
from truss.base import truss_config
from truss import truss_config as same
import truss.base.truss_config

assert TrainingProject is ours.TrainingProject and definitions.Compute is Compute
assert same is truss_config and truss_config.AcceleratorSpec(accelerator="L4").model_dump() == "L4"
assert "install" not in globals() and "Plan" not in globals()
try:
    ours.load_config(sys.argv[1], classes="truss_train")
except ours.ConfigError as error:
    print(error)
"""


def test_without_the_real_package_install_makes_it_importable(write: Write) -> None:
    done = _python(WITHOUT_IT, write("x = 1\n"))
    assert done.returncode == 0, done.stderr
    assert "the real truss_train is not installed" in done.stdout


def test_a_project_is_what_load_config_says_it_returns(write: Write) -> None:
    assert type(load_config(str(write(CONFIG)))) is TrainingProject


def _python(program: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )

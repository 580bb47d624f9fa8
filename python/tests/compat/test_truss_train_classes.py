"""The classes beside the real ones: the same fields, the same answer to every value, the same dumps."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtree.compat import truss_train
from runtree.compat.truss_train import definitions, truss_config
from runtree.compat.truss_train._model import Model
from runtree.compat.truss_train.installing import EXPORTED

Both = Callable[[dict[str, Any]], tuple[Any, Any]]

DOCUMENT = Path(__file__).parent / "samples" / "loading.md"
IMPORTS = "from truss_train import BasetenCheckpoint, LoadCheckpointConfig\n"

#: The fewest arguments of each class.
LEAST = {
    "SecretReference": "name='s'",
    "Compute": "",
    "_CheckpointBase": "typ='x'",
    "_BasetenLatestCheckpoint": "",
    "_BasetenNamedCheckpoint": "checkpoint_name='c', job_id='j'",
    "_LoopsCheckpoint": "run_id='r', checkpoint_name='c'",
    "LoadCheckpointConfig": "",
    "CheckpointingConfig": "",
    "CacheConfig": "",
    "InteractiveSession": "",
    "Runtime": "",
    "AWSIAMDockerAuth": "access_key_secret_ref={'name': 'a'}, secret_access_key_secret_ref={'name': 'b'}",
    "AWSOIDCDockerAuth": "role_arn='a', region='b'",
    "AWSAssumeRoleDockerAuth": "role_arn='a', region='b'",
    "GCPOIDCDockerAuth": "service_account='a', workload_identity_provider='b'",
    "GCPServiceAccountJSONDockerAuth": "service_account_json_secret_ref={'name': 'a'}",
    "RegistrySecretDockerAuth": "secret_ref={'name': 'a'}",
    "DockerAuth": "auth_method=DockerAuthType.REGISTRY_SECRET, registry='r', "
    "registry_secret_docker_auth={'secret_ref': {'name': 'a'}}",
    "Image": "base_image='i'",
    "Workspace": "",
    "TrainingJob": "image={'base_image': 'i'}",
    "TrainingProject": "name='p', job={'image': {'base_image': 'i'}}",
    "Checkpoint": "training_job_id='j', checkpoint_name='c', model_weight_format='full'",
    "LoRADetails": "",
    "FullCheckpoint": "training_job_id='j', checkpoint_name='c'",
    "WhisperCheckpoint": "training_job_id='j', checkpoint_name='c'",
    "LoRACheckpoint": "training_job_id='j', checkpoint_name='c'",
    "CheckpointList": "",
    "DeployCheckpointsRuntime": "",
    "DeployCheckpointsConfig": "",
    "AcceleratorSpec": "",
    "WeightsAuth": "auth_method='custom_secret', auth_secret_name='s'",
    "WeightsSource": "source='hf://a/b', mount_location='/m'",
    "TrainingArtifactReference": "training_job_id='j'",
}

#: What each field is given, one a line.
VALUES = (DOCUMENT.parent / "truss_values.txt").read_text().splitlines()

#: What one value alone does not show.
MORE = (DOCUMENT.parent / "truss_expressions.txt").read_text().splitlines()


def test_every_class_has_the_fields_of_the_real_one(both: Both) -> None:
    ours, real = both({"classes": list(LEAST)})
    assert ours == real
    classes = {
        name
        for module in (definitions, truss_config)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Model) and value not in (Model, truss_config.ConfigModel)
    }
    assert classes == set(LEAST)
    assert sorted(EXPORTED) == real["exported"]
    assert set(EXPORTED) <= set(truss_train.__all__)


def test_every_field_takes_refuses_and_dumps_each_value_like_the_real_one(both: Both) -> None:
    expressions = [f"{name}({least})" for name, least in LEAST.items()]
    for name, least in LEAST.items():
        of = getattr(definitions, name, None) or getattr(truss_config, name)
        expressions += [f"{name}(**{{**dict({least}), '{each}': {value}}})" for each in of._fields for value in VALUES]
        expressions.append(f"{name}(**{{**dict({least}), 'nope': 1}})")
    ours, real = both({"expressions": expressions})
    differing = _differing(expressions, ours, real)
    assert len(expressions) > 10_000
    assert differing == {}


def test_what_one_value_does_not_show_is_like_the_real_one(both: Both) -> None:
    assert _differing(MORE, *both({"expressions": MORE})) == {}


def test_where_the_real_ones_crash_ours_say_what_is_wrong(both: Both) -> None:
    crashes = {
        "BasetenCheckpoint.from_latest_checkpoint()": ("TypeError", "Invalid"),
        "BasetenCheckpoint.from_latest_checkpoint('', '')": ("TypeError", "Invalid"),
        "Runtime.model_validate(5)": ("AttributeError", "model_type"),
    }
    ours, real = both({"expressions": list(crashes)})
    for was, now, (crash, said) in zip(real["outcomes"], ours["outcomes"], crashes.values(), strict=True):
        assert was["raised"] == crash
        assert said in (now.get("raised"), *[kind for _, kind, _ in now.get("refused", [])])
    with pytest.raises(ValueError, match="needs the job or the project whose latest checkpoint is meant"):
        definitions.BasetenCheckpoint.from_latest_checkpoint()


def test_an_assignment_loses_no_field(both: Both) -> None:
    # The real one's migration of enable_cache takes the field away from an object that something is assigned to.
    ours, real = both(
        {"expressions": ["r = Runtime(); r.priority = None; r", "r = Runtime(); r.start_commands = ['x']; r"]}
    )
    assert ours["outcomes"][0] == real["outcomes"][0]
    assert "enable_cache" not in real["outcomes"][1]["json"]
    assert ours["outcomes"][1]["json"].replace("'enable_cache': None, ", "") == real["outcomes"][1]["json"]
    runtime = definitions.Runtime()
    runtime.enable_cache = True
    assert runtime == definitions.Runtime(enable_cache=True)


def test_the_configurations_of_the_document_dump_the_same(both: Both) -> None:
    blocks = re.findall(r"```python[^\n]*\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    complete = [block for block in blocks if "TrainingProject(" in block]
    configurations = [IMPORTS + block for block in blocks if "LoadCheckpointConfig(" in block and block not in complete]
    # A block assigns one name twice: each statement on its own.
    single = [IMPORTS + "load_config" + part for block in configurations for part in block.split("load_config")[1:]]
    # An example of the reference goes by itself.
    references = [
        IMPORTS + f"reference = {line.strip()}"
        for block in blocks
        for line in block.splitlines()
        if line.startswith("BasetenCheckpoint.")
    ]
    snippets = complete + single + references
    ours, real = both({"snippets": snippets})
    assert (len(complete), len(single), len(references)) == (1, 4, 3)
    assert all(real["snippets"])
    assert ours["snippets"] == real["snippets"]


def test_a_refusal_names_the_place_and_not_the_value() -> None:
    with pytest.raises(truss_train.ValidationError) as refused:
        truss_train.Runtime(start_command=["x"], environment_variables={"TOKEN": 12345})  # type: ignore[call-arg, dict-item]
    said = str(refused.value)
    assert "12345" not in said
    assert "Runtime: environment_variables.TOKEN.str: Input should be a valid string (it is an int)" in said
    assert said.endswith("start_command: Extra inputs are not permitted\nhint: did you mean start_commands?")
    assert refused.value.error_count() == 3
    assert refused.value.kind == "invalid"


def _differing(expressions: list[str], ours: Any, real: Any) -> dict[str, Any]:
    pairs = zip(expressions, ours["outcomes"], real["outcomes"], strict=True)
    return {expression: (now, was) for expression, now, was in pairs if _comparable(now) != _comparable(was)}


def _comparable(outcome: Any) -> Any:
    """As it is, but for what names pydantic's own classes and the memory's addresses."""
    if "'raised': 'AttributeError'" in str(outcome):
        # The real Runtime crashes where it is given what is no mapping.
        return "not a Runtime"
    if "valid dictionary or instance of Runtime'" in str(outcome):
        return "not a Runtime"
    return re.sub(r"0x[0-9a-f]+|<class '[^']*'>|BaseModel|Model(?=\.__init__)", "", str(outcome))

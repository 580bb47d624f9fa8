"""The classes of a configuration: what ``truss_train.definitions`` has, by the same names.

Fields, defaults and refusals are those of truss_train 0.18. What sends to Baseten is not here: ``push`` refuses
(:mod:`runtree.compat.truss_train.public_api`), and ``Compute.to_truss_config`` is left out.
"""

from __future__ import annotations

import enum
from typing import Any

from runtree.compat.truss_train import truss_config
from runtree.compat.truss_train._model import Model, field
from runtree.compat.truss_train.checkpoints import (
    DEFAULT_LORA_RANK,
    BasetenCheckpoint,
    Checkpoint,
    CheckpointingConfig,
    CheckpointList,
    FullCheckpoint,
    LoadCheckpointConfig,
    LoopsCheckpoint,
    LoRACheckpoint,
    LoRADetails,
    ModelWeightsFormat,
    WhisperCheckpoint,
    _BasetenLatestCheckpoint,  # pyright: ignore[reportPrivateUsage]
    _BasetenNamedCheckpoint,  # pyright: ignore[reportPrivateUsage]
    _CheckpointBase,  # pyright: ignore[reportPrivateUsage]
    _LoopsCheckpoint,  # pyright: ignore[reportPrivateUsage]
)
from runtree.compat.truss_train.docker import (
    AWSAssumeRoleDockerAuth,
    AWSIAMDockerAuth,
    AWSOIDCDockerAuth,
    DockerAuth,
    GCPOIDCDockerAuth,
    GCPServiceAccountJSONDockerAuth,
    RegistrySecretDockerAuth,
    SecretReference,
)

__all__ = [
    "DEFAULT_INTERACTIVE_SESSION_TIMEOUT_MINUTES",
    "DEFAULT_LORA_RANK",
    "AWSAssumeRoleDockerAuth",
    "AWSIAMDockerAuth",
    "AWSOIDCDockerAuth",
    "AvailabilityModel",
    "BasetenCheckpoint",
    "CacheConfig",
    "Checkpoint",
    "CheckpointList",
    "CheckpointingConfig",
    "Compute",
    "DeployCheckpointsConfig",
    "DeployCheckpointsRuntime",
    "DockerAuth",
    "FullCheckpoint",
    "GCPOIDCDockerAuth",
    "GCPServiceAccountJSONDockerAuth",
    "Image",
    "InteractiveSession",
    "InteractiveSessionAuthProvider",
    "InteractiveSessionProvider",
    "InteractiveSessionTrigger",
    "LoRACheckpoint",
    "LoRADetails",
    "LoadCheckpointConfig",
    "LoopsCheckpoint",
    "ModelWeightsFormat",
    "RegistrySecretDockerAuth",
    "Runtime",
    "SecretReference",
    "TrainingJob",
    "TrainingProject",
    "WhisperCheckpoint",
    "Workspace",
    "_BasetenLatestCheckpoint",
    "_BasetenNamedCheckpoint",
    "_CheckpointBase",
    "_LoopsCheckpoint",
    "truss_config",
]

DEFAULT_INTERACTIVE_SESSION_TIMEOUT_MINUTES = 8 * 60


class AvailabilityModel(str, enum.Enum):
    """Whether the machines may be taken away."""

    DEDICATED = "dedicated"
    SPOT = "spot"


class Compute(Model):
    """The machines."""

    node_count: int = 1
    cpu_count: int = 1
    memory: str = "2Gi"
    accelerator: truss_config.AcceleratorSpec | None = None
    availability_model: AvailabilityModel = AvailabilityModel.DEDICATED

    def model_dump(self, **how: Any) -> Any:
        """As the others, with an accelerator that is a mapping, not a text."""
        dumped = super().model_dump(**how)
        if self.accelerator and self.accelerator.accelerator:
            dumped["accelerator"] = {
                "accelerator": self.accelerator.accelerator.value,
                "count": self.accelerator.count,
            }
        dumped["availability_model"] = self.availability_model.value
        return dumped


class CacheConfig(Model):
    """Directories that jobs have in common."""

    enabled: bool = False
    enable_legacy_hf_mount: bool = False
    require_cache_affinity: bool = True
    mount_base_path: str = "/root/.cache"


class InteractiveSessionTrigger(str, enum.Enum):
    """When a session is opened."""

    ON_STARTUP = "on_startup"
    ON_FAILURE = "on_failure"
    ON_DEMAND = "on_demand"


class InteractiveSessionProvider(str, enum.Enum):
    """What a session is opened with."""

    VS_CODE = "vs_code"
    CURSOR = "cursor"
    SSH = "ssh"


class InteractiveSessionAuthProvider(str, enum.Enum):
    """Who says who may open it."""

    GITHUB = "github"
    MICROSOFT = "microsoft"


class InteractiveSession(Model):
    """A session on the job's machine."""

    trigger: InteractiveSessionTrigger = InteractiveSessionTrigger.ON_DEMAND
    timeout_minutes: int = DEFAULT_INTERACTIVE_SESSION_TIMEOUT_MINUTES
    session_provider: InteractiveSessionProvider = InteractiveSessionProvider.VS_CODE
    auth_provider: InteractiveSessionAuthProvider = InteractiveSessionAuthProvider.MICROSOFT


class Runtime(Model):
    """What runs, with which environment."""

    start_commands: list[str] = field(factory=list)
    environment_variables: dict[str, str | SecretReference] = field(factory=dict)
    enable_cache: bool | None = None
    checkpointing_config: CheckpointingConfig = field(factory=CheckpointingConfig)
    load_checkpoint_config: LoadCheckpointConfig | None = None
    cache_config: CacheConfig | None = None

    @classmethod
    def _before(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given: dict[str, Any] = dict(data)  # pyright: ignore[reportUnknownArgumentType]
        enable_cache = given.pop("enable_cache", None)
        if enable_cache is None:
            return given
        return {**given, "cache_config": _cache(enable_cache, given.get("cache_config"))}

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "enable_cache" and value is not None:
            name, value = "cache_config", _cache(value, self.cache_config)
        super().__setattr__(name, value)


def _cache(enable_cache: Any, cache_config: Any) -> CacheConfig:
    """What the older spelling means."""
    if cache_config is not None:
        raise ValueError(
            "Cannot set both 'enable_cache' and 'cache_config'. 'enable_cache' is deprecated. Prefer migrating to "
            "'cache_config' with `enabled=True` and `enable_legacy_hf_mount=True`."
        )
    return CacheConfig(enabled=enable_cache, enable_legacy_hf_mount=enable_cache)


class Image(Model):
    """The image the job would run in."""

    base_image: str
    docker_auth: DockerAuth | None = None


class Workspace(Model):
    """What of the disk the job gets."""

    workspace_root: str | None = None
    external_dirs: list[str] = field(factory=list)
    exclude_dirs: list[str] = field(factory=list)


class TrainingJob(Model):
    """A job."""

    image: Image
    compute: Compute = field(factory=Compute)
    runtime: Runtime = field(factory=Runtime)
    interactive_session: InteractiveSession | None = None
    name: str | None = None
    priority: int | None = None
    workspace: Workspace | None = None
    weights: list[truss_config.WeightsSource] = field(factory=list)
    enable_baseten_workdir: bool = True

    def model_dump(self, **how: Any) -> Any:
        """As the others, with :meth:`Compute.model_dump`."""
        return {**super().model_dump(**how), "compute": self.compute.model_dump()}


class TrainingProject(Model):
    """A project and its job, which is not in the dumps."""

    name: str
    job: TrainingJob = field(exclude=True)
    team_name: str | None = None


class DeployCheckpointsRuntime(Model):
    """The environment of what is deployed."""

    environment_variables: dict[str, str | SecretReference] = field(factory=dict)


class DeployCheckpointsConfig(Model):
    """Which checkpoints are deployed, and how. Classes alone: nothing here deploys."""

    checkpoint_details: CheckpointList | None = None
    model_name: str | None = None
    runtime: DeployCheckpointsRuntime | None = None
    compute: Compute | None = None

"""Configurations of Baseten's ``truss_train`` on runtree: its classes, what loads a file, what says what it would do.

    from runtree.compat.truss_train import load_config, plan

    project = load_config("config.py")
    print(plan(project, folder="/home/me/training", environment=os.environ))

The file is executed as it is, with ``import truss_train`` in it, whether that is installed or not (:func:`install` does the same for
a script). The classes have the fields, defaults and refusals of truss_train 0.18, and dump the same; docs/truss-train.md says what is
different. They are not pydantic's, so that nothing has to be installed beside runtree (:mod:`runtree.compat.truss_train._model`).

Nothing is run in here.
"""

from __future__ import annotations

from runtree.compat.truss_train.definitions import (
    AvailabilityModel,
    AWSAssumeRoleDockerAuth,
    AWSIAMDockerAuth,
    AWSOIDCDockerAuth,
    BasetenCheckpoint,
    CacheConfig,
    CheckpointingConfig,
    CheckpointList,
    Compute,
    DeployCheckpointsConfig,
    DeployCheckpointsRuntime,
    DockerAuth,
    FullCheckpoint,
    GCPOIDCDockerAuth,
    GCPServiceAccountJSONDockerAuth,
    Image,
    LoadCheckpointConfig,
    LoopsCheckpoint,
    LoRACheckpoint,
    LoRADetails,
    ModelWeightsFormat,
    RegistrySecretDockerAuth,
    Runtime,
    SecretReference,
    TrainingJob,
    TrainingProject,
    Workspace,
)
from runtree.compat.truss_train.errors import ConfigError, ValidationError
from runtree.compat.truss_train.installing import install
from runtree.compat.truss_train.loading import load_config
from runtree.compat.truss_train.planning import Files, Plan, Reference, Secret, plan
from runtree.compat.truss_train.public_api import push
from runtree.compat.truss_train.truss_config import WeightsSource
from runtree.compat.truss_train.variables import Folder, Job, Variable

__all__ = [
    "AWSAssumeRoleDockerAuth",
    "AWSIAMDockerAuth",
    "AWSOIDCDockerAuth",
    "AvailabilityModel",
    "BasetenCheckpoint",
    "CacheConfig",
    "CheckpointList",
    "CheckpointingConfig",
    "Compute",
    "ConfigError",
    "DeployCheckpointsConfig",
    "DeployCheckpointsRuntime",
    "DockerAuth",
    "Files",
    "Folder",
    "FullCheckpoint",
    "GCPOIDCDockerAuth",
    "GCPServiceAccountJSONDockerAuth",
    "Image",
    "Job",
    "LoRACheckpoint",
    "LoRADetails",
    "LoadCheckpointConfig",
    "LoopsCheckpoint",
    "ModelWeightsFormat",
    "Plan",
    "Reference",
    "RegistrySecretDockerAuth",
    "Runtime",
    "Secret",
    "SecretReference",
    "TrainingJob",
    "TrainingProject",
    "ValidationError",
    "Variable",
    "WeightsSource",
    "Workspace",
    "install",
    "load_config",
    "plan",
    "push",
]

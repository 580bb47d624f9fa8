"""``import truss_train`` where it is not installed.

The stand-in is modules under the real one's names: ``truss_train``, ``truss_train.definitions``, ``truss_train.public_api``,
``truss`` and ``truss.base.truss_config``. All other modules of ``truss`` are missing from it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Generator
from types import ModuleType

from runtree.compat.truss_train import definitions, public_api, truss_config

#: What the real package exports.
EXPORTED = (
    "AWSAssumeRoleDockerAuth", "AWSIAMDockerAuth", "AWSOIDCDockerAuth", "AvailabilityModel", "BasetenCheckpoint", "CacheConfig",
    "CheckpointList", "CheckpointingConfig", "Compute", "DeployCheckpointsConfig", "DeployCheckpointsRuntime", "DockerAuth",
    "FullCheckpoint", "GCPOIDCDockerAuth", "GCPServiceAccountJSONDockerAuth", "Image", "LoRACheckpoint", "LoRADetails",
    "LoadCheckpointConfig", "LoopsCheckpoint", "ModelWeightsFormat", "RegistrySecretDockerAuth", "Runtime", "SecretReference",
    "TrainingJob", "TrainingProject", "WeightsSource", "Workspace", "push",
)  # fmt: skip

_ROOTS = ("truss_train", "truss")


def install() -> bool:
    """Makes ``import truss_train`` find runtree's classes, for the rest of the process, unless the real package is there.

    For scripts and notebooks; :func:`load_config` needs no such call. What has been imported or can be stays as it is.

    Returns:
        Whether ``truss_train`` is runtree's.
    """
    loaded = sys.modules.get("truss_train")
    if loaded is not None:
        return hasattr(loaded, "__runtree__")
    if any(importlib.util.find_spec(name) is not None for name in _ROOTS):
        return False
    sys.modules.update(stand_in())
    return True


@contextlib.contextmanager
def standing_in() -> Generator[None]:
    """Has runtree's classes under the real names meanwhile, whatever is installed or imported already."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    sys.modules.update(stand_in())
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(hidden)


@contextlib.contextmanager
def standing_aside() -> Generator[None]:
    """Has the real package under its names meanwhile, where :func:`install` was called too."""
    if not hasattr(sys.modules.get("truss_train"), "__runtree__"):
        yield
        return
    for name in stand_in():
        del sys.modules[name]
    try:
        yield
    finally:
        sys.modules.update(stand_in())


def stand_in() -> dict[str, ModuleType]:
    """The modules by their names."""
    holders = {"definitions": definitions, "truss_config": truss_config, "public_api": public_api}
    train = _module("truss_train", definitions=definitions, public_api=public_api)
    for name in EXPORTED:
        setattr(train, name, next(getattr(each, name) for each in holders.values() if hasattr(each, name)))
    train.__dict__["__all__"] = list(EXPORTED)
    base = _module("truss.base", truss_config=truss_config)
    return {
        "truss_train": train,
        "truss_train.definitions": definitions,
        "truss_train.public_api": public_api,
        "truss": _module("truss", base=base, truss_config=truss_config),
        "truss.base": base,
        "truss.base.truss_config": truss_config,
    }


def _module(name: str, **members: ModuleType) -> ModuleType:
    module = ModuleType(name, "runtree's stand-in.")
    # A package, so that what it does not have is a missing module, not a package that is none.
    module.__dict__.update(members, __path__=[], __file__=__file__, __runtree__=True)
    return module


def _is_ours(name: str) -> bool:
    return name.split(".", 1)[0] in _ROOTS

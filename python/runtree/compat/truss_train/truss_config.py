"""What a configuration imports from ``truss.base.truss_config``: accelerators, weights, what is deployed."""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar, Literal

from runtree.compat.truss_train._checks import Also, AtLeast, Before, MinLength
from runtree.compat.truss_train._model import Model, field

DEFAULT_TRAINING_CHECKPOINT_FOLDER = "/tmp/training_checkpoints"


class ConfigModel(Model):
    """A class that takes what is like its types, and fields that it does not know."""

    _strict: ClassVar[bool] = False
    _extra: ClassVar[Literal["forbid", "allow"]] = "allow"


class Accelerator(str, enum.Enum):
    """The kinds of GPUs."""

    _B10 = "B10"
    T4 = "T4"
    L4 = "L4"
    A10G = "A10G"
    V100 = "V100"
    A100 = "A100"
    A100_40GB = "A100_40GB"
    H100 = "H100"
    H200 = "H200"
    H100_40GB = "H100_40GB"
    B200 = "B200"
    L40S = "L40S"
    RTX_PRO_6000 = "RTX_PRO_6000"
    B300 = "B300"
    GB300 = "GB300"


class AcceleratorSpec(ConfigModel):
    """Which GPUs, and how many in each node; also as a text: ``"H100:8"``."""

    accelerator: Accelerator | None = None
    count: Annotated[int, AtLeast(0)] = 1

    @classmethod
    def _before(cls, data: Any) -> Any:
        if isinstance(data, str):
            return _of_text(data)
        if data is None:
            return {}
        if not isinstance(data, dict):
            # As the real one, which has this as its only refusal that is no ValueError.
            raise TypeError(f"Expected string, dict, AcceleratorSpec, or None; got {type(data)}")
        return data  # pyright: ignore[reportUnknownVariableType]

    def _dumped(self, declared: type[Model], how: Any) -> Any:
        if self.accelerator is None or self.count <= 0:
            return None
        return f"{self.accelerator.value}:{self.count}" if self.count > 1 else self.accelerator.value


def _of_text(value: str) -> dict[str, Any]:
    name, *counts = value.strip().split(":")
    if not name:
        raise ValueError("Accelerator type cannot be empty.")
    try:
        accelerator = Accelerator(name)
    except ValueError:
        available = ", ".join(each.value for each in Accelerator)
        raise ValueError(f"Unsupported accelerator type: `{name}`. Available types: {available}.") from None
    if len(counts) != 1:
        return {"accelerator": accelerator, "count": 1}
    if not counts[0].isdigit() or int(counts[0]) <= 0:
        raise ValueError(f"Invalid count: '{counts[0]}'. Must be positive integer.")
    return {"accelerator": accelerator, "count": int(counts[0])}


class WeightsAuthMethod(str, enum.Enum):
    """How to get at weights."""

    CUSTOM_SECRET = "CUSTOM_SECRET"
    AWS_OIDC = "AWS_OIDC"
    GCP_OIDC = "GCP_OIDC"
    AWS_ASSUME_ROLE = "AWS_ASSUME_ROLE"


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


_AUTH_FIELDS = {
    WeightsAuthMethod.CUSTOM_SECRET: ("auth_secret_name",),
    WeightsAuthMethod.AWS_OIDC: ("aws_oidc_role_arn", "aws_oidc_region"),
    WeightsAuthMethod.GCP_OIDC: ("gcp_oidc_service_account", "gcp_oidc_workload_id_provider"),
    WeightsAuthMethod.AWS_ASSUME_ROLE: ("aws_assume_role_arn", "aws_assume_role_region"),
}


class WeightsAuth(ConfigModel):
    """Who gets at weights: exactly the fields of its method."""

    aws_oidc_role_arn: str | None = None
    aws_oidc_region: str | None = None
    gcp_oidc_service_account: str | None = None
    gcp_oidc_workload_id_provider: str | None = None
    aws_assume_role_arn: str | None = None
    aws_assume_role_region: str | None = None
    auth_method: Annotated[WeightsAuthMethod, Before(_upper)]
    auth_secret_name: str | None = None

    def _after(self) -> None:
        method = self.auth_method.value
        needed = _AUTH_FIELDS[self.auth_method]
        missing = [name for name in needed if not getattr(self, name)]
        if missing:
            raise ValueError(f"{', '.join(missing)} must be provided when auth_method is {method}")
        others = [name for names in _AUTH_FIELDS.values() for name in names if name not in needed]
        present = [name for name in others if getattr(self, name)]
        if present:
            raise ValueError(f"{', '.join(present)} cannot be specified when auth_method is {method}")


_CLOUD = ("s3://", "gs://", "azure://", "r2://", "cw://")
_SCHEMES = sorted((*_CLOUD, "hf://", "https://"))


def _address(value: str) -> str:
    if "://" not in value:
        raise ValueError(f"Source '{value}' is missing a URI scheme. Supported schemes: {', '.join(_SCHEMES)}")
    scheme, rest = value.split("://")[0] + "://", value.split("://", 1)[1]
    if scheme not in _SCHEMES:
        raise ValueError(f"Unsupported source scheme '{scheme}'. Supported schemes: {', '.join(_SCHEMES)}")
    kind = scheme[:-3].upper()
    if not rest or rest.startswith("/"):
        what, expected = {
            "hf://": ("HuggingFace URI", "hf://owner/repo"),
            "https://": ("HTTPS URL", "https://hostname/path"),
        }.get(scheme, (f"{kind} URI", f"{scheme}bucket/path"))
        raise ValueError(f"Invalid {what} format: '{value}'. Expected format: {expected}")
    if scheme in _CLOUD and "@" in rest:
        raise ValueError(
            "The @ revision syntax is only valid for HuggingFace sources (hf://). "
            f"Source '{value}' uses {kind} which does not support revisions."
        )
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"mount_location must be an absolute path (start with /), got: {value}")
    return value


class WeightsSource(ConfigModel):
    """Weights that are mounted in the container."""

    source: Annotated[str, MinLength(1), Also(_address)]
    mount_location: Annotated[str, MinLength(1), Also(_absolute)]
    auth: WeightsAuth | None = None
    auth_secret_name: str | None = None
    allow_patterns: list[str] | None = None
    ignore_patterns: list[str] | None = None

    @property
    def is_huggingface(self) -> bool:
        """Whether it is a repository of Hugging Face."""
        return self.source.startswith("hf://")

    def _after(self) -> None:
        if self.auth_secret_name and self.auth and self.auth.auth_secret_name:
            raise ValueError(
                "auth_secret_name cannot be specified both at the top level and in auth section. "
                "Please use only one location."
            )


class DockerAuthType(str, enum.Enum):
    """How to get at a registry."""

    GCP_SERVICE_ACCOUNT_JSON = "GCP_SERVICE_ACCOUNT_JSON"
    AWS_IAM = "AWS_IAM"
    AWS_OIDC = "AWS_OIDC"
    GCP_OIDC = "GCP_OIDC"
    REGISTRY_SECRET = "REGISTRY_SECRET"
    AWS_ASSUME_ROLE = "AWS_ASSUME_ROLE"


class TrainingArtifactReference(ConfigModel):
    """Files of a training job."""

    training_job_id: str
    paths: list[str] = field(factory=list)


class CheckpointList(ConfigModel):
    """Checkpoints of jobs, or of Loops."""

    download_folder: str = DEFAULT_TRAINING_CHECKPOINT_FOLDER
    artifact_references: list[TrainingArtifactReference] = field(factory=list)
    loops_checkpoint_ids: list[str] = field(factory=list)

    def _after(self) -> None:
        if self.artifact_references and self.loops_checkpoint_ids:
            raise ValueError(
                "Cannot mix training job checkpoints and loops checkpoints in the same deploy. Use either "
                "artifact_references / checkpoints or loops_checkpoint_ids, not both."
            )

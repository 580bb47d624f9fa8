"""How a private image is got at. Recorded alone: nothing here pulls an image.

Imported by :mod:`runtree.compat.truss_train.definitions`, where the names are looked for.
"""

from __future__ import annotations

from typing import Annotated

from runtree.compat.truss_train._checks import MinLength
from runtree.compat.truss_train._model import Model
from runtree.compat.truss_train.truss_config import DockerAuthType


class SecretReference(Model):
    """A secret by its name."""

    name: str


class AWSIAMDockerAuth(Model):
    """Keys of AWS."""

    access_key_secret_ref: SecretReference
    secret_access_key_secret_ref: SecretReference


class AWSOIDCDockerAuth(Model):
    """A role of AWS, by OIDC."""

    role_arn: Annotated[str, MinLength(1)]
    region: Annotated[str, MinLength(1)]


class AWSAssumeRoleDockerAuth(Model):
    """A role of AWS that is assumed."""

    role_arn: Annotated[str, MinLength(1)]
    region: Annotated[str, MinLength(1)]


class GCPOIDCDockerAuth(Model):
    """A service account of GCP, by OIDC."""

    service_account: Annotated[str, MinLength(1)]
    workload_identity_provider: Annotated[str, MinLength(1)]


class GCPServiceAccountJSONDockerAuth(Model):
    """A service account of GCP, by its key."""

    service_account_json_secret_ref: SecretReference


class RegistrySecretDockerAuth(Model):
    """A registry's password."""

    secret_ref: SecretReference


_FIELDS = {
    DockerAuthType.AWS_IAM: "aws_iam_docker_auth",
    DockerAuthType.AWS_OIDC: "aws_oidc_docker_auth",
    DockerAuthType.AWS_ASSUME_ROLE: "aws_assume_role_docker_auth",
    DockerAuthType.GCP_OIDC: "gcp_oidc_docker_auth",
    DockerAuthType.GCP_SERVICE_ACCOUNT_JSON: "gcp_service_account_json_docker_auth",
    DockerAuthType.REGISTRY_SECRET: "registry_secret_docker_auth",
}


class DockerAuth(Model):
    """Who pulls an image: exactly the block of its method."""

    auth_method: DockerAuthType
    registry: str
    aws_iam_docker_auth: AWSIAMDockerAuth | None = None
    aws_oidc_docker_auth: AWSOIDCDockerAuth | None = None
    aws_assume_role_docker_auth: AWSAssumeRoleDockerAuth | None = None
    gcp_oidc_docker_auth: GCPOIDCDockerAuth | None = None
    gcp_service_account_json_docker_auth: GCPServiceAccountJSONDockerAuth | None = None
    registry_secret_docker_auth: RegistrySecretDockerAuth | None = None

    def _after(self) -> None:
        needed, method = _FIELDS[self.auth_method], self.auth_method.value
        if getattr(self, needed) is None:
            raise ValueError(f"{needed} must be provided when auth_method is {method}")
        others = [name for name in _FIELDS.values() if name != needed and getattr(self, name) is not None]
        if others:
            raise ValueError(f"{', '.join(others)} cannot be specified when auth_method is {method}")

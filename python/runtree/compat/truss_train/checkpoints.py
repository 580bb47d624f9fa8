"""Which checkpoints a job loads, where it saves its own, which are deployed.

Imported by :mod:`runtree.compat.truss_train.definitions`, where the names are looked for.
"""

from __future__ import annotations

import enum
from typing import Literal

from runtree.compat.truss_train import truss_config
from runtree.compat.truss_train._model import Model, field
from runtree.errors import Invalid

DEFAULT_LORA_RANK = 16
DEFAULT_LOAD_FOLDER = "/tmp/loaded_checkpoints"


class _CheckpointBase(Model):
    typ: str


class _BasetenLatestCheckpoint(_CheckpointBase):
    job_id: str | None = None
    project_name: str | None = None
    typ: Literal["baseten_latest_checkpoint"] = "baseten_latest_checkpoint"  # type: ignore[assignment]


class _BasetenNamedCheckpoint(_CheckpointBase):
    checkpoint_name: str
    job_id: str
    typ: Literal["baseten_named_checkpoint"] = "baseten_named_checkpoint"  # type: ignore[assignment]


class _LoopsCheckpoint(_CheckpointBase):
    run_id: str
    checkpoint_name: str
    target: Literal["trainer", "sampler"] = "trainer"
    typ: Literal["loops_checkpoint"] = "loops_checkpoint"  # type: ignore[assignment]


class BasetenCheckpoint:
    """References to checkpoints of jobs."""

    @staticmethod
    def from_latest_checkpoint(project_name: str | None = None, job_id: str | None = None) -> _BasetenLatestCheckpoint:
        """The latest checkpoint of a job, or of the most recent job of a project that has one.

        Raises:
            Invalid: Neither is given (a ``ValueError``; the real one crashes with a ``TypeError`` of pydantic's).
        """
        if not job_id and not project_name:
            raise Invalid(
                "from_latest_checkpoint() needs the job or the project whose latest checkpoint is meant",
                hint='from_latest_checkpoint(job_id="…") or from_latest_checkpoint(project_name="…")',
            )
        return _BasetenLatestCheckpoint(project_name=project_name, job_id=job_id)

    @classmethod
    def from_named_checkpoint(cls, checkpoint_name: str, job_id: str) -> _BasetenNamedCheckpoint:
        """The checkpoint of a job that has this name."""
        return _BasetenNamedCheckpoint(checkpoint_name=checkpoint_name, job_id=job_id)


class LoopsCheckpoint:
    """References to checkpoints of Loops runs."""

    @staticmethod
    def from_checkpoint(
        run_id: str, checkpoint_name: str, target: Literal["trainer", "sampler"] = "trainer"
    ) -> _LoopsCheckpoint:
        """A run's checkpoint: the whole training state, or the weights that are sampled from."""
        return _LoopsCheckpoint(run_id=run_id, checkpoint_name=checkpoint_name, target=target)


class LoadCheckpointConfig(Model):
    """What is on disk before the start commands run."""

    enabled: bool = False
    checkpoints: list[_BasetenLatestCheckpoint | _BasetenNamedCheckpoint | _LoopsCheckpoint] = field(
        factory=lambda: [_BasetenLatestCheckpoint()]
    )
    download_folder: str = DEFAULT_LOAD_FOLDER


class CheckpointingConfig(Model):
    """Where the job's own checkpoints are looked for."""

    enabled: bool = False
    checkpoint_path: str | None = None
    volume_size_gib: int | None = None


class ModelWeightsFormat(str, enum.Enum):
    """What a checkpoint holds."""

    LORA = "lora"
    FULL = "full"
    WHISPER = "whisper"

    def to_truss_config(self) -> ModelWeightsFormat:
        """Itself."""
        return self


class Checkpoint(truss_config.ConfigModel):
    """A job's checkpoint that is deployed."""

    training_job_id: str
    checkpoint_name: str
    model_weight_format: ModelWeightsFormat

    def to_truss_config(self) -> truss_config.TrainingArtifactReference:
        """Its directory, in what the job stored."""
        return truss_config.TrainingArtifactReference(
            training_job_id=self.training_job_id, paths=[f"rank-0/{self.checkpoint_name}/"]
        )


class LoRADetails(truss_config.ConfigModel):
    """What is to be known of an adapter."""

    rank: int = DEFAULT_LORA_RANK


class FullCheckpoint(Checkpoint):
    """All weights."""

    model_weight_format: ModelWeightsFormat = ModelWeightsFormat.FULL


class WhisperCheckpoint(Checkpoint):
    """The weights of a Whisper model."""

    model_weight_format: ModelWeightsFormat = ModelWeightsFormat.WHISPER


class LoRACheckpoint(Checkpoint):
    """An adapter."""

    lora_details: LoRADetails = field(factory=LoRADetails)
    model_weight_format: ModelWeightsFormat = ModelWeightsFormat.LORA


class CheckpointList(Model):
    """Checkpoints that are deployed together; note that their folder has another default than the one of jobs."""

    download_folder: str = truss_config.DEFAULT_TRAINING_CHECKPOINT_FOLDER
    base_model_id: str | None = None
    checkpoints: list[Checkpoint] = field(factory=list)
    loops_checkpoint_ids: list[str] = field(factory=list)

    def _after(self) -> None:
        if self.checkpoints and self.loops_checkpoint_ids:
            raise ValueError(
                "Cannot mix training job checkpoints and loops checkpoints in the same deploy. Use either "
                "checkpoints or loops_checkpoint_ids, not both."
            )

    def to_truss_config(self) -> truss_config.CheckpointList:
        """The same as a model's configuration has it."""
        return truss_config.CheckpointList(
            download_folder=self.download_folder,
            artifact_references=[checkpoint.to_truss_config() for checkpoint in self.checkpoints],
            loops_checkpoint_ids=self.loops_checkpoint_ids,
        )

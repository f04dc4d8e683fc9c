"""The registered model: its versions and the bundles behind them, and the aliases that tell people what is deployed.

What counts is the topic `models`; the aliases `champion` and `challenger` follow it.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from schemas.bundle import BUNDLE_TAG, MANIFEST, Manifest
from schemas.deployment import Deployment, Model, Role
from schemas.errors import UnusableModel
from training.errors import MLflowAway
from training.tracking import Tracking, connected, in_a_line, mlflows_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_DIGEST = re.compile("[0-9a-f]{16}")
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_ALIASES = (Role.CHAMPION, Role.CHALLENGER)
_decoder = msgspec.json.Decoder(Manifest)


def is_digest(text: str) -> bool:
    """Whether it can name a bundle.

    >>> is_digest("97fb07a767b178c0"), is_digest("7"), is_digest("champion")
    (True, False, False)
    """
    return _DIGEST.fullmatch(text) is not None


def fetch_bundle(tracking: Tracking, wanted: str, out: Path) -> Path:
    """The bundle of this digest, registered version (`7`) or alias (`champion`): `out`/<digest>, downloaded where it isn't there.

    A digest that is there needs no MLflow.  Verified in any case: files, size, digest.  Raises MLflowAway; UnusableModel where
    there is no such version, or what is there is not what was registered.  Then nothing was written.
    """
    from training.bundle import require_whole  # noqa: PLC0415 - whoever asks what is deployed need not wait for Polars

    if is_digest(wanted) and (out / wanted).exists():
        require_whole(out / wanted, wanted, str(out / wanted))
        return out / wanted
    client = connected(tracking)
    version = _registered(client, tracking, wanted)
    name = f"version {version.version} of {tracking.model}"
    digest = _bundle_of(version, name)
    if (out / digest).exists():
        require_whole(out / digest, digest, str(out / digest))
        return out / digest
    return _download(client, tracking, version, name, digest, out)


def registered(tracking: Tracking, wanted: str) -> Model:
    """What this digest, version or alias means.  Raises MLflowAway; UnusableModel where it is none."""
    version = _registered(connected(tracking), tracking, wanted)
    name = f"version {version.version} of {tracking.model}"
    return Model(bundle=_bundle_of(version, name), version=str(version.version))


def versions_of(tracking: Tracking, bundle: str) -> list[str]:
    """All versions that are this bundle, the newest first.  Raises MLflowAway."""
    client = connected(tracking)
    with mlflows_errors(tracking):
        return [str(version.version) for version in _versions(client, tracking, bundle)]


def mirror(tracking: Tracking, deployment: Deployment) -> None:
    """Set the aliases as it is deployed, and put the last change down at the version of its bundle.  Raises MLflowAway.

    An alias whose bundle was never registered goes: it would name another one.
    """
    client = connected(tracking)
    with _lacking_model(), mlflows_errors(tracking):
        aliases = client.get_registered_model(tracking.model).aliases
        there = {alias: str(version) for alias, version in aliases.items()}  # from SQLite they come as numbers
        for role, model in zip(_ALIASES, (deployment.champion, deployment.challenger), strict=True):
            version = None if model is None else _version_of(client, tracking, model)
            if version is not None and there.get(role.value) != version:
                client.set_registered_model_alias(tracking.model, role.value, version)
            if version is None and role.value in there:
                client.delete_registered_model_alias(tracking.model, role.value)
        for change in deployment.changes[-1:]:
            said = f"{change.at.isoformat(timespec='seconds')} by {change.by}: {change.why}"
            kind = f"fraud.{change.kind}{'.forced' if change.forced else ''}"
            for newest in _versions(client, tracking, change.bundle)[:1]:
                client.set_model_version_tag(tracking.model, newest.version, kind, said)


def _download(
    client: MlflowClient, tracking: Tracking, version: ModelVersion, name: str, digest: str, out: Path
) -> Path:
    from mlflow.artifacts import download_artifacts, list_artifacts  # noqa: PLC0415 - takes seconds

    from training.bundle import place, require_listed, require_whole  # noqa: PLC0415 - as above

    with mlflows_errors(tracking):
        source = client.get_model_version_download_uri(tracking.model, version.version)
        listed = list_artifacts(artifact_uri=source, tracking_uri=tracking.uri)
    # A store that doesn't say how large a file is gets none of it on to this disk; MLflow's server says it of none that is empty.
    unsaid = [file.path for file in listed if file.is_dir or file.file_size is None]
    if unsaid:
        raise UnusableModel(
            f"{name} is no bundle: {', '.join(unsaid)} is a folder, is empty, or has a size that nobody says"
        )
    require_listed({Path(file.path).name: file.file_size or 0 for file in listed}, name)
    out.mkdir(parents=True, exist_ok=True)
    draft = out / f".draft-{secrets.token_hex(8)}"
    draft.mkdir()
    try:
        with mlflows_errors(tracking):
            got = Path(download_artifacts(artifact_uri=source, dst_path=str(draft), tracking_uri=tracking.uri))
        require_whole(got, digest, name)
        _require_manifest(got, name)
        return place(got, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _require_manifest(folder: Path, name: str) -> None:
    """Of whatever catalogue, and whatever format: what was deployed once can be looked into for ever."""
    try:
        _decoder.decode((folder / MANIFEST).read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnusableModel(f"{name}: {MANIFEST} is no manifest: {error}") from error


def _registered(client: MlflowClient, tracking: Tracking, wanted: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds

    if is_digest(wanted):
        with mlflows_errors(tracking):
            found = _versions(client, tracking, wanted)
        if not found:
            raise UnusableModel(f"the registered model {tracking.model} has no version of bundle {wanted}")
        return found[0]
    try:
        if wanted.isdecimal():
            return client.get_model_version(tracking.model, wanted)
        return client.get_model_version_by_alias(tracking.model, wanted)
    except MlflowException as error:
        if error.error_code in _NOT_THERE:
            raise UnusableModel(f"the registered model {tracking.model} has no version or alias {wanted!r}") from error
        raise MLflowAway(f"MLflow does not answer: {in_a_line(error)}") from error


def _bundle_of(version: ModelVersion, name: str) -> str:
    digest = version.tags.get(BUNDLE_TAG)
    if digest is None or not is_digest(digest):
        raise UnusableModel(f"{name} has no tag {BUNDLE_TAG}: `training run` did not register it")
    return str(digest)


def _versions(client: MlflowClient, tracking: Tracking, bundle: str) -> list[ModelVersion]:
    found = client.search_model_versions(f"name = '{tracking.model}' and tags.`{BUNDLE_TAG}` = '{bundle}'")
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def _version_of(client: MlflowClient, tracking: Tracking, model: Model) -> str | None:
    if model.version is not None:
        return model.version
    found = _versions(client, tracking, model.bundle)
    return str(found[0].version) if found else None


@contextmanager
def _lacking_model() -> Iterator[None]:
    """A registered model that isn't there has no alias to set."""
    try:
        yield
    except MLflowAway as error:
        if getattr(error.__cause__, "error_code", None) not in _NOT_THERE:
            raise

"""The finished runs that the part `transfer` of the report is measured with."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from saerec_ray.config import Config, EmbedConfig, digest
from saerec_ray.cross_domain import check_files, check_language_model, finished, read_other, stage_reader
from saerec_ray.data.prepared import read_sequences
from saerec_ray.earlier import read_earlier
from saerec_ray.errors import InputError
from saerec_ray.evaluation.transfer_part import OtherDomain, OtherDomains
from saerec_ray.manifest import Manifest
from saerec_ray.text.embed import load_embeddings

_STAGES = ("prepare", "embed", "dictionary", "intents")
_READS = (("embed", "prepare"), ("dictionary", "embed"), ("intents", "dictionary"))
"""Of two stages the first was made of the second, if the folder is of one run."""


def other_domain_hashes(config: Config, workdir: Path) -> dict[str, str]:
    """A hash for each other domain that is to be measured: it changes when what is read of it does.

    Raises InputError when one of them has not finished its stages, is of several runs, was read with another language
    model, or is `workdir` itself. Files are not read, so damage to them is not seen yet.
    """
    return {
        f"other domain {name}": digest(
            [each.content_hash for each in _manifests(name, path, config, workdir)]
        )
        for name, path in _wanted(config).items()
    }


def read_other_domains(config: Config, workdir: Path) -> OtherDomains | None:
    """Reads the other domains; None where there are none, or where the part is not asked for.

    `workdir`: that of this run, with a finished dictionary stage. Raises InputError when another domain cannot be
    used: unfinished, damaged, or read with another language model.
    """
    wanted = _wanted(config)
    if not wanted:
        return None
    length = int(load_embeddings(workdir / "embed").shape[1])
    domains = [_read(name, path, config, workdir, length) for name, path in wanted.items()]
    reader = stage_reader(config, workdir) if config.evaluate.shared_user_ids else None
    return OtherDomains(domains, reader)


def _wanted(config: Config) -> dict[str, Path]:
    return config.evaluate.other_domains if "transfer" in config.evaluate.parts else {}


def _manifests(name: str, path: Path, config: Config, workdir: Path) -> list[Manifest]:
    """Those of the stages that are read, which fit together and to this run."""
    setting = f"evaluate.other_domains.{name}"
    if path.resolve() == workdir.resolve():
        raise InputError(f"{setting} names {path}, which is this run itself; name that of another domain.")
    found: dict[str, Manifest] = {}
    for stage in _STAGES:
        manifest = finished(path, stage)
        if manifest is None:
            raise InputError(
                f"{setting} names {path}, which is no work directory with a finished {stage} stage; run the stages "
                f"{', '.join(_STAGES)} there, or correct the path."
            )
        found[stage] = manifest
    for later, before in _READS:
        if found[later].inputs.get(before) != found[before].content_hash:
            raise InputError(
                f"{setting} names {path}, whose {later} stage was not made of the {before} stage that is there now; "
                f"run the stage {later} there again."
            )
    check_language_model(path, found["embed"], config.embed)
    return list(found.values())


def read_other_domain(name: str, path: Path, embed: EmbedConfig) -> OtherDomain:
    """Reads one work directory as the domain `name` of a run with the language model of `embed`.

    Raises InputError when it is damaged or was read with another language model.
    """
    for stage in ("dictionary", "intents"):
        if (manifest := finished(path, stage)) is None:
            raise InputError(f"{path} is no work directory with a finished {stage} stage.")
        check_files(path, manifest)
    catalogue = read_other(path, embed)
    try:
        earlier = read_earlier(path)
        sequences = read_sequences(path / "prepare")
    except (KeyError, ValueError, OSError, pa.ArrowException) as error:
        raise InputError(f"The work directory {path} cannot be used: {error}") from error
    return OtherDomain(
        name,
        earlier.dictionary,
        earlier.latents.catalogue.intents,
        catalogue.items,
        catalogue.vectors,
        sequences,
    )


def _read(name: str, path: Path, config: Config, workdir: Path, length: int) -> OtherDomain:
    _manifests(name, path, config, workdir)
    domain = read_other_domain(name, path, config.embed)
    if domain.vectors.shape[1] != length:
        raise InputError(
            f"The texts of evaluate.other_domains.{name}, {path}, are vectors of {domain.vectors.shape[1]} numbers, "
            f"those here of {length}; embed them with the same language model."
        )
    return domain

"""What was published, or would be: for a person, for a script, and beside it as files."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloister import console, images
from cloister.errors import CloisterError, PublishError
from cloister.files import write_atomically
from cloister.publishing import proof
from cloister.publishing.registry import Repository
from cloister.publishing.steps import STATED, Passage, Terms, decide, tags_of
from cloister.publishing.tagging import Decision

STEPS = ("build", "test", "export", "list", "push", "sign", *(f"attest {k}" for k in proof.KINDS))
_NEW = "none yet"


def told(passage: Passage, decision: Decision) -> dict[str, Any]:
    """Return what was published of an image: `done` are the steps of this run."""
    signed = passage.terms.signer is not None
    entry = _entry(passage.repository, passage.digest, decision, signed=signed)
    return {**entry, "id": passage.identity, "done": passage.done, "scan": passage.scanned}


def planned(
    terms: Terms,
    image: images.Image,
    repository: Repository,
    revision: str,
    passage: Passage | None,
) -> dict[str, Any]:
    """Return what would be done for an image; `passage` is None where it was not built yet."""
    released, signed = terms.released, terms.signer is not None
    state = {} if passage is None else passage.state()
    facts = {} if passage is None else passage.record.facts or {}
    tags = tags_of(image, facts, revision, released=released)
    there = repository.digest(tags.fixed[0])
    # What is there for this commit is taken if we signed it, and refused if not.
    digest = (passage.digest if passage else "") or there or _NEW
    decision = decide(repository, tags, digest)
    unknown = [f"{fact.name}-?" for fact in image.facts if released and fact.name not in facts]
    entry = _entry(repository, digest, decision, signed=signed)
    entry["set"] += unknown
    steps = [step for step in STEPS if signed or not step.startswith(("sign", "attest"))]
    return {
        **entry,
        "done": [step for step in steps if state.get(step)],
        "to do": [step for step in steps if not state.get(step)],
    }


def tell(entries: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print them, for a person or for a script."""
    if as_json:
        console.dump(list(entries))
        return
    known = ("repository", "digest", "done", "to do", "set", "kept", "held")
    columns = [name for name in known if any(name in entry for entry in entries)]
    rows = [[_cell(entry.get(name, [])) for name in columns] for entry in entries]
    console.table(columns, rows)


def write(folder: Path, passage: Passage, decision: Decision) -> None:
    """Write an image's manifest, its lists and its provenance into a folder."""
    image, signer = passage.build.image, passage.terms.signer
    found = images.inspect(passage.terms.client, passage.identity)
    plain = " --allow-http-registry" if passage.repository.plain else ""
    verify = (signer.trust.command + plain + " {}",) if signer else ()
    written = decision.write + decision.kept
    tags = images.Tags(*(tuple(t for t in kind if t in written) for kind in passage.tags))
    published = images.Published(
        passage.repository.name, tags, passage.digest, verify, passage.scanned or None
    )
    text = images.manifest.render(image, found, passage.record.facts or {}, published)
    try:
        write_atomically(folder / f"{image.name}.md", text)
        for name in STATED.values():
            if (passage.folder / name).exists():
                shutil.copyfile(passage.folder / name, folder / f"{image.name}.{name}")
    except (CloisterError, OSError) as error:
        raise PublishError(
            f"{folder} cannot be written: {error}", hint="name another --out"
        ) from error


def _entry(
    repository: Repository, digest: str, decision: Decision, *, signed: bool
) -> dict[str, Any]:
    return {
        "repository": repository.name,
        "digest": digest,
        "signed": signed,
        "set": list(decision.write),
        "kept": list(decision.kept),
        "held": list(decision.held),
    }


def _cell(value: str | list[str]) -> str | None:
    return value if isinstance(value, str) else ", ".join(value) or None

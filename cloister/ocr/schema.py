"""The ledger's tables, and how they are counted."""

VERSION = 2
MOST_FACTS_BYTES = 1 << 20  # of a page or a request; ours have some 300
# Asked for without reading it: the whole row may be 64 MiB. What is longer comes as its length.
FACTS = (
    f"CASE WHEN octet_length(facts) <= {MOST_FACTS_BYTES} THEN facts ELSE octet_length(facts) END"
)
SCHEMA = """
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, path TEXT NOT NULL, name TEXT NOT NULL,
    target TEXT NOT NULL UNIQUE COLLATE NOCASE,
    signature TEXT, sha256 TEXT, pages INTEGER, error TEXT, begun REAL, finished REAL,
    run INTEGER NOT NULL
);
CREATE INDEX documents_by_run ON documents (run, id);
CREATE TABLE pages (
    document INTEGER NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, recipe INTEGER,
    sha256 TEXT, text TEXT, facts TEXT, at REAL, PRIMARY KEY (document, number)
) WITHOUT ROWID;
CREATE INDEX open_pages ON pages (document, number) WHERE state = 'open';
CREATE INDEX pages_by_image ON pages (sha256, recipe) WHERE state = 'read';
CREATE TABLE requests (
    document INTEGER NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, facts TEXT NOT NULL
);
CREATE INDEX requests_by_page ON requests (document, number);
CREATE TABLE written (
    document INTEGER NOT NULL, format TEXT NOT NULL, style TEXT NOT NULL,
    PRIMARY KEY (document, format)
) WITHOUT ROWID;
CREATE TABLE recipes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE runs (id INTEGER PRIMARY KEY, begun REAL NOT NULL);
"""
_FACTS = (  # NULL where a page is open
    f"CASE WHEN octet_length(facts) > {MOST_FACTS_BYTES} THEN 'too long' ELSE facts END"
)
# Of all requests of a page. Until an engine's counts were bounded, it could tell anything.
MOST_TOKENS = 1 << 32


def _known(name: str) -> str:
    """Return a count of tokens in `facts`, NULL where it can be none: a sum leaves that out."""
    path = f"{_FACTS}, '$.{name}'"
    return (
        f"CASE WHEN json_type({path}) = 'integer' AND json_extract({path}) BETWEEN 0 "
        f"AND {MOST_TOKENS} THEN json_extract({path}) END"
    )


# No copies of rows: a hostile file may have any number of them.
COUNTS = f"""
WITH chosen AS NOT MATERIALIZED (
         SELECT id, pages, finished FROM documents WHERE run = ?1 OR ?1 IS NULL),
     theirs AS NOT MATERIALIZED (SELECT * FROM pages WHERE document IN (SELECT id FROM chosen)),
     asked AS (SELECT count(*) AS requests,
                      ifnull(sum({_known("tokens")}), 0) AS tokens
               FROM requests WHERE document IN (SELECT id FROM chosen))
SELECT (SELECT count(*) FROM chosen),
       (SELECT count(*) FROM chosen WHERE finished IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM pages WHERE document = id AND state = 'failed')),
       (SELECT count(*) FROM chosen WHERE pages IS NULL),
       count(*), ifnull(sum(state = 'read'), 0), ifnull(sum(state = 'failed'), 0),
       ifnull(sum(json_extract({_FACTS}, '$.reused')), 0),
       (SELECT requests FROM asked), (SELECT tokens FROM asked),
       (SELECT tokens FROM asked) - ifnull(sum(CASE WHEN state = 'read' THEN
           {_known("completion_tokens")} - {_known("wasted_tokens")}
           ELSE 0 END), 0),
       ifnull(sum(json_extract({_FACTS}, '$.removed_characters')), 0)
FROM theirs
"""  # noqa: S608  # of names of ours
# Version 1 kept pages' texts as they came. Files that were written from such texts are written
# again by the next run.
MIGRATIONS = {
    1: """
UPDATE written SET style = '' WHERE document IN
    (SELECT document FROM pages WHERE text != cleaned(text));
UPDATE pages SET text = cleaned(text),
    facts = json_set(facts, '$.removed_characters', removed(text)) WHERE text != cleaned(text);
"""
}

-- A run folder's ledger as version 1 wrote it (commit 97f1b2a), with escapes in a page's text.
BEGIN TRANSACTION;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, path TEXT NOT NULL, name TEXT NOT NULL,
    target TEXT NOT NULL UNIQUE COLLATE NOCASE,
    signature TEXT, sha256 TEXT, pages INTEGER, error TEXT, begun REAL, finished REAL,
    run INTEGER NOT NULL
);
INSERT INTO "documents" VALUES(1,'/home/user/in/a.pdf','in/a.pdf','a.pdf','a','sa','ha',2,NULL,1.79607423796591472624e+09,1.79607423799025583271e+09,1);
INSERT INTO "documents" VALUES(2,'/home/user/in/b.pdf','in/b.pdf','b.pdf','b','sb','hb',1,NULL,1.79607423797786927219e+09,1.79607423799028182026e+09,1);
CREATE TABLE pages (
    document INTEGER NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, recipe INTEGER,
    sha256 TEXT, text TEXT, facts TEXT, at REAL, PRIMARY KEY (document, number)
) WITHOUT ROWID;
INSERT INTO "pages" VALUES(1,1,'read',1,'f1',char(27) || '[31mTotal' || char(27) || '[0m ' || char(8238) || '5' || char(13, 10) || 'EUR','{"error": null, "finish_reason": null, "engine": "e\u0007", "completion_tokens": 7, "wasted_tokens": 0, "seconds": 0.0, "attempts": 1, "sha256": "f1", "replica": null, "request_id": null, "reused": false, "rebuilt": false}',1.79607423799015808105e+09);
INSERT INTO "pages" VALUES(1,2,'failed',1,'f2',NULL,'{"error": "HTTP 500: \u001b]0;x\u0007", "finish_reason": null, "engine": null, "completion_tokens": 0, "wasted_tokens": 0, "seconds": 0.0, "attempts": 0, "sha256": "f2", "replica": null, "request_id": null, "reused": false, "rebuilt": false}',1.79607423799023818971e+09);
INSERT INTO "pages" VALUES(2,1,'read',1,'f3','Fine','{"error": null, "finish_reason": null, "engine": null, "completion_tokens": 0, "wasted_tokens": 0, "seconds": 0.0, "attempts": 1, "sha256": "f3", "replica": null, "request_id": null, "reused": false, "rebuilt": false}',1.79607423799027752881e+09);
CREATE TABLE recipes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
INSERT INTO "recipes" VALUES(1,'r');
CREATE TABLE requests (
    document INTEGER NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, facts TEXT NOT NULL
);
INSERT INTO "requests" VALUES(1,1,1.79607423798999786372e+09,'{"tokens": 7, "message": null}');
CREATE TABLE runs (id INTEGER PRIMARY KEY, begun REAL NOT NULL);
INSERT INTO "runs" VALUES(1,1.79607423795404601103e+09);
CREATE TABLE written (
    document INTEGER NOT NULL, format TEXT NOT NULL, style TEXT NOT NULL,
    PRIMARY KEY (document, format)
) WITHOUT ROWID;
INSERT INTO "written" VALUES(1,'markdown','s');
INSERT INTO "written" VALUES(2,'markdown','s');
CREATE INDEX documents_by_run ON documents (run, id);
CREATE INDEX open_pages ON pages (document, number) WHERE state = 'open';
CREATE INDEX pages_by_image ON pages (sha256, recipe) WHERE state = 'read';
CREATE INDEX requests_by_page ON requests (document, number);
PRAGMA user_version = 1;
COMMIT;

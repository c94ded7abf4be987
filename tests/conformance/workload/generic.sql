-- Generic WAL records, as the access method of contrib/bloom writes them.
DROP SCHEMA IF EXISTS workload_generic CASCADE;
CREATE SCHEMA workload_generic;
SET search_path = workload_generic, public;
CREATE EXTENSION IF NOT EXISTS bloom;
SET enable_seqscan = off;

CREATE TABLE built (i int, t text) WITH (autovacuum_enabled = off);
INSERT INTO built SELECT g % 100, md5(g::text) FROM generate_series(1, 3000) g;
CREATE INDEX built_bloom ON built USING bloom (i, t) WITH (length = 80, col1 = 2, col2 = 4);

-- The index comes first: every insertion is a delta.
CREATE TABLE filled (i int, t text) WITH (autovacuum_enabled = off);
CREATE INDEX filled_bloom ON filled USING bloom (i, t) WITH (col1 = 3);
INSERT INTO filled SELECT g % 100, md5(g::text) FROM generate_series(1, 5000) g;

-- Vacuum packs pages, marks empty ones as deleted, and rewrites the metapage's list of pages with room.
DELETE FROM filled WHERE i < 30;
VACUUM filled;
INSERT INTO filled SELECT g, md5(g::text) FROM generate_series(1, 1500) g;
UPDATE filled SET t = t || '.' WHERE i % 10 = 0;
DELETE FROM filled WHERE i >= 30;
VACUUM filled;
DELETE FROM filled;
VACUUM filled;
INSERT INTO filled SELECT g, md5(g::text) FROM generate_series(1, 2000) g;
REINDEX INDEX filled_bloom;

CREATE UNLOGGED TABLE unlogged (i int);
CREATE INDEX ON unlogged USING bloom (i);

-- Heap: every type of XLOG_HEAP_* and XLOG_HEAP2_* record, and the visibility map's bits.
SET client_min_messages = warning;
SELECT setseed(0.5);

-- Updates in place and across pages, prefixes and suffixes from the old tuple, nulls that change the bitmap.
CREATE TABLE rows (id int PRIMARY KEY, a text, n int, b text, pad text) WITH (autovacuum_enabled = off, fillfactor = 80);
INSERT INTO rows SELECT g, 'a' || g, g, 'b' || g, repeat('x', g % 300) FROM generate_series(1, 3000) g;
UPDATE rows SET n = n + 1 WHERE id % 3 = 0;
UPDATE rows SET a = NULL WHERE id % 7 = 0;
UPDATE rows SET a = repeat('long', 50), n = NULL WHERE id % 11 = 0;
UPDATE rows SET b = b || '!' WHERE id % 5 = 0;
UPDATE rows SET id = id + 10000 WHERE id % 13 = 0;
UPDATE rows SET pad = NULL, b = NULL, a = NULL, n = NULL WHERE id % 17 = 0;
UPDATE rows SET pad = repeat('y', 1500) WHERE id BETWEEN 100 AND 300;
SELECT count(*) FROM rows;
DELETE FROM rows WHERE id % 4 = 0;
SELECT count(*) FROM rows;
UPDATE rows SET n = 0;
UPDATE rows SET n = 1;
UPDATE rows SET n = 2;
VACUUM rows;
-- All pages are all-visible now: what follows clears that, in the map and on the pages.
UPDATE rows SET n = n + 1 WHERE id % 50 = 1;
VACUUM rows;
INSERT INTO rows SELECT g, 'again', g FROM generate_series(20001, 20050) g;
DELETE FROM rows WHERE id % 60 = 1;
VACUUM rows;
UPDATE rows SET pad = repeat('z', 3000) WHERE id % 90 = 2;
VACUUM (FREEZE) rows;
BEGIN; SELECT id FROM rows WHERE id % 100 = 3 FOR KEY SHARE; COMMIT;
BEGIN; SELECT id FROM rows WHERE id % 100 = 5 FOR SHARE; COMMIT;
BEGIN; SELECT id FROM rows WHERE id % 100 = 6 FOR NO KEY UPDATE; COMMIT;
BEGIN; SELECT id FROM rows WHERE id % 100 = 7 FOR UPDATE; ROLLBACK;
BEGIN; SAVEPOINT s; UPDATE rows SET n = -1 WHERE id % 100 = 9; ROLLBACK TO s; UPDATE rows SET n = -2 WHERE id % 100 = 9; COMMIT;
-- Aborted updates leave tuples for pruning.
BEGIN; UPDATE rows SET n = -3; ROLLBACK;
SELECT count(*) FROM rows;
UPDATE rows SET n = 5 WHERE id % 2 = 0;
VACUUM (FREEZE) rows;
VACUUM (DISABLE_PAGE_SKIPPING) rows;

-- Multi-insert, into new pages and into old ones, frozen at once, in TOAST tables.
CREATE TABLE copied (i int, t text) WITH (autovacuum_enabled = off);
COPY copied FROM PROGRAM 'seq 1 3000 | sed "s/$/\tcopied/"';
DELETE FROM copied WHERE i % 2 = 0;
VACUUM copied;
COPY copied FROM PROGRAM 'seq 5001 5400 | sed "s/$/\tcopied again/"';
BEGIN;
CREATE TABLE frozen (i int, t text);
COPY frozen FROM PROGRAM 'seq 1 5000 | sed "s/$/\tfrozen/"' (FREEZE);
COMMIT;
VACUUM frozen;
INSERT INTO frozen VALUES (1, 'unfrozen');
CREATE TABLE wide (i int, t text) WITH (autovacuum_enabled = off);
ALTER TABLE wide ALTER t SET STORAGE external;
INSERT INTO wide SELECT g, string_agg(md5(g::text || h), '') FROM generate_series(1, 60) g, generate_series(1, 400) h GROUP BY g;
UPDATE wide SET t = t || 'more' WHERE i % 3 = 0;
DELETE FROM wide WHERE i % 5 = 0;
VACUUM wide;

-- Speculative insertions: confirmed, and taken back because a trigger inserts the same key first.
CREATE TABLE spec (k int PRIMARY KEY, v int);
INSERT INTO spec SELECT g, g FROM generate_series(1, 200) g ON CONFLICT (k) DO UPDATE SET v = spec.v + 1;
INSERT INTO spec SELECT g, g FROM generate_series(100, 400) g ON CONFLICT (k) DO NOTHING;
CREATE FUNCTION same_key() RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM spec_dup WHERE k = 1) THEN INSERT INTO spec_dup VALUES (1, 1); END IF;
  RETURN 1;
END $$;
CREATE TABLE spec_dup (k int, v int);
CREATE FUNCTION same_key_of(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM same_key(); RETURN k; END $$;
CREATE UNIQUE INDEX spec_dup_k ON spec_dup (k);
CREATE UNIQUE INDEX spec_dup_f ON spec_dup (same_key_of(k));
INSERT INTO spec_dup VALUES (1, 2) ON CONFLICT (k) DO UPDATE SET v = 3;

-- A row moves to another partition.
CREATE TABLE parts (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200);
INSERT INTO parts SELECT g, 'v' || g FROM generate_series(0, 199) g;
UPDATE parts SET k = k + 50 WHERE k BETWEEN 60 AND 90;

-- Statistics and the like are updated in place.
ANALYZE rows, copied, wide;
VACUUM rows;

-- Truncation by vacuum, and with it of the visibility map; then growth again.
CREATE TABLE shrinks (i int, pad text) WITH (autovacuum_enabled = off);
INSERT INTO shrinks SELECT g, repeat('s', 500) FROM generate_series(1, 4000) g;
VACUUM shrinks;
DELETE FROM shrinks WHERE i > 1000;
VACUUM shrinks;
INSERT INTO shrinks SELECT g, repeat('t', 500) FROM generate_series(1, 2000) g;
VACUUM shrinks;
UPDATE shrinks SET i = i + 1 WHERE i % 10 = 0;
BEGIN; TRUNCATE shrinks; INSERT INTO shrinks VALUES (1, 'x'); ROLLBACK;
TRUNCATE shrinks;
CREATE TABLE truncated_here (i int);
BEGIN; TRUNCATE truncated_here; INSERT INTO truncated_here SELECT generate_series(1, 3000); TRUNCATE truncated_here; COMMIT;

-- Rewrites.
VACUUM FULL rows;
CLUSTER rows USING rows_pkey;
ALTER TABLE rows ALTER n TYPE bigint;
REINDEX TABLE rows;
REINDEX TABLE CONCURRENTLY rows;
CREATE MATERIALIZED VIEW seen AS SELECT id, a FROM rows;
CREATE UNIQUE INDEX ON seen (id);
REFRESH MATERIALIZED VIEW seen;
DELETE FROM rows WHERE id % 3 = 0;
REFRESH MATERIALIZED VIEW CONCURRENTLY seen;
VACUUM FULL pg_class;
VACUUM FULL pg_attribute;
CREATE UNLOGGED TABLE unlogged (i int PRIMARY KEY, t text);
INSERT INTO unlogged SELECT g FROM generate_series(1, 100) g;
ALTER TABLE unlogged SET LOGGED;

-- For logical decoding: command ids of catalog changes, rewritten catalogs' mappings, old tuples, truncations, messages.
CREATE TABLE decoded (k int PRIMARY KEY, v text);
ALTER TABLE decoded REPLICA IDENTITY FULL;
INSERT INTO decoded SELECT g, repeat('d', g) FROM generate_series(1, 500) g;
UPDATE decoded SET v = v || 'e';
DELETE FROM decoded WHERE k % 2 = 0;
TRUNCATE decoded;
SELECT pg_create_logical_replication_slot('conformance', 'test_decoding');
BEGIN; CREATE TABLE by_slot (i int); ALTER TABLE by_slot ADD j int; DROP TABLE by_slot; COMMIT;
CREATE TABLE catalog_like (i int) WITH (user_catalog_table = true);
INSERT INTO catalog_like SELECT generate_series(1, 1000);
UPDATE catalog_like SET i = i + 1;
VACUUM FULL catalog_like;
VACUUM FULL pg_class;
SELECT pg_logical_emit_message(true, 'conformance', 'hello'), pg_logical_emit_message(false, 'conformance', 'hello');
SELECT pg_drop_replication_slot('conformance');

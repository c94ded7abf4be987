-- Hash indexes: every type of XLOG_HASH_* record.
DROP SCHEMA IF EXISTS workload_hash CASCADE;
CREATE SCHEMA workload_hash;
SET search_path = workload_hash, public;
SET enable_seqscan = off;
SET enable_bitmapscan = off;

-- Metapages of all shapes: empty, some buckets, and so many that splitpoint groups have several phases.
CREATE TABLE sized (k int) WITH (autovacuum_enabled = off);
CREATE INDEX ON sized USING hash (k);
INSERT INTO sized SELECT generate_series(1, 70000);
ANALYZE sized;
CREATE INDEX sized_half ON sized USING hash (k) WITH (fillfactor = 50);
CREATE INDEX sized_tenth ON sized USING hash (k) WITH (fillfactor = 10);
DROP TABLE sized;

-- An init fork is written with the same records.
CREATE UNLOGGED TABLE unlogged (k int);
CREATE INDEX ON unlogged USING hash (k);

-- Splits: a bucket is split as soon as the index holds more than its buckets are meant for.
CREATE TABLE split (k int) WITH (autovacuum_enabled = off);
CREATE INDEX split_k ON split USING hash (k) WITH (fillfactor = 10);
INSERT INTO split SELECT generate_series(1, 6000);
-- A vacuum removes what splits have left in the old buckets.
DELETE FROM split WHERE k % 50 = 0;
VACUUM split;
INSERT INTO split SELECT generate_series(6001, 9000);
VACUUM split;

-- Overflow pages: equal keys all go to one bucket, beside many others, so that pages fill and splits move long chains.
CREATE TABLE ovfl (k int, v int) WITH (autovacuum_enabled = off, fillfactor = 50);
CREATE INDEX ovfl_k ON ovfl USING hash (k);
INSERT INTO ovfl SELECT 1, g FROM generate_series(1, 4000) g;
INSERT INTO ovfl SELECT 1 + g % 7, g FROM generate_series(1, 3000) g;
INSERT INTO ovfl SELECT g, g FROM generate_series(10, 3000) g;

-- Squeeze: when pages of a chain have gaps, vacuum moves tuples forward and frees pages from the end.
DELETE FROM ovfl WHERE k < 8 AND v % 3 = 0;
VACUUM ovfl;
INSERT INTO ovfl SELECT 1, g FROM generate_series(1, 2500) g;
DELETE FROM ovfl WHERE k < 8 AND v % 2 = 0;
VACUUM ovfl;
DELETE FROM ovfl WHERE k = 1 AND v % 5 <> 1;
VACUUM ovfl;
-- Freed overflow pages are taken again, which sets their bits in the bitmap page.
INSERT INTO ovfl SELECT 2, g FROM generate_series(1, 3000) g;
DELETE FROM ovfl WHERE k = 2;
VACUUM ovfl;

-- Chains with a full page in front of sparse ones: tuples move without a page being freed.
CREATE TABLE move (k int, v int) WITH (autovacuum_enabled = off);
CREATE INDEX move_k ON move USING hash (k);
INSERT INTO move SELECT 5, g FROM generate_series(1, 8000) g;
DELETE FROM move WHERE v % 4 = 0;
VACUUM move;
INSERT INTO move SELECT 5, g FROM generate_series(1, 1000) g;
DELETE FROM move WHERE v BETWEEN 100 AND 2500;
VACUUM move;
DELETE FROM move WHERE v > 2500 AND v % 3 <> 0;
VACUUM move;
DELETE FROM move;
VACUUM move;

-- Index scans mark tuples whose rows are dead; an insertion into the full page then removes them.
CREATE TABLE killed (k int, v int) WITH (autovacuum_enabled = off);
CREATE INDEX killed_k ON killed USING hash (k);
INSERT INTO killed SELECT 3, g FROM generate_series(1, 1500) g;
DELETE FROM killed WHERE v % 3 = 0;
SELECT count(v) FROM killed WHERE k = 3;
INSERT INTO killed SELECT 3, g FROM generate_series(1, 900) g;
DELETE FROM killed WHERE v % 2 = 0;
SELECT count(v) FROM killed WHERE k = 3;
INSERT INTO killed SELECT 3, g FROM generate_series(1, 900) g;
VACUUM killed;

-- Wider heap keys hash to the same index tuples; values of other types.
CREATE TABLE texts (k text) WITH (autovacuum_enabled = off);
CREATE INDEX texts_k ON texts USING hash (k);
INSERT INTO texts SELECT repeat('x', g % 40) || g FROM generate_series(1, 3000) g;
UPDATE texts SET k = k || '!' WHERE length(k) % 3 = 0;
VACUUM texts;
REINDEX INDEX texts_k;

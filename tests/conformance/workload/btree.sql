-- B-tree: every type of XLOG_BTREE_* record.
SET client_min_messages = warning;
SELECT setseed(0.25);

-- Splits to the left and to the right, at the end and in the middle, over several levels; wide keys make deep trees.
CREATE TABLE ascending (k int) WITH (autovacuum_enabled = off);
CREATE INDEX ascending_k ON ascending (k);
INSERT INTO ascending SELECT generate_series(1, 20000);
CREATE TABLE descending (k int) WITH (autovacuum_enabled = off);
CREATE INDEX descending_k ON descending (k);
INSERT INTO descending SELECT generate_series(20000, 1, -1);
CREATE TABLE random_order (k float8, t text) WITH (autovacuum_enabled = off);
CREATE INDEX random_k ON random_order (k);
CREATE INDEX random_t ON random_order (t);
CREATE INDEX random_include ON random_order (k) INCLUDE (t);
CREATE INDEX random_desc ON random_order (t DESC NULLS FIRST, k);
INSERT INTO random_order SELECT random(), md5(random()::text) FROM generate_series(1, 15000);
CREATE TABLE deep (t text) WITH (autovacuum_enabled = off);
ALTER TABLE deep ALTER t SET STORAGE plain;
CREATE INDEX deep_t ON deep (t);
INSERT INTO deep SELECT md5(g::text) || repeat('d', 2300) FROM generate_series(1, 600) g;
INSERT INTO deep SELECT 'a' || lpad(g::text, 6, '0') || repeat('d', 2200) FROM generate_series(1, 600) g;
-- Deletion of leaves, of subtrees with pages above them, of the rightmost ones, down to a new fast root; pages come back to use.
DELETE FROM deep WHERE t > 'a';
VACUUM deep;
SELECT pg_current_xact_id();
VACUUM deep;
INSERT INTO deep SELECT md5(g::text) || repeat('e', 2300) FROM generate_series(1, 500) g;
DELETE FROM deep;
VACUUM deep;
SELECT pg_current_xact_id();
VACUUM deep;
INSERT INTO deep SELECT md5(g::text) || repeat('f', 2300) FROM generate_series(1, 300) g;
DELETE FROM ascending WHERE k BETWEEN 1000 AND 18000;
VACUUM ascending;
SELECT pg_current_xact_id();
VACUUM ascending;
INSERT INTO ascending SELECT generate_series(30000, 45000);
DELETE FROM ascending WHERE k % 2 = 0;
VACUUM ascending;
DELETE FROM descending WHERE k < 19000;
VACUUM (INDEX_CLEANUP on) descending;
INSERT INTO descending SELECT generate_series(0, -5000, -1);

-- Deduplication: posting lists that are made, split by a row pointer between theirs, and shortened.
CREATE TABLE few (k int, g int) WITH (autovacuum_enabled = off, fillfactor = 50);
CREATE INDEX few_k ON few (k);
INSERT INTO few SELECT g % 5, g FROM generate_series(1, 15000) g;
DELETE FROM few WHERE g % 3 = 0;
VACUUM few;
INSERT INTO few SELECT g % 5, g FROM generate_series(1, 6000) g;
DELETE FROM few WHERE random() < 0.4;
VACUUM few;
INSERT INTO few SELECT (g * 7) % 5, g FROM generate_series(1, 9000) g;
UPDATE few SET k = k + 1 WHERE g % 4 = 0;
DELETE FROM few WHERE k = 2;
VACUUM few;
INSERT INTO few SELECT 2, g FROM generate_series(1, 8000) g;
CREATE TABLE nulls (k int) WITH (autovacuum_enabled = off);
CREATE INDEX nulls_k ON nulls (k);
INSERT INTO nulls SELECT NULL FROM generate_series(1, 10000);
DELETE FROM nulls WHERE ctid > '(10,0)' AND random() < 0.5;
VACUUM nulls;
INSERT INTO nulls SELECT NULL FROM generate_series(1, 10000);
CREATE INDEX few_off ON few (k) WITH (deduplicate_items = off);
INSERT INTO few SELECT g % 3, g FROM generate_series(1, 3000) g;
CREATE TABLE mixed (k text) WITH (autovacuum_enabled = off, fillfactor = 40);
CREATE INDEX mixed_k ON mixed (k) WITH (fillfactor = 70);
INSERT INTO mixed SELECT repeat(chr(97 + g % 7), 1 + g % 40) FROM generate_series(1, 12000) g;
DELETE FROM mixed WHERE random() < 0.3;
VACUUM mixed;
INSERT INTO mixed SELECT repeat(chr(97 + g % 7), 1 + g % 40) FROM generate_series(1, 12000) g;

-- Bottom-up deletion of versions, and of tuples that scans have found dead.
CREATE TABLE versions (id int PRIMARY KEY, a int, b int) WITH (autovacuum_enabled = off, fillfactor = 90);
CREATE INDEX versions_a ON versions (a);
CREATE INDEX versions_b ON versions (b);
INSERT INTO versions SELECT g, g % 100, g FROM generate_series(1, 3000) g;
DO $$ BEGIN FOR i IN 1..12 LOOP UPDATE versions SET b = b + 1; COMMIT; END LOOP; END $$;
DO $$ BEGIN FOR i IN 1..6 LOOP UPDATE versions SET a = (a + 1) % 100 WHERE id % 2 = 0; COMMIT; END LOOP; END $$;
SET enable_seqscan = off; SET enable_bitmapscan = off;
DELETE FROM versions WHERE id % 3 = 0;
SELECT count(*) FROM versions WHERE a BETWEEN 0 AND 100;
SELECT count(*) FROM versions WHERE b BETWEEN 0 AND 10000;
INSERT INTO versions SELECT g + 5000, g % 100, g FROM generate_series(1, 4000) g;
VACUUM versions;

-- Builds, and the metapage's own record.
CREATE INDEX built ON random_order (k, t);
CREATE TABLE nothing (k int);
CREATE INDEX nothing_k ON nothing (k);
CREATE UNLOGGED TABLE unlogged (k int PRIMARY KEY);
REINDEX INDEX CONCURRENTLY random_t;

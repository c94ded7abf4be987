-- Makes every type of GIN record, in the shapes that the regression schedule leaves out. Statements run one by one, outside
-- a transaction block.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE EXTENSION IF NOT EXISTS intarray;
SELECT setseed(0.15);

-- A posting tree that starts as a list in its tuple and grows row by row: CREATE_PTREE, added items, appended segments,
-- a root split, further leaf splits with their downlinks.
CREATE TABLE gin_grow (id int, a int[]) WITH (autovacuum_enabled = off);
CREATE INDEX gin_grow_a ON gin_grow USING gin (a) WITH (fastupdate = off);
INSERT INTO gin_grow SELECT i, '{1}' FROM generate_series(1, 14000) i;

-- Holes all over the tree, then insertions at the freed places: items between others, segments that split, pages that split
-- in the middle of the tree.
DELETE FROM gin_grow WHERE random() < 0.3;
VACUUM gin_grow;
INSERT INTO gin_grow SELECT i, '{1}' FROM generate_series(20001, 24000) i;

-- Whole segments and whole leaves empty: DELETE segment actions, DELETE_PAGE. Inserting again reuses nothing but goes
-- to the pages that are left.
DELETE FROM gin_grow WHERE ctid BETWEEN '(20,0)' AND '(80,0)';
VACUUM gin_grow;
DELETE FROM gin_grow WHERE ctid >= '(5,0)';
VACUUM gin_grow;
INSERT INTO gin_grow SELECT i, '{1}' FROM generate_series(30001, 33000) i;
VACUUM gin_grow;

-- Posting trees packed full by an index build: nearly every insertion splits something, some trees have an internal level.
CREATE TABLE gin_built (id int, a int[]) WITH (autovacuum_enabled = off);
INSERT INTO gin_built SELECT i, ARRAY[1, i % 3 + 10, i % 500 + 1000] FROM generate_series(1, 60000) i;
CREATE INDEX gin_built_a ON gin_built USING gin (a) WITH (fastupdate = off);
DELETE FROM gin_built WHERE id % 7 = 3;
VACUUM gin_built;
INSERT INTO gin_built SELECT i, ARRAY[1, i % 3 + 10, i % 500 + 1000] FROM generate_series(100001, 104000) i;
DELETE FROM gin_built WHERE id BETWEEN 10000 AND 50000;
VACUUM gin_built;
INSERT INTO gin_built SELECT i, ARRAY[1, i % 3 + 10, i % 500 + 1000] FROM generate_series(200001, 202000) i;
DELETE FROM gin_built WHERE id % 997 > 0;
VACUUM gin_built;

-- Many keys become frequent enough for a posting tree of their own, from lists in their tuples and from the pending list.
CREATE TABLE gin_trees (id int, a int[]) WITH (autovacuum_enabled = off);
INSERT INTO gin_trees SELECT i, ARRAY[i % 10] FROM generate_series(1, 20000) i;
CREATE INDEX gin_trees_a ON gin_trees USING gin (a) WITH (fastupdate = off);
INSERT INTO gin_trees SELECT i, ARRAY[i % 10] FROM generate_series(1, 5000) i;
ALTER INDEX gin_trees_a SET (fastupdate = on);
INSERT INTO gin_trees SELECT i, ARRAY[i % 10, i % 4 + 20] FROM generate_series(1, 8000) i;
VACUUM gin_trees;
-- Keep one row in a thousand, then none: trees whose middle leaves are all empty.
DELETE FROM gin_trees WHERE id % 1000 <> 0;
VACUUM gin_trees;
INSERT INTO gin_trees SELECT i, ARRAY[i % 10] FROM generate_series(1, 2000) i;
DELETE FROM gin_trees;
VACUUM gin_trees;

-- The pending list: pages that are appended to, sublists of one row that fill several pages, lists of more pages than one
-- DELETE_LISTPAGE record takes, and their merging by hand, by overflow and by VACUUM.
CREATE TABLE gin_pending (id int, a int[]) WITH (autovacuum_enabled = off);
CREATE INDEX gin_pending_a ON gin_pending USING gin (a) WITH (fastupdate = on, gin_pending_list_limit = 512);
INSERT INTO gin_pending SELECT i, ARRAY[i % 5, i % 70 + 100] FROM generate_series(1, 3000) i;
SELECT gin_clean_pending_list('gin_pending_a') > 0;
INSERT INTO gin_pending SELECT i, (SELECT array_agg(j) FROM generate_series(i * 100, i * 100 + 1500) j)
  FROM generate_series(1, 60) i;
VACUUM gin_pending;
INSERT INTO gin_pending SELECT i, (SELECT array_agg(j) FROM generate_series(i, i + 400) j) FROM generate_series(1, 30) i;
INSERT INTO gin_pending SELECT i, ARRAY[i] FROM generate_series(1, 300) i;
INSERT INTO gin_pending SELECT 1, (SELECT array_agg(j) FROM generate_series(1, 9000) j);
DELETE FROM gin_pending WHERE id % 2 = 0;
VACUUM gin_pending;
ALTER INDEX gin_pending_a SET (gin_pending_list_limit = 64);
INSERT INTO gin_pending SELECT i, ARRAY[i, i + 1, i + 2] FROM generate_series(1, 4000) i;
SELECT gin_clean_pending_list('gin_pending_a') > 0;

-- An entry tree of several levels: keys so long that few fit a page. Splits of leaves, internal pages and the root.
CREATE TABLE gin_keys (id int, t text[]) WITH (autovacuum_enabled = off);
CREATE INDEX gin_keys_t ON gin_keys USING gin (t) WITH (fastupdate = off);
INSERT INTO gin_keys SELECT i, ARRAY[(SELECT string_agg(md5(i::text || ',' || j), '') FROM generate_series(1, 40) j)]
  FROM generate_series(1, 500) i;
INSERT INTO gin_keys SELECT i % 40, ARRAY[md5((i % 40)::text)] FROM generate_series(1, 3000) i;
INSERT INTO gin_keys SELECT i, ARRAY[md5(i::text)] FROM generate_series(1, 4000) i;
-- Nulls and empty arrays have entries of their own kind.
INSERT INTO gin_keys SELECT i, CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN '{}' ELSE '{NULL}' END::text[]
  FROM generate_series(1, 600) i;
-- Posting lists inside entries lose items: VACUUM_PAGE.
DELETE FROM gin_keys WHERE random() < 0.4;
VACUUM gin_keys;
INSERT INTO gin_keys SELECT i % 40, ARRAY[md5((i % 40)::text), md5(i::text)] FROM generate_series(1, 1500) i;
DELETE FROM gin_keys;
VACUUM gin_keys;

-- Several columns and other key types.
CREATE TABLE gin_mixed (i int, t text, v tsvector, j jsonb, h hstore, a int[]) WITH (autovacuum_enabled = off);
CREATE INDEX ON gin_mixed USING gin (i, t, v) WITH (fastupdate = off);
CREATE INDEX ON gin_mixed USING gin (t gin_trgm_ops);
CREATE INDEX ON gin_mixed USING gin (j jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX ON gin_mixed USING gin (j, h);
CREATE INDEX ON gin_mixed USING gin (a gin__int_ops);
INSERT INTO gin_mixed SELECT i % 50, md5((i % 300)::text), to_tsvector('simple', 'word' || i % 20 || ' other' || i),
  jsonb_build_object('k' || i % 10, i, 'l', ARRAY[i % 7, i % 11]), hstore('a' || i % 13, i::text), ARRAY[i % 17, i]
  FROM generate_series(1, 1200) i;
UPDATE gin_mixed SET t = t || 'x', a = a || 99 WHERE i % 3 = 0;
DELETE FROM gin_mixed WHERE i % 4 = 1;
VACUUM gin_mixed;
INSERT INTO gin_mixed SELECT i, t, v, j, h, a FROM gin_mixed WHERE i % 5 = 0;
REINDEX TABLE gin_mixed;

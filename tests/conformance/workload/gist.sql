-- Makes every type of GiST record that a logged index can write, in the shapes that the regression schedule leaves out.
-- Statements run one by one, outside a transaction block.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE EXTENSION IF NOT EXISTS intarray;
CREATE EXTENSION IF NOT EXISTS cube;
CREATE EXTENSION IF NOT EXISTS ltree;
SELECT setseed(0.25);

-- Grown row by row: leaf and root splits, downlinks replaced and inserted.
CREATE TABLE gist_point (id int, p point) WITH (autovacuum_enabled = off);
CREATE INDEX gist_point_p ON gist_point USING gist (p);
INSERT INTO gist_point SELECT i, point(random() * 1000, random() * 1000) FROM generate_series(1, 12000) i;

-- Empty leaves go, and with a later VACUUM and a newer transaction horizon their pages are used again: PAGE_DELETE, PAGE_REUSE.
DELETE FROM gist_point WHERE p <@ box(point(0, 0), point(1000, 600));
VACUUM gist_point;
SELECT pg_current_xact_id();
SELECT pg_current_xact_id();
VACUUM gist_point;
INSERT INTO gist_point SELECT i, point(random() * 1000, random() * 1000) FROM generate_series(20001, 26000) i;
DELETE FROM gist_point WHERE id % 3 = 0;
VACUUM gist_point;
INSERT INTO gist_point SELECT i, point(random() * 10, random() * 10) FROM generate_series(30001, 33000) i;

-- Index scans mark dead tuples, and insertions into the full pages remove them: DELETE.
CREATE TABLE gist_kill (id int, b box) WITH (autovacuum_enabled = off);
CREATE INDEX gist_kill_b ON gist_kill USING gist (b);
INSERT INTO gist_kill SELECT i, box(point(i % 100, i / 100), point(i % 100 + 1, i / 100 + 1))
  FROM generate_series(1, 5000) i;
DELETE FROM gist_kill WHERE id % 2 = 0;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT count(*) FROM gist_kill WHERE b && box(point(-1, -1), point(200, 200));
SELECT count(*) FROM gist_kill WHERE b && box(point(-1, -1), point(200, 200));
INSERT INTO gist_kill SELECT i, box(point(i % 100, i / 100), point(i % 100 + 1, i / 100 + 1))
  FROM generate_series(1, 5000) i WHERE i % 2 = 0;
DELETE FROM gist_kill WHERE id % 3 = 0;
SELECT count(*) FROM gist_kill WHERE b && box(point(-1, -1), point(200, 200));
INSERT INTO gist_kill SELECT i, box(point(i % 100, i / 100), point(i % 100 + 1, i / 100 + 1))
  FROM generate_series(1, 5000) i WHERE i % 3 = 0;
RESET enable_seqscan;
RESET enable_bitmapscan;

-- Three ways to build an index, each modified afterwards.
CREATE TABLE gist_build (id int, p point, b box, r int4range) WITH (autovacuum_enabled = off);
INSERT INTO gist_build
  SELECT i, point(x, y), box(point(x, y), point(x + 5, y + 5)), int4range((x * 10)::int, (x * 10)::int + i % 50 + 1)
  FROM (SELECT i, random() * 1000 x, random() * 1000 y FROM generate_series(1, 10000) i) s;
CREATE INDEX gist_build_sorted ON gist_build USING gist (p);
CREATE INDEX gist_build_buffered ON gist_build USING gist (b) WITH (buffering = on, fillfactor = 60);
CREATE INDEX gist_build_plain ON gist_build USING gist (r) WITH (buffering = off);
INSERT INTO gist_build SELECT id, p, b, r FROM gist_build WHERE id % 5 = 0;
UPDATE gist_build SET p = point(p[1], p[0]) WHERE id % 11 = 0;
DELETE FROM gist_build WHERE b && box(point(100, 100), point(500, 900));
VACUUM gist_build;
INSERT INTO gist_build SELECT id + 50000, p, b, r FROM gist_build WHERE id % 7 = 0;

-- Large keys: few tuples per page, a deep tree, splits into more than two pages, downlinks of changing size.
CREATE TABLE gist_large (id int, v tsvector, t text, pg polygon) WITH (autovacuum_enabled = off);
CREATE INDEX gist_large_v ON gist_large USING gist (v tsvector_ops (siglen = 1900));
CREATE INDEX gist_large_t ON gist_large USING gist (t gist_trgm_ops (siglen = 1000));
CREATE INDEX gist_large_pg ON gist_large USING gist (pg);
INSERT INTO gist_large
  SELECT i, (SELECT to_tsvector('simple', string_agg('w' || (i * j) % 997, ' ')) FROM generate_series(1, i % 400 + 1) j),
    repeat(md5(i::text), i % 5 + 1),
    polygon(8, circle(point(i % 50, i % 37), i % 9 + 1))
  FROM generate_series(1, 900) i;
DELETE FROM gist_large WHERE id % 3 <> 0;
VACUUM gist_large;
SELECT pg_current_xact_id();
VACUUM gist_large;
INSERT INTO gist_large SELECT id, v, t, pg FROM gist_large;

-- Keys of very different sizes in one column, so that one insertion splits a page into several.
CREATE TABLE gist_split (a int[], c cube, l ltree) WITH (autovacuum_enabled = off);
CREATE INDEX gist_split_a ON gist_split USING gist (a gist__int_ops (numranges = 100));
CREATE INDEX gist_split_c ON gist_split USING gist (c);
CREATE INDEX gist_split_l ON gist_split USING gist (l gist_ltree_ops (siglen = 2000));
INSERT INTO gist_split
  SELECT CASE WHEN i % 5 = 0 THEN (SELECT array_agg(j * 79 + i) FROM generate_series(1, i % 8 * 10 + 1) j) END,
    cube((SELECT array_agg(random() * 100) FROM generate_series(1, CASE WHEN i % 9 = 0 THEN 90 ELSE 2 END))),
    ('a' || i % 5 || '.b' || i % 70 || '.c' || i)::ltree
  FROM generate_series(1, 1500) i;
DELETE FROM gist_split WHERE cube_dim(c) > 2;
VACUUM gist_split;

-- Exclusion constraints, with their scans before and after insertion.
CREATE TABLE gist_exclude (room int, during int4range, EXCLUDE USING gist (room WITH =, during WITH &&))
  WITH (autovacuum_enabled = off);
INSERT INTO gist_exclude SELECT i % 20, int4range(i * 10, i * 10 + 9) FROM generate_series(1, 3000) i;
INSERT INTO gist_exclude SELECT i % 20, int4range(i * 10, i * 10 + 9) FROM generate_series(1, 200) i
  ON CONFLICT DO NOTHING;
UPDATE gist_exclude SET room = room + 100 WHERE room % 4 = 0;
DELETE FROM gist_exclude WHERE room % 3 = 0;
VACUUM gist_exclude;

-- Several columns, NULLs, included columns.
CREATE TABLE gist_mixed (i int, t text, n inet, ts timestamptz, h hstore) WITH (autovacuum_enabled = off);
CREATE INDEX ON gist_mixed USING gist (i, t);
CREATE INDEX ON gist_mixed USING gist (n inet_ops, ts) INCLUDE (t);
CREATE INDEX ON gist_mixed USING gist (h);
INSERT INTO gist_mixed SELECT nullif(i % 90, 0), md5(i::text), ('10.0.' || i % 250 || '.' || i % 240)::inet,
  '2020-01-01'::timestamptz + i * interval '1 hour', CASE WHEN i % 6 > 0 THEN hstore('k' || i % 30, i::text) END
  FROM generate_series(1, 2500) i;
UPDATE gist_mixed SET t = NULL WHERE i % 8 = 0;
DELETE FROM gist_mixed WHERE i % 3 = 1;
VACUUM gist_mixed;
REINDEX TABLE gist_mixed;
INSERT INTO gist_mixed SELECT i, t, n, ts, h FROM gist_mixed WHERE i % 5 = 0;

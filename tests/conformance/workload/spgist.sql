-- SP-GiST indexes: every type of XLOG_SPGIST_* record, over the operator classes that build differently shaped trees.
DROP SCHEMA IF EXISTS workload_spgist CASCADE;
CREATE SCHEMA workload_spgist;
SET search_path = workload_spgist, public;
SET enable_seqscan = off;
SELECT setseed(0.25);

-- The index comes first, so that every insertion is logged by itself.

-- Radix trees: nodes are added as new characters come, inner tuples are split where prefixes part.
CREATE TABLE texts (t text) WITH (autovacuum_enabled = off);
CREATE INDEX texts_t ON texts USING spgist (t);
INSERT INTO texts SELECT 'baaaaaaaaaaaaaar' || g FROM generate_series(1, 600) g;
INSERT INTO texts SELECT md5(g::text) FROM generate_series(1, 4000) g;
INSERT INTO texts SELECT chr(33 + g % 90) || chr(33 + g / 90 % 90) || repeat(md5(g::text), 1 + g % 3)
  FROM generate_series(1, 8000) g;
-- Long common prefixes that part late.
INSERT INTO texts SELECT repeat('p', 200 + g % 300) || g FROM generate_series(1, 1200) g;
INSERT INTO texts SELECT repeat('p', g) || 'q' FROM generate_series(1, 400) g;
-- Inner tuples with very many nodes, that outgrow their page.
INSERT INTO texts SELECT 'n' || chr(256 + g * 7 % 5000) || chr(256 + g) FROM generate_series(1, 2500) g;
-- All the same.
INSERT INTO texts SELECT 'same' FROM generate_series(1, 1500);
INSERT INTO texts SELECT NULL FROM generate_series(1, 1500);
DELETE FROM texts WHERE t LIKE 'p%' OR length(t) % 3 = 0;
VACUUM texts;
INSERT INTO texts SELECT md5((g + 100000)::text) FROM generate_series(1, 2000) g;
VACUUM texts;
DELETE FROM texts WHERE t IS NULL;
VACUUM texts;
DELETE FROM texts WHERE t > 'b';
VACUUM texts;
VACUUM texts;

-- Quad and k-d trees.
CREATE TABLE points (p point) WITH (autovacuum_enabled = off);
CREATE INDEX points_quad ON points USING spgist (p);
CREATE INDEX points_kd ON points USING spgist (p kd_point_ops);
INSERT INTO points SELECT point(random() * 1000, random() * 1000) FROM generate_series(1, 6000);
INSERT INTO points SELECT point(g % 10, g % 10) FROM generate_series(1, 2000) g;
INSERT INTO points SELECT NULL FROM generate_series(1, 700);
DELETE FROM points WHERE p[0] < 300;
VACUUM points;
INSERT INTO points SELECT point(random() * 300, random() * 300) FROM generate_series(1, 3000);
DELETE FROM points WHERE p[1] > 500 OR p IS NULL;
VACUUM points;
VACUUM points;

-- Boxes, polygons, networks, ranges.
CREATE TABLE shapes (b box, pg polygon, i inet, r int4range) WITH (autovacuum_enabled = off);
CREATE INDEX shapes_b ON shapes USING spgist (b);
CREATE INDEX shapes_pg ON shapes USING spgist (pg);
CREATE INDEX shapes_i ON shapes USING spgist (i inet_ops);
CREATE INDEX shapes_r ON shapes USING spgist (r);
INSERT INTO shapes
  SELECT box(point(x, y), point(x + g % 17, y + g % 13)), polygon(box(point(x, y), point(x + 1, y + 2))),
         ('10.' || g % 7 || '.' || g / 256 % 256 || '.' || g % 256 || '/' || 8 + g % 25)::inet,
         CASE WHEN g % 11 = 0 THEN 'empty'::int4range ELSE int4range(g % 500, g % 500 + g % 31 + 1) END
    FROM (SELECT g, random() * 500 AS x, random() * 500 AS y FROM generate_series(1, 3000) g) s;
INSERT INTO shapes (i) SELECT ('2001:db8::' || to_hex(g % 65536))::inet FROM generate_series(1, 1000) g;
DELETE FROM shapes WHERE b << box(point(200, 0), point(201, 1)) OR masklen(i) = 16;
VACUUM shapes;

-- Included columns, some null: leaf tuples with a bitmap.
CREATE TABLE included (p point, a int, t text) WITH (autovacuum_enabled = off);
CREATE INDEX included_p ON included USING spgist (p) INCLUDE (a, t);
INSERT INTO included SELECT CASE WHEN g % 9 > 0 THEN point(g % 97, g % 89) END, nullif(g % 3, 0),
                            CASE WHEN g % 4 > 0 THEN repeat('i', g % 60) END
  FROM generate_series(1, 4000) g;
DELETE FROM included WHERE a = 1;
VACUUM included;

-- Roots that are leaves: vacuumed in place.
CREATE TABLE small (t text) WITH (autovacuum_enabled = off);
CREATE INDEX small_t ON small USING spgist (t);
INSERT INTO small SELECT nullif(g % 5, 0)::text || g FROM generate_series(1, 100) g;
DELETE FROM small WHERE t IS NULL OR t < '2';
VACUUM small;
INSERT INTO small SELECT g::text FROM generate_series(1, 50) g;
DELETE FROM small;
VACUUM small;

-- Tuples that leave dead ones behind at the head of their chains, which later insertions take over.
CREATE TABLE churn (p point) WITH (autovacuum_enabled = off);
CREATE INDEX churn_p ON churn USING spgist (p);
INSERT INTO churn SELECT point(g % 40, g / 40 % 40) FROM generate_series(1, 3200) g;
DELETE FROM churn WHERE p[0] < 20;
VACUUM churn;
INSERT INTO churn SELECT point(g % 20, g / 20 % 40) FROM generate_series(1, 2400) g;
DELETE FROM churn WHERE p[1] < 20;
VACUUM churn;
INSERT INTO churn SELECT point(g % 40, g / 40 % 20) FROM generate_series(1, 3200) g;
VACUUM churn;

-- Included columns make leaf tuples so large that few fit a page and picksplits spread over two pages.
CREATE TABLE large (p point, t text) WITH (autovacuum_enabled = off);
ALTER TABLE large ALTER t SET STORAGE plain;
CREATE INDEX large_p ON large USING spgist (p) INCLUDE (t);
INSERT INTO large SELECT point(random() * 10, random() * 10), repeat('l', 100 + g % 1100) FROM generate_series(1, 1200) g;
DELETE FROM large WHERE length(t) % 2 = 0;
VACUUM large;
INSERT INTO large SELECT point(g % 5, g % 3), repeat('m', 50 + g % 900) FROM generate_series(1, 600) g;
VACUUM large;

CREATE UNLOGGED TABLE unlogged (t text);
CREATE INDEX ON unlogged USING spgist (t);
REINDEX TABLE points;

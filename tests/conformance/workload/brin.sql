-- BRIN indexes: every type of XLOG_BRIN_* record.
DROP SCHEMA IF EXISTS workload_brin CASCADE;
CREATE SCHEMA workload_brin;
SET search_path = workload_brin, public;
SELECT setseed(0.5);

-- Ranges of one page, so that there are many. Few rows per page keep the heap cheap.
CREATE TABLE ranges (k int, t text, pad text) WITH (autovacuum_enabled = off, fillfactor = 10);
ALTER TABLE ranges ALTER pad SET STORAGE plain;
CREATE INDEX ranges_k ON ranges USING brin (k) WITH (pages_per_range = 1);
CREATE INDEX ranges_t ON ranges USING brin (t) WITH (pages_per_range = 2);
INSERT INTO ranges SELECT g, 'v' || g, repeat('p', 700) FROM generate_series(1, 600) g;
SELECT brin_summarize_new_values('ranges_k'), brin_summarize_new_values('ranges_t');
-- Wider values: a summary grows in its place, or moves to another page.
UPDATE ranges SET t = repeat(t, 40), k = -k WHERE k % 3 = 0;
UPDATE ranges SET t = repeat(chr(97 + abs(k) % 26), abs(k) % 900 + 1) WHERE k % 2 = 0;
SELECT brin_desummarize_range('ranges_k', g * 3), brin_desummarize_range('ranges_t', g * 3) FROM generate_series(0, 150) g;
SELECT brin_summarize_range('ranges_k', g * 6) FROM generate_series(0, 60) g;
-- A revmap page holds 1360 ranges: the next revmap page takes the place of a page of summaries, which move away.
INSERT INTO ranges SELECT g, 'w' || g, repeat('p', 7000) FROM generate_series(1, 2800) g;
SELECT brin_summarize_new_values('ranges_k'), brin_summarize_new_values('ranges_t');
DELETE FROM ranges WHERE k % 7 = 0;
VACUUM ranges;
SELECT brin_desummarize_range('ranges_k', g * 11) FROM generate_series(0, 250) g;
INSERT INTO ranges SELECT g, repeat('x', g % 500), repeat('p', 7000) FROM generate_series(1, 1500) g;
VACUUM ranges;
REINDEX TABLE ranges;

-- Inclusion, bloom and multi-minmax summaries, which grow and shrink in other ways.
CREATE TABLE kinds (i int, f float8, n numeric, a inet, b box, r int4range, u uuid, ts timestamptz, t text)
  WITH (autovacuum_enabled = off, fillfactor = 20);
CREATE INDEX kinds_minmax ON kinds USING brin (i, f, n, a inet_minmax_ops, ts, t) WITH (pages_per_range = 2);
CREATE INDEX kinds_inclusion ON kinds USING brin (a inet_inclusion_ops, b, r) WITH (pages_per_range = 1);
CREATE INDEX kinds_bloom ON kinds
  USING brin (i int4_bloom_ops(n_distinct_per_range = 100), t text_bloom_ops(false_positive_rate = 0.05))
  WITH (pages_per_range = 4);
CREATE INDEX kinds_multi ON kinds
  USING brin (i int4_minmax_multi_ops, f float8_minmax_multi_ops(values_per_range = 16), n numeric_minmax_multi_ops,
              u uuid_minmax_multi_ops, ts timestamptz_minmax_multi_ops)
  WITH (pages_per_range = 2);
INSERT INTO kinds
  SELECT g, random() * 1e6, (random() * 1e6)::numeric(20, 4), ('10.' || g % 200 || '.1.' || g % 250)::inet,
         box(point(g, g), point(g + 3, g + random() * 100)), int4range(g, g + 50), md5(g::text)::uuid,
         '2020-01-01'::timestamptz + g * interval '17 minutes', repeat(md5(g::text), 3)
    FROM generate_series(1, 1200) g;
SELECT brin_summarize_new_values('kinds_minmax'), brin_summarize_new_values('kinds_inclusion'),
       brin_summarize_new_values('kinds_bloom'), brin_summarize_new_values('kinds_multi');
-- Insertions into summarised ranges update the summaries one by one.
DELETE FROM kinds WHERE i % 2 = 0;
VACUUM kinds;
INSERT INTO kinds
  SELECT 5000 - g * 4, random() * -1e6, NULL, ('192.168.' || g % 250 || '.0/24')::inet,
         box(point(-g, g), point(g, g * 2)), CASE WHEN g % 5 > 0 THEN int4range(-g, g) END, md5('u' || g)::uuid,
         '1999-01-01'::timestamptz - g * interval '1 day', md5(random()::text)
    FROM generate_series(1, 800) g;
-- An address of the other family can't be merged.
INSERT INTO kinds (a) SELECT ('2001:db8::' || g)::inet FROM generate_series(1, 100) g;
UPDATE kinds SET i = i * 1000, t = repeat('z', i % 300) WHERE i % 3 = 0;
SELECT brin_desummarize_range('kinds_multi', g * 2), brin_desummarize_range('kinds_inclusion', g) FROM generate_series(0, 30) g;
VACUUM kinds;
REINDEX INDEX kinds_multi;

CREATE UNLOGGED TABLE unlogged (k int);
CREATE INDEX ON unlogged USING brin (k);

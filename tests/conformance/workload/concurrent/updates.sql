-- Updates, deletions and insertions at the same places, speculative insertions that collide.
\set id random(1, 500)
\set k random(1, 300)
\set h random(1, 1000)
INSERT INTO tokens VALUES (:k, 1) ON CONFLICT (k) DO UPDATE SET hits = tokens.hits + 1;
UPDATE parents SET v = v + 1 WHERE id = :id;
INSERT INTO children SELECT :id, g, :k FROM generate_series(1, 5) g;
INSERT INTO words SELECT md5((:h + g)::text), point(:h, g), ARRAY[:h % 10, g, :k], :h, :h FROM generate_series(1, 10) g;
DELETE FROM words WHERE h = :h - 1;
DELETE FROM children WHERE k = :k AND v = 3;
DELETE FROM tokens WHERE k = :k - 1;

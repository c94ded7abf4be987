-- Tables that the concurrent scripts fight over.
CREATE TABLE parents (id int PRIMARY KEY, v int NOT NULL) WITH (fillfactor = 60);
CREATE TABLE children (parent int REFERENCES parents, v int, k int);
CREATE INDEX children_k ON children (k);
CREATE INDEX children_parent ON children (parent);
CREATE TABLE tokens (k int PRIMARY KEY, hits int);
CREATE TABLE words (w text, p point, a int[], h int, r int);
CREATE INDEX words_w ON words USING spgist (w);
CREATE INDEX words_p ON words USING gist (p);
CREATE INDEX words_a ON words USING gin (a);
CREATE INDEX words_h ON words USING hash (h);
CREATE INDEX words_r ON words USING brin (r) WITH (pages_per_range = 2, autosummarize = on);
CREATE SEQUENCE numbers;
INSERT INTO parents SELECT g, 0 FROM generate_series(1, 500) g;

-- Sequences.
CREATE SEQUENCE plain;
SELECT count(nextval('plain')) FROM generate_series(1, 300);
SELECT setval('plain', 1000);
SELECT setval('plain', 5, false);
ALTER SEQUENCE plain RESTART WITH 7 INCREMENT BY 3;
SELECT nextval('plain');
CREATE SEQUENCE cached CACHE 20 CYCLE MINVALUE -5 MAXVALUE 50 START 1;
SELECT count(nextval('cached')) FROM generate_series(1, 200);
CREATE SEQUENCE down INCREMENT BY -1 AS smallint;
SELECT count(nextval('down')) FROM generate_series(1, 100);
CREATE TABLE with_identity (i int GENERATED ALWAYS AS IDENTITY, s serial, t text);
INSERT INTO with_identity (t) SELECT 't' FROM generate_series(1, 200);
TRUNCATE with_identity RESTART IDENTITY;
CREATE UNLOGGED TABLE unlogged (s serial);
ALTER SEQUENCE plain AS bigint;
BEGIN; ALTER SEQUENCE plain RESTART; SELECT nextval('plain'); ROLLBACK;

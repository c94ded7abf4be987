-- Records that change no relation's pages: transactions, databases, tablespaces, relation maps, XLOG's own.
SET client_min_messages = warning;
CREATE TABLE t (i int);
BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'commits'; COMMIT PREPARED 'commits';
BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'aborts'; ROLLBACK PREPARED 'aborts';
BEGIN; CREATE TABLE dropped_again (i int); INSERT INTO dropped_again SELECT generate_series(1, 1000); ROLLBACK;
DO $$ BEGIN FOR i IN 1..100 LOOP BEGIN INSERT INTO t VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
-- A database copied file by file, and changed after.
CREATE TABLE copied_along (i int PRIMARY KEY, t text);
INSERT INTO copied_along SELECT g, 'c' || g FROM generate_series(1, 2000) g;
VACUUM copied_along;
\c postgres
CREATE DATABASE by_file TEMPLATE transactions STRATEGY = file_copy;
CREATE DATABASE by_wal TEMPLATE transactions STRATEGY = wal_log;
\c by_file
UPDATE copied_along SET t = t || '!' WHERE i % 3 = 0;
DELETE FROM copied_along WHERE i % 5 = 0;
VACUUM copied_along;
\c by_wal
UPDATE copied_along SET t = t || '!' WHERE i % 3 = 0;
VACUUM copied_along;
\c transactions
DROP DATABASE by_wal;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE elsewhere LOCATION '';
CREATE TABLE there (i int PRIMARY KEY) TABLESPACE elsewhere;
INSERT INTO there SELECT generate_series(1, 1000);
ALTER TABLE there SET TABLESPACE pg_default;
ALTER INDEX there_pkey SET TABLESPACE pg_default;
DROP TABLESPACE elsewhere;
VACUUM FULL pg_database;
SELECT pg_create_restore_point('conformance');
SELECT pg_backup_start('conformance', true);
INSERT INTO t VALUES (3);
SELECT pg_backup_stop(false) IS NOT NULL;
SELECT pg_switch_wal();
SELECT pg_replication_origin_create('conformance');
SELECT pg_replication_origin_session_setup('conformance');
BEGIN; SELECT pg_replication_origin_xact_setup('0/AABBCCDD', '2020-01-01 00:00'); INSERT INTO t VALUES (4); COMMIT;
SELECT pg_replication_origin_session_reset();
SELECT pg_replication_origin_advance('conformance', '0/AABBCCDE');
SELECT pg_replication_origin_drop('conformance');
VACUUM FREEZE;
CHECKPOINT;
-- Row locks of a transaction and its subtransactions: enough multixacts for a second page of their offsets.
CREATE TABLE locked (i int PRIMARY KEY, n int);
INSERT INTO locked SELECT g, 0 FROM generate_series(1, 2500) g;
DO $$
BEGIN
  FOR g IN 1..2500 LOOP
    PERFORM FROM locked WHERE i = g FOR KEY SHARE;
    BEGIN UPDATE locked SET n = 1 WHERE i = g; EXCEPTION WHEN division_by_zero THEN NULL; END;
  END LOOP;
END $$;

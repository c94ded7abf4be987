-- Row locks of all strengths that meet: multixacts, locks on newer versions of a row, updates under a key share lock.
\set id random(1, 60)
\set other random(1, 60)
BEGIN;
SELECT v FROM parents WHERE id = :id FOR KEY SHARE;
UPDATE parents SET v = v + 1 WHERE id = :other;
END;
BEGIN;
SELECT v FROM parents WHERE id = least(:id, :other) FOR SHARE;
SAVEPOINT s;
INSERT INTO children VALUES (:other, 1, nextval('numbers') % 97);
END;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT count(*) FROM parents;
END;

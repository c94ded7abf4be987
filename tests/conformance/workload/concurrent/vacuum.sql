-- Vacuum of what the others are changing.
\set pick random(1, 40)
\if :pick = 1
VACUUM children;
\elif :pick = 2
VACUUM words;
\elif :pick = 3
VACUUM (FREEZE) parents;
\endif
SELECT count(*) FROM children WHERE k = :pick;

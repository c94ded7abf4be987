-- The next change of every page logs it whole.
CHECKPOINT;

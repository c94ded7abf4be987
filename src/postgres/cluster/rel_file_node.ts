/** The physical identity of a relation, src/include/storage/relfilenode.h. All are Oids. */
export interface RelFileNode {
  /** The tablespace. */
  spcNode: number;
  /** The database; 0 for a relation that all share. */
  dbNode: number;
  relNode: number;
}

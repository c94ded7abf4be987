/** The physical identity of a relation, src/include/storage/relfilenode.h. All fields are Oids. */
export interface RelFileNode {
  /** The tablespace. */
  spcNode: number;
  /** The database; 0 for a relation that all databases share. */
  dbNode: number;
  relNode: number;
}

"""The order book: synchronisation with a snapshot, and the state that follows the diffs. Opens no file and no socket."""

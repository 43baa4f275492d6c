"""Local order books: synchronisation with snapshots, and price levels. No module opens a file or a socket."""

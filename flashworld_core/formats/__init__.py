"""Files of other programs and our own: bytes to records and back, one format a file, one table a folder."""

"""Many scans in less time: while one is encoded, the next is read and the last one written."""

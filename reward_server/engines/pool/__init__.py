"""A pool of hosts of one model: where work waits, is done, confirmed, and tried again."""

"""The programs inside a sandbox that start the untrusted one. Standard library only: nothing else is there."""

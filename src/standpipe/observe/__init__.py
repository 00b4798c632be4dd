"""What can be seen of a running Standpipe: one record per reply, and its subscribers."""

"""What people see in a terminal besides log lines: the chat, the catalog, progress bars."""

"""Where shared numbers live: in memory, or in a server that several Standpipes share."""

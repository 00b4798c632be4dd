"""Which weights there are, and how they get here."""

"""Pure decisions: time, randomness and counters are arguments. Nothing here awaits, sleeps or reads a clock."""

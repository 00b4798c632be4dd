"""What a gateway costs: CPU, memory and delay between a client and a pretend engine (see bench/README.md)."""

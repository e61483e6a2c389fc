"""How things look: on a terminal, in a pipe, in an incident."""

"""What people are told of a run, and when: words and decisions. Pure; adapters send it."""

"""Client programs as applications run them, each a process; they tell which sessions they lost."""

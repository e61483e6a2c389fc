"""Plans and their execution: `decide` is pure, `perform` is the one impure function."""

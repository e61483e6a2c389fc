"""A throwaway saturated database, with app servers of its own, to practise on."""

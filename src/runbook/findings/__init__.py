"""Why is the database saturated: questions, and the judges of their answers, side by side."""

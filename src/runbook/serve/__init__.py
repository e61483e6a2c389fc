"""`runbook serve`: alerts in, runs out, and a page in the browser to watch and approve them."""

"""Speed and memory, measured on whole processes beside peers and floors: `make bench`."""

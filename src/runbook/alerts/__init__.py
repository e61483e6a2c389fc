"""Where alerts come from, one source a file; and which of them lead to a run. Pure."""

"""One outside system a file: the only place that imports its library and translates its errors."""

"""Two workers of several threads each, loaded before READY=1 is sent to systemd."""

bind = "0.0.0.0:8000"
workers = 2
worker_class = "gthread"
threads = 8
# One import for both workers: a restart takes half the time, and "active" means "loaded".
preload_app = True
graceful_timeout = 1
keepalive = 0
worker_tmp_dir = "/tmp"

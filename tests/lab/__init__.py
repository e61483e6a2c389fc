"""A lab of real hosts in containers: systemd, sshd, sudo, PostgreSQL and an app that leaks."""

"""What holds for all tests: generated cases are the same on every machine, and not timed."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# These tests run beside others on a few cores: how long a case takes says nothing about the code.
# New cases are looked for by `make fuzz`; what runs before every landing must not hang on luck.
settings.register_profile(
    "shared", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared")

"""PagerDuty as the tests have it: a stateful stand-in on loopback, by real HTTP."""

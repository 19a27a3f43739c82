"""Helpers shared by the tests: exact oracles and calibrated statistical tests."""

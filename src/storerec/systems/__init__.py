"""Recommenders behind one protocol: STORE itself and the baselines it is compared with."""

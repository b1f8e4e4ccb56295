"""Policies: pure functions that decide a session's next round."""

"""Traces, as one sees them without a backend: a receiver of spans, and a trace as text.

receiver   an OTLP endpoint over gRPC that hands spans on as values
view       one trace as a tree of lines
"""

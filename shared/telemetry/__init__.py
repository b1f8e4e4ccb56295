"""Telemetry: what services tell of themselves.

logs            JSON lines on stderr
signals         the table of all metrics
signal_board    where a service's metrics find their values when somebody scrapes
distribution    a histogram that one thread writes without a lock
metrics_server  metrics over HTTP
exemplars       the trace that a metric's exemplar leads to
spans           every span and attribute, once
tracing         a process's tracer and its way to an OTLP endpoint
trace_context   contexts between processes
rpc_span        the span of a gRPC call
past_span       a span made afterwards, from timings; span_outbox makes them off an engine's thread
chrome_trace    the last steps of a worker as a file for Perfetto
machine         what a measurement was made on
"""

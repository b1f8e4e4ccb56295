"""The wire.

shortstack_pb2*  generated from proto/shortstack/v1/shortstack.proto by `make proto`
status           errors of `shared.errors` <-> gRPC statuses with google.rpc details
server           builds a grpc.aio server: interceptors, health, reflection
channel          builds a channel to a peer, and turns its failures into our errors
convert          messages <-> the values of `shared.speculation.vocabulary`, checked
probe            `python -m shared.rpc.probe TARGET`: a health check for containers
"""

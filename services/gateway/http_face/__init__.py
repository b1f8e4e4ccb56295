"""The HTTP face of the gateway: the OpenAI API over the same values as the gRPC face.

app         the endpoints, and what every request passes through
server      uvicorn within the gateway's event loop; listener: where it listens; tls: its own
edge        request ids and the largest body; door: who may call; tenant: on whose account
traced      the span of each completion
bodies      request bodies, checked; fields: what they are made of
reading     from a body to requests of the gateway; seeds: those of its choices
choices     the completions of one request, all at once, as one run of events
answers     a request answered whole, or as a stream; connection: while its client stays
heading     what answers begin with
shapes      choices as the two endpoints write them; logprobs: theirs; token_sources: where each
            token came from
usage       what was used, and what speculation did
errors      errors as OpenAI writes them
page        the web page at /; watching: what it shows of cells and sessions
models      the model list; tokens: /tokenize and /detokenize; health: alive, ready, version
"""

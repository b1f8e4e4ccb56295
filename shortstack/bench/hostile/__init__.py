"""Hostile calls to the ports of a stack: what they are answered, and what they leave behind.

attacks, stand             gRPC: the calls, from a seed, pure; sends them
http_attacks, http_stand   HTTP: the same, after the server's own OpenAPI document
remains                    what is still held afterwards
command                    `shortstack bench hostile`
"""

"""Who may call, and how that is proved.

api_key      API keys: made, hashed, recognised
key_records  what is known of each key, as lines of a file; all faults of a text at once
key_file     keys on disk: read, appended to, revoked, watched for changes
tls_files    certificate, key and CA of one end of a connection: checked, watched for changes
tls_options  the TLS settings that all services have
certificate_authority   a certificate authority for tests and for trying mTLS out

Knows nothing of calls, requests or services.
"""

"""The three services: gateway, draft worker, verify worker. None imports another."""

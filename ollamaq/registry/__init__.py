"""Registries: models sent and fetched by the protocol of Docker's and OCI's distribution, and bundles for machines
without a network.
"""

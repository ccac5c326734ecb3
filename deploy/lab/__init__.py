"""A real cluster on loopback: etcd, Patroni nodes, HAProxy and Pointsman, with clients and observers around it.

The demonstration (deploy/demo) and the end-to-end tests (tests/e2e) are written on top of it.
Python's standard library and psycopg2 only.
"""

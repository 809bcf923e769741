"""`auth_strategy = keystone` against a real Keystone from PyPI.

Run by `cargo xtask test` (suite "with-keystone"), in an environment that holds Keystone and the stock client. CINDERBLOCK_BIN is the
binary to start; with CINDERBLOCK_KEEP set, the folders of both services are kept.
"""

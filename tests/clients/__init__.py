"""Stock clients against the running service: python-cinderclient, openstacksdk, python-openstackclient.

Run by `cargo xtask test` (suite "clients"). CINDERBLOCK_BIN is the binary to start; with CINDERBLOCK_ENDPOINT set, the
service that already runs there is used instead. Data goes over iSCSI with QEMU's and libiscsi's own tools.
"""

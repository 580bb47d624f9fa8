"""Other systems' interfaces on runtree's stores: scripts written for them run with the import lines changed."""

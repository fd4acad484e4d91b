"""What tests share: a clock, transports, servers and processes they control."""

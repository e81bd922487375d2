"""Pure decisions: no clock, no network, no files. Everything here can be tested by value."""

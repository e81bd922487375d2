"""What services need from the outside, as Protocols. Adapters and the tests' fakes implement them."""

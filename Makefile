.PHONY: test
# Everything that a change must pass.
test:
	cargo test --workspace --locked

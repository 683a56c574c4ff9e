# The recipes of development and CI. `just` alone lists them; .ci/run runs the same commands.

_default:
    @just --list

# What CI runs, system peers included (installs Debian packages when they are missing).
ci:
    .ci/run

# Everything that can be checked without running.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# All tests; those with system peers skip loudly where a peer is missing.
test:
    cargo test --workspace

# One behaviour, through the real binary: `just e2e hot_change`.
e2e name:
    cargo test -p kakehi-e2e --test {{ name }} -- --nocapture

# API documentation, warnings included.
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# The wire messages, after a change to command/proto/*.proto.
regenerate:
    KAKEHI_REGENERATE=1 cargo test -p kakehi-command --test generated

# Licences, advisories and duplicates of dependencies (needs cargo-deny).
deny:
    cargo deny check

# What a request costs beside HAProxy and nginx: see doc/benchmarks.md. `just bench --scenario keepalive`.
bench *arguments:
    cargo run --release -p kakehi-bench -- {{ arguments }}

# Each fuzz target for so many seconds: see CONTRIBUTING.md.
fuzz seconds="60":
    fuzz/run {{ seconds }}

# The release binary, and the README's first command with it.
smoke:
    cargo build --release -p kakehi
    .ci/smoke target/release/kakehi
